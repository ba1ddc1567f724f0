package receiver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	headerTimeout   = 10 * time.Second
	readTimeout     = 30 * time.Second
	writeTimeout    = 90 * time.Second
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = 25 * time.Second
	maxHeaderBytes  = 64 << 10
	// maxStreams lets a sender's burst share one connection instead of opening more.
	maxStreams = 1000

	// probeFor is how long an answer of the API server to a probe is taken for true.
	probeFor     = time.Second
	probeTimeout = 3 * time.Second
)

var validName = regexp.MustCompile(`^[0-9A-Za-z]([0-9A-Za-z._-]{0,61}[0-9A-Za-z])?$`)

// ServerOptions say where a receiver listens, beside how it works.
type ServerOptions struct {
	Options
	// BindAddress is where alerts are taken, such as ':8443'. No default.
	BindAddress string
	// HealthProbeBindAddress is where /healthz and /readyz are served, over plain HTTP.
	// Empty or '0' means nowhere.
	HealthProbeBindAddress string
	// CertificateFile and PrivateKeyFile are PEM files, read again when they change. Both must be there.
	CertificateFile, PrivateKeyFile string
}

// Validate says what is wrong with the options, by the names of the flags.
func (o *ServerOptions) Validate() error {
	switch {
	case o.CertificateFile == "" || o.PrivateKeyFile == "":
		return errors.New("--tls-cert-file and --tls-private-key-file must be set: alerts are taken over HTTPS only")
	case !validName.MatchString(o.Name):
		return fmt.Errorf("--name must be at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit, is %q", o.Name)
	case o.BindAddress == "":
		return errors.New("--bind-address must be set, such as ':8443'")
	}
	return nil
}

// NewClient makes a client for a Handler: without a cache, and without discovery,
// so that a receiver starts while the API server is away.
func NewClient(config *rest.Config) (client.Client, error) {
	scheme := apiruntime.NewScheme()
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	utilruntime.Must(authenticationv1.AddToScheme(scheme))
	utilruntime.Must(authorizationv1.AddToScheme(scheme))
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(v1alpha1.SchemeGroupVersion.WithKind("SecurityEvent"), meta.RESTScopeNamespace)
	mapper.Add(authenticationv1.SchemeGroupVersion.WithKind("TokenReview"), meta.RESTScopeRoot)
	mapper.Add(authorizationv1.SchemeGroupVersion.WithKind("SubjectAccessReview"), meta.RESTScopeRoot)
	config = rest.CopyConfig(config)
	config.QPS = -1 // the API server's priority and fairness limits, not this client
	return client.New(config, client.Options{Scheme: scheme, Mapper: mapper})
}

// Serve takes alerts until the context ends, and then finishes those it has begun.
func Serve(ctx context.Context, config *rest.Config, o ServerOptions) error {
	if err := o.Validate(); err != nil {
		return err
	}
	c, err := NewClient(config)
	if err != nil {
		return fmt.Errorf("making a client for the Kubernetes API server: %w", err)
	}
	probe, err := newProbe(config)
	if err != nil {
		return fmt.Errorf("making a client for the Kubernetes API server: %w", err)
	}
	certificate, err := certwatcher.New(o.CertificateFile, o.PrivateKeyFile)
	if err != nil {
		return fmt.Errorf("reading --tls-cert-file and --tls-private-key-file: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return certificate.Start(ctx) })
	alerts := o.alertServer(NewHandler(c, o.Options), certificate.GetCertificate)
	if err := listen(ctx, group, alerts, true); err != nil {
		return fmt.Errorf("listening at --bind-address %s: %w", o.BindAddress, err)
	}
	if o.HealthProbeBindAddress != "" && o.HealthProbeBindAddress != "0" {
		if err := listen(ctx, group, o.healthServer(ctx.Done(), probe), false); err != nil {
			return fmt.Errorf("listening at --health-probe-bind-address %s: %w", o.HealthProbeBindAddress, err)
		}
	}
	o.Log.Info("taking alerts", "address", o.BindAddress, "name", o.Name, "formats", formatNames())
	return group.Wait()
}

func (o *ServerOptions) alertServer(h http.Handler, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *http.Server {
	return &http.Server{
		Addr:              o.BindAddress,
		Handler:           h,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate},
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog:          stdlog.New(connectionLog{o.Log}, "", 0),
	}
}

func (o *ServerOptions) healthServer(ending <-chan struct{}, p *probe) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-ending:
			http.Error(w, "the receiver is ending", http.StatusServiceUnavailable)
			return
		default:
		}
		if !p.answers(r.Context()) {
			http.Error(w, "the Kubernetes API server does not answer", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return &http.Server{
		Addr: o.HealthProbeBindAddress, Handler: mux, MaxHeaderBytes: maxHeaderBytes,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: headerTimeout, IdleTimeout: idleTimeout,
		ErrorLog: stdlog.New(connectionLog{o.Log}, "", 0),
	}
}

// listen serves until the context ends, and then until what was begun is done.
func listen(ctx context.Context, group *errgroup.Group, server *http.Server, secure bool) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", server.Addr)
	if err != nil {
		return err
	}
	group.Go(func() error {
		serve := server.Serve
		if secure {
			serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
		}
		if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		return server.Shutdown(ending)
	})
	return nil
}

// probe asks the API server whether it is there, at most once a second.
type probe struct {
	client *http.Client
	url    string
	asked  atomic.Pointer[probeAnswer]
}

type probeAnswer struct {
	time time.Time
	ok   bool
}

func newProbe(config *rest.Config) (*probe, error) {
	c, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, err
	}
	return &probe{client: c, url: base.JoinPath("readyz").String()}, nil
}

func (p *probe) answers(ctx context.Context) bool {
	if last := p.asked.Load(); last != nil && time.Since(last.time) < probeFor {
		return last.ok
	}
	// Others take this answer for true as well, so who asked cannot end it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
	defer cancel()
	ok := false
	if request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil); err == nil {
		if response, err := p.client.Do(request); err == nil {
			_ = response.Body.Close()
			// 401 and 403 would say that the receiver is not let in, and then it can record nothing.
			ok = response.StatusCode == http.StatusOK
		}
	}
	p.asked.Store(&probeAnswer{time: time.Now(), ok: ok})
	return ok
}

// connectionLog takes what net/http says of connections that failed, which scanners cause.
type connectionLog struct{ log logr.Logger }

func (l connectionLog) Write(line []byte) (int, error) {
	l.log.V(1).Info("a connection failed", "error", clean(strings.TrimSpace(string(line)), maxDetail))
	return len(line), nil
}
