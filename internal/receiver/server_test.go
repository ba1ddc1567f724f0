package receiver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	certutil "k8s.io/client-go/util/cert"
)

func readBody(t *testing.T, format, name string) string {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", format, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func rbacBinding(namespace, account, role string) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: account}},
	}
}

// clusterBinding lets an account report to any namespace, with the receiver's role.
func clusterBinding(namespace, account string) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: namespace + "-" + account},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: namespace},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: account}},
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// certificate writes a self-signed certificate and returns who trusts it.
func (o *ServerOptions) certificate(t *testing.T) *http.Client {
	t.Helper()
	certificate, key, err := certutil.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string][]byte{o.CertificateFile: certificate, o.PrivateKeyFile: key} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(certificate)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}, DisableKeepAlives: true, ExpectContinueTimeout: time.Minute}
	return &http.Client{Transport: transport}
}

func TestServe(t *testing.T) {
	s := newSite(t)
	folder := t.TempDir()
	options := ServerOptions{
		Options: Options{Name: "r0"}, BindAddress: freeAddress(t), HealthProbeBindAddress: freeAddress(t),
		CertificateFile: filepath.Join(folder, "tls.crt"), PrivateKeyFile: filepath.Join(folder, "tls.key"),
	}
	s.url, s.http = "https://"+options.BindAddress, options.certificate(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, s.config, options) }()
	s.eventually("the receiver is ready", func() bool { return probeStatus(options.HealthProbeBindAddress, "readyz") == http.StatusOK })
	if got := probeStatus(options.HealthProbeBindAddress, "healthz"); got != http.StatusOK {
		t.Errorf("healthz answers %d, want 200", got)
	}
	s.post("falco", falcoBody(t)).want(t, http.StatusCreated)
	if response, err := http.Get("http://" + options.BindAddress + "/"); err == nil && response.StatusCode < 400 {
		t.Errorf("plain HTTP answers %d, want a refusal", response.StatusCode)
	}

	s.http = options.certificate(t)
	s.eventually("the new certificate is served", func() bool {
		_, err := s.send(http.MethodPost, "/v1/namespaces/"+s.namespace+"/falco", s.token, strings.NewReader(falcoBody(t)))
		return err == nil
	})

	// A request that has arrived is still answered when the end comes.
	before := s.onlyEvent().Status.Counters[0].Count
	body := &signalling{text: strings.NewReader(falcoBody(t)), arrived: make(chan struct{})}
	answered := make(chan received, 1)
	go func() {
		r, err := s.send(http.MethodPost, "/v1/namespaces/"+s.namespace+"/falco", s.token, body)
		if err != nil {
			t.Error(err)
		}
		answered <- r
	}()
	select {
	case <-body.arrived:
	case r := <-answered:
		t.Fatalf("answered before its body was read: %+v", r)
	}
	stop()
	(<-answered).want(t, http.StatusOK)
	if err := <-ended; err != nil {
		t.Errorf("Serve ended with %v, want nil", err)
	}
	if got := s.onlyEvent().Status.Counters[0].Count; got != before+1 {
		t.Errorf("counter is %d, want %d", got, before+1)
	}
}

// TestAlertsAreTakenUntilOthersKnow: for a while after the signal a receiver takes alerts and
// is not ready.
func TestAlertsAreTakenUntilOthersKnow(t *testing.T) {
	folder := t.TempDir()
	options := ServerOptions{
		Options: Options{Name: "r0"}, BindAddress: freeAddress(t), HealthProbeBindAddress: freeAddress(t), ShutdownDelay: maxShutdownDelay,
		CertificateFile: filepath.Join(folder, "tls.crt"), PrivateKeyFile: filepath.Join(folder, "tls.key"),
	}
	s := &site{t: t, url: "https://" + options.BindAddress, http: options.certificate(t)}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, &rest.Config{Host: "https://127.0.0.1:1"}, options) }()
	s.eventually("the receiver is healthy", func() bool { return probeStatus(options.HealthProbeBindAddress, "healthz") == http.StatusOK })
	stop()
	s.eventually("the receiver says that it ends", func() bool {
		response, err := http.Get("http://" + options.HealthProbeBindAddress + "/readyz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		return err == nil && response.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(text), "is ending")
	})
	r, err := s.send(http.MethodPost, "/v1/namespaces/security/falco", "", strings.NewReader("{}"))
	if err != nil || r.status != http.StatusUnauthorized {
		t.Errorf("after the signal: status %d, error %v, want an answer", r.status, err)
	}
	select {
	case err := <-ended:
		t.Errorf("the receiver has ended with %v while others may not know yet", err)
	default:
	}
}

func TestNotReadyWithoutAPIServer(t *testing.T) {
	folder := t.TempDir()
	options := ServerOptions{
		Options: Options{Name: "r0"}, BindAddress: freeAddress(t), HealthProbeBindAddress: freeAddress(t),
		CertificateFile: filepath.Join(folder, "tls.crt"), PrivateKeyFile: filepath.Join(folder, "tls.key"),
	}
	options.certificate(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, &rest.Config{Host: "https://127.0.0.1:1"}, options) }()
	s := &site{t: t}
	s.eventually("the receiver is healthy", func() bool { return probeStatus(options.HealthProbeBindAddress, "healthz") == http.StatusOK })
	if got := probeStatus(options.HealthProbeBindAddress, "readyz"); got != http.StatusServiceUnavailable {
		t.Errorf("readyz answers %d, want 503", got)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Serve ended with %v, want nil", err)
	}
}

func TestServerOptions(t *testing.T) {
	valid := ServerOptions{Options: Options{Name: "receiver-0"}, BindAddress: ":8443", CertificateFile: "a", PrivateKeyFile: "b"}
	for name, test := range map[string]struct {
		change func(*ServerOptions)
		says   string
	}{
		"valid":          {func(*ServerOptions) {}, ""},
		"no certificate": {func(o *ServerOptions) { o.CertificateFile = "" }, "--tls-cert-file"},
		"no key":         {func(o *ServerOptions) { o.PrivateKeyFile = "" }, "--tls-private-key-file"},
		"no name":        {func(o *ServerOptions) { o.Name = "" }, "--name must be"},
		"long name":      {func(o *ServerOptions) { o.Name = strings.Repeat("x", 64) }, "at most 63"},
		"no delay":       {func(o *ServerOptions) { o.ShutdownDelay = -time.Second }, "--shutdown-delay"},
		"long delay":     {func(o *ServerOptions) { o.ShutdownDelay = time.Hour }, "--shutdown-delay"},
		"no address":     {func(o *ServerOptions) { o.BindAddress = "" }, "--bind-address"},
	} {
		options := valid
		test.change(&options)
		err := options.Validate()
		if test.says == "" && err == nil {
			continue
		}
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: error %v, want one that says %q", name, err, test.says)
		}
	}
}

// signalling is a body that says when the server, having been asked by 'Expect:
// 100-continue', wants it.
type signalling struct {
	text    *strings.Reader
	once    sync.Once
	arrived chan struct{}
}

func (s *signalling) Read(p []byte) (int, error) {
	s.once.Do(func() { close(s.arrived) })
	return s.text.Read(p)
}

// probeStatus is the status of a probe, 0 when nothing answers.
func probeStatus(address, probe string) int {
	response, err := http.Get("http://" + address + "/" + probe)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}
