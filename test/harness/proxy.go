package harness

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Trouble is what a Proxy makes of a request. The zero value lets it through.
type Trouble struct {
	// Delay is how long the request is kept before anything else happens. Of a watch it is
	// how long the watch lasts, when it is to be cut.
	Delay time.Duration
	// Reaches says that the API server is asked, and its answer thrown away.
	Reaches bool
	// Code is the answer in place of the API server's: 409, 429, 500, 503 or 504. 0 means none.
	Code int
	// Cut says that there is no answer: the connection, with all that goes on on it, ends.
	Cut bool
}

// Request is a write that went through a Proxy to the API server.
type Request struct {
	// Time is when it was answered.
	Time time.Time
	// Method and Path say what was asked for.
	Method, Path string
	// User is who was impersonated; empty when nobody was.
	User string
	// Code is what the API server answered.
	Code int
}

func (r Request) String() string {
	return fmt.Sprintf("%s %s %s as %q: %d", r.Time.Format("15:04:05.000"), r.Method, r.Path, r.User, r.Code)
}

// Proxy stands between one client and the API server. It ends the TLS connections with a
// certificate of its own, and passes tokens, impersonation and watches on.
type Proxy struct {
	cluster *Cluster
	address string
	ca      []byte
	pass    *httputil.ReverseProxy

	mu      sync.Mutex
	trouble func(*http.Request) Trouble
	writes  []Request
}

type connectionKey struct{}

// NewProxy starts a proxy that makes no trouble. It ends with the test.
func (c *Cluster) NewProxy(t testing.TB) *Proxy {
	t.Helper()
	transport, err := rest.TransportFor(&rest.Config{Host: c.Config.Host, TLSClientConfig: rest.TLSClientConfig{CAData: c.Config.CAData}})
	if err != nil {
		t.Fatalf("the proxy's way to the API server: %v", err)
	}
	certificate, key, _ := servingCertificate(t)
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{cluster: c, address: FreeAddress(t)}
	if p.ca, err = os.ReadFile(certificate); err != nil {
		t.Fatal(err)
	}
	target := &url.URL{Scheme: "https", Host: hostOf(c.Config)}
	silent := log.New(io.Discard, "", 0)
	p.pass = &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     transport,
		FlushInterval: -1, // a watch is passed on as it comes
		ErrorLog:      silent,
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		Handler: p, ErrorLog: silent, ReadHeaderTimeout: time.Minute,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
		ConnContext: func(ctx context.Context, connection net.Conn) context.Context {
			return context.WithValue(ctx, connectionKey{}, connection)
		},
	}
	go func() { _ = server.ServeTLS(listener, "", "") }() // ends with Close
	t.Cleanup(func() { _ = server.Close() })
	return p
}

// Kubeconfig writes a kubeconfig that holds the token of a ServiceAccount and goes through
// the proxy, and gives its path.
func (p *Proxy) Kubeconfig(t testing.TB, namespace, name string) string {
	t.Helper()
	user := &clientcmdapi.AuthInfo{Token: p.cluster.Token(t, namespace, name)}
	return writeKubeconfig(t, name, &clientcmdapi.Cluster{Server: "https://" + p.address, CertificateAuthorityData: p.ca}, user)
}

// ManagerFlag is the flag by which StartManager goes through the proxy.
func (p *Proxy) ManagerFlag(t testing.TB) string {
	t.Helper()
	return "--kubeconfig=" + p.Kubeconfig(t, managerKey.Namespace, managerKey.Name)
}

// Make has a function choose the trouble of each request from now on; nil means none. It
// is asked for one request at a time.
func (p *Proxy) Make(trouble func(*http.Request) Trouble) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trouble = trouble
}

// Writes gives the writes that the API server has done for the client so far, without
// those that were only tried (dry runs) and those that only ask (access reviews).
func (p *Proxy) Writes() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Request(nil), p.writes...)
}

// IsWatch says whether a request is a watch.
func IsWatch(r *http.Request) bool {
	watched := r.URL.Query().Get("watch")
	return watched == "true" || watched == "1"
}

// IsWrite says whether a request would change something.
func IsWrite(r *http.Request) bool {
	return r.Method != http.MethodGet && r.Method != http.MethodHead &&
		r.URL.Query().Get("dryRun") == "" && !strings.HasSuffix(r.URL.Path, "reviews")
}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	trouble := p.choose(r)
	if IsWatch(r) {
		p.watch(w, r, trouble)
		return
	}
	if trouble.Delay > 0 && !pause(r.Context(), trouble.Delay) {
		panic(http.ErrAbortHandler)
	}
	switch {
	case trouble.Code == 0 && !trouble.Cut:
		p.forward(w, r)
		return
	case trouble.Reaches:
		p.forward(&unheard{header: http.Header{}}, r)
	}
	if trouble.Cut {
		cut(r)
	}
	answer(w, trouble.Code)
}

func (p *Proxy) choose(r *http.Request) Trouble {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.trouble == nil {
		return Trouble{}
	}
	return p.trouble(r)
}

// watch passes a watch on, and cuts it off when its time is up.
func (p *Proxy) watch(w http.ResponseWriter, r *http.Request, trouble Trouble) {
	switch {
	case trouble.Code != 0:
		answer(w, trouble.Code)
		return
	case trouble.Cut:
		ctx, cancel := context.WithTimeout(r.Context(), trouble.Delay)
		defer cancel()
		r = r.WithContext(ctx)
		defer cut(r)
	}
	p.pass.ServeHTTP(w, r)
}

// forward passes a request on, and notes what was written by it.
func (p *Proxy) forward(w http.ResponseWriter, r *http.Request) {
	noted := &codeWriter{ResponseWriter: w}
	// Deferred: whoever asked may go away before all of the answer was passed on.
	defer p.note(r, noted)
	p.pass.ServeHTTP(noted, r)
}

func (p *Proxy) note(r *http.Request, answered *codeWriter) {
	if !IsWrite(r) || answered.code == 0 || answered.code >= http.StatusBadRequest {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writes = append(p.writes, Request{Time: time.Now(), Method: r.Method, Path: r.URL.Path, User: r.Header.Get("Impersonate-User"), Code: answered.code})
}

// codeWriter keeps the code of an answer.
type codeWriter struct {
	http.ResponseWriter
	code int
}

func (c *codeWriter) WriteHeader(code int) {
	if code >= http.StatusOK {
		c.code = code
	}
	c.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController flush.
func (c *codeWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// unheard takes an answer that nobody hears.
type unheard struct{ header http.Header }

func (u *unheard) Header() http.Header            { return u.header }
func (u *unheard) Write(body []byte) (int, error) { return len(body), nil }
func (u *unheard) WriteHeader(int)                {}
func (u *unheard) Flush()                         {}

// cut ends the connection of a request at once.
func cut(r *http.Request) {
	if connection, ok := r.Context().Value(connectionKey{}).(net.Conn); ok {
		_ = connection.Close()
	}
	panic(http.ErrAbortHandler)
}

func pause(ctx context.Context, long time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(long):
		return true
	}
}

var reasons = map[int]metav1.StatusReason{
	http.StatusConflict:            metav1.StatusReasonConflict,
	http.StatusTooManyRequests:     metav1.StatusReasonTooManyRequests,
	http.StatusInternalServerError: metav1.StatusReasonInternalError,
	http.StatusServiceUnavailable:  metav1.StatusReasonServiceUnavailable,
	http.StatusGatewayTimeout:      metav1.StatusReasonTimeout,
}

// answer answers as the API server does when it cannot do what it was asked for.
func answer(w http.ResponseWriter, code int) {
	status := metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure,
		Code: int32(code), Reason: reasons[code], Message: "made up by a test",
	}
	body, err := json.Marshal(status)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	if code == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(code)
	_, _ = w.Write(body) // whoever asked may have gone
}
