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
	writeTimeout    = 2 * time.Minute
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = 25 * time.Second
	// maxShutdownDelay is how long alerts are taken, before that, at most.
	maxShutdownDelay = time.Minute
	// drainTimeout is how long, after that, the spool drains.
	drainTimeout = 10 * time.Second
	drainLook    = 100 * time.Millisecond
	// farewellTimeout is how long, after that, what is being written is waited for.
	farewellTimeout = 3 * time.Second
	maxHeaderBytes  = 16 << 10
	// maxStreams lets a sender's burst share one connection instead of opening more.
	maxStreams = 1000
	// connectionBuffer and streamBuffer are how much of HTTP/2 is taken in before it is read.
	connectionBuffer, streamBuffer = 64 << 10, 64 << 10

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
	// MetricsBindAddress is where /metrics is served, over plain HTTP, because the API server
	// may be away, who would say who may read them. Empty or '0' means nowhere.
	MetricsBindAddress string
	// CertificateFile and PrivateKeyFile are PEM files, read again when they change. Both must be there.
	CertificateFile, PrivateKeyFile string
	// ShutdownDelay is how long alerts are still taken after the context has ended, while
	// /readyz says no: who sends to a replica hears of its end only after a while. Default 0.
	ShutdownDelay time.Duration
}

// Validate says what is wrong with the options, by the names of the flags.
func (o *ServerOptions) Validate() error {
	switch {
	case o.CertificateFile == "" || o.PrivateKeyFile == "":
		return errors.New("--tls-cert-file and --tls-private-key-file must be set: alerts are taken over HTTPS only")
	case o.BindAddress == "":
		return errors.New("--bind-address must be set, such as ':8443'")
	case o.ShutdownDelay < 0 || o.ShutdownDelay > maxShutdownDelay:
		return fmt.Errorf("--shutdown-delay must be a duration of at most %s, such as '5s', or 0, is %s", maxShutdownDelay, o.ShutdownDelay)
	}
	return o.Options.Validate()
}

// NewClient makes a client for a Handler: without a cache, and without discovery,
// so that a receiver starts while the API server is away.
func NewClient(config *rest.Config) (client.WithWatch, error) {
	scheme := apiruntime.NewScheme()
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	utilruntime.Must(authenticationv1.AddToScheme(scheme))
	utilruntime.Must(authorizationv1.AddToScheme(scheme))
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(v1alpha1.SchemeGroupVersion.WithKind("SecurityEvent"), meta.RESTScopeNamespace)
	mapper.Add(v1alpha1.SchemeGroupVersion.WithKind("ResponsePlan"), meta.RESTScopeNamespace)
	mapper.Add(authenticationv1.SchemeGroupVersion.WithKind("TokenReview"), meta.RESTScopeRoot)
	mapper.Add(authorizationv1.SchemeGroupVersion.WithKind("SubjectAccessReview"), meta.RESTScopeRoot)
	for _, kind := range reportKinds {
		mapper.Add(kind.GroupVersionKind, kind.scope)
	}
	config = rest.CopyConfig(config)
	config.QPS = -1 // the API server's priority and fairness limits, not this client
	return client.NewWithWatch(config, client.Options{Scheme: scheme, Mapper: mapper})
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
	handler, err := NewHandler(c, o.Options) //nolint:contextcheck // Prometheus asks for metrics without a context
	if err != nil {
		return err
	}
	handler.probe = probe
	draining, stop := context.WithCancel(context.WithoutCancel(ctx))
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		handler.Run(draining)
	}()
	served := o.serve(ctx, handler, probe, certificate)
	handler.finish(drained, stop)
	return errors.Join(served, handler.Close())
}

// serve serves until the context ends, and then what it has begun.
func (o *ServerOptions) serve(ctx context.Context, handler *Handler, probe *probe, certificate *certwatcher.CertWatcher) error {
	signal := ctx
	group, ctx := errgroup.WithContext(ctx)
	closing, shut := context.WithCancel(context.WithoutCancel(ctx))
	defer shut()
	group.Go(func() error {
		defer shut()
		<-ctx.Done()
		if signal.Err() != nil {
			<-time.After(o.ShutdownDelay)
		}
		return nil
	})
	group.Go(func() error { return certificate.Start(closing) })
	alerts := o.alertServer(farewell(ctx.Done(), handler), certificate.GetCertificate)
	if err := o.listen(closing, group, alerts, true); err != nil {
		return fmt.Errorf("listening at --bind-address %s: %w", o.BindAddress, err)
	}
	for _, plain := range []struct {
		flag, address string
		handler       http.Handler
	}{
		{"--health-probe-bind-address", o.HealthProbeBindAddress, o.health(ctx.Done(), handler, probe)},
		{"--metrics-bind-address", o.MetricsBindAddress, metricsMux(handler)},
	} {
		if plain.address == "" || plain.address == "0" {
			continue
		}
		if err := o.listen(closing, group, o.plainServer(plain.address, plain.handler), false); err != nil {
			return fmt.Errorf("listening at %s %s: %w", plain.flag, plain.address, err)
		}
	}
	o.Log.Info("taking alerts", "address", o.BindAddress, "name", o.Name, "formats", handler.options.Formats.names(), "spool", o.SpoolFolder)
	return group.Wait()
}

// farewell has senders open their next connection, to another replica, once this one ends.
func farewell(ending <-chan struct{}, handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-ending:
			w.Header().Set("Connection", "close") // in HTTP/2 it becomes a GOAWAY
		default:
		}
		handler.ServeHTTP(w, r)
	})
}

// finish lets the spool drain for a while, and then ends that, and has domains told what they have
// not been told yet.
func (h *Handler) finish(drained <-chan struct{}, stop context.CancelFunc) {
	deadline := time.NewTimer(drainTimeout)
	defer deadline.Stop()
	look := time.NewTicker(drainLook)
	defer look.Stop()
	for waiting := true; waiting && !h.Drained(); {
		select {
		case <-look.C:
		case <-deadline.C:
			waiting = false
		}
	}
	stop()
	select {
	case <-drained:
	case <-time.After(farewellTimeout):
	}
	h.sheds.giveUp()
}

func (o *ServerOptions) alertServer(h http.Handler, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *http.Server {
	return &http.Server{
		Addr:              o.BindAddress,
		Handler:           h,
		TLSConfig:         o.tlsConfig(certificate),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2:             http2Config(),
		ErrorLog:          stdlog.New(connectionLog{o.Log}, "", 0),
	}
}

func http2Config() *http.HTTP2Config {
	return &http.HTTP2Config{MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerConnection: connectionBuffer, MaxReceiveBufferPerStream: streamBuffer}
}

func (o *ServerOptions) tlsConfig(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate}
	if o.ClientCAFile != "" {
		// Asked for only: the gatekeeper verifies it, at every request's time, and says what is wrong.
		config.ClientAuth = tls.RequestClientCert
	}
	return config
}

func metricsMux(h *Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", h.Metrics())
	return mux
}

func (o *ServerOptions) health(ending <-chan struct{}, h *Handler, p *probe) http.Handler {
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
		if trouble := h.trouble(r.Context(), p); trouble != "" {
			http.Error(w, trouble, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

// trouble is why the receiver can take no alerts now; empty when it can.
func (h *Handler) trouble(ctx context.Context, p *probe) (trouble string) {
	switch {
	case h.takes():
		return ""
	case !p.answers(ctx):
		trouble = "the Kubernetes API server does not answer"
	case h.writes.refusesAll():
		trouble = "the Kubernetes API server refuses all alerts; the receiver's log says why"
	default:
		return ""
	}
	if h.spool != nil {
		trouble += ", and the spool is full"
	}
	return trouble
}

func (o *ServerOptions) plainServer(address string, handler http.Handler) *http.Server {
	return &http.Server{
		Addr: address, Handler: handler, MaxHeaderBytes: maxHeaderBytes,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: headerTimeout, IdleTimeout: idleTimeout,
		ErrorLog: stdlog.New(connectionLog{o.Log}, "", 0),
	}
}

// listen serves until the context ends, and then until what was begun is done.
func (o *ServerOptions) listen(ctx context.Context, group *errgroup.Group, server *http.Server, secure bool) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", server.Addr)
	if err != nil {
		return err
	}
	if secure {
		listener = limited(listener, maxConnections, connectionsPerAddress, o.Log)
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
		if err := server.Shutdown(ending); !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		o.Log.Info("closing connections whose requests are not done", "address", server.Addr, "waited", shutdownTimeout)
		return server.Close()
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

// isAway says whether the API server is away. Where nobody reports anything only a probe tells; that
// it was, a spool finds out by itself, and without one nothing but the next alert would.
func (h *Handler) isAway() bool {
	if h.probe == nil {
		return h.availability.away.Load()
	}
	return !h.probe.answers(context.Background()) || h.spool != nil && h.availability.away.Load()
}

// connectionLog takes what net/http says of connections that failed, which scanners cause.
type connectionLog struct{ log logr.Logger }

func (l connectionLog) Write(line []byte) (int, error) {
	l.log.V(1).Info("a connection failed", "error", clean(strings.TrimSpace(string(line)), maxDetail))
	return len(line), nil
}
