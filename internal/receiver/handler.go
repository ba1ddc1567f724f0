package receiver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// bodyBudget is how many bytes of bodies are held at a time.
	bodyBudget = 32 << 20
	// maxParsers is how many bodies are parsed at a time, and parsersPerSender those of one sender.
	maxParsers, parsersPerSender = 2, 1

	turnTimeout = 20 * time.Second

	// listWorkers is how many events of one list are recorded at a time.
	listWorkers = 32

	// neverRetries429 is the format of senders that retry 503, but not 429.
	neverRetries429 = "alertmanager"

	alertsPath = "/v1/namespaces/{namespace}/{format}"
)

// Handler serves the paths of alerts.
type Handler struct {
	options  Options
	gate     *gatekeeper
	recorder *recorder
	arrivals *arrivals
	turns    *fair
	senders  *senders
	metrics  *metrics

	availability *availability
	writes       *writes
	spool        *spool // nil is none
	drainer      *drainer
	listener     *listener
	reports      *reports // nil is none
	sheds        *sheds
	// probe asks whether the API server is ready; nil when nobody asks.
	probe *probe

	bodies    *budget
	parsers   *fair
	delivered *deliveries
	refusals  *rate.Limiter
	mux       *http.ServeMux
}

var _ http.Handler = (*Handler)(nil)

// Result is what became of one alert.
type Result struct {
	// Pointer is where in the body it stands, as a JSON Pointer in a URI fragment. Empty
	// when the body is this alert.
	Pointer string `json:"pointer,omitempty"`
	// Status is the HTTP status code for this alert: 201 when it is a new event, 200 when
	// it repeats one, 202 when it is on disk until the API server takes it.
	Status int `json:"status,omitempty"`
	// Namespace of the event.
	Namespace string `json:"namespace,omitempty"`
	// Name of the event. Empty when the alert was not recorded, or not yet.
	Name string `json:"name,omitempty"`
	// Occurrences is how often the event was seen, when that is known.
	Occurrences int64 `json:"occurrences,omitempty"`
	// Detail says why the alert was not recorded, or not yet.
	Detail string `json:"detail,omitempty"`
}

// NewHandler makes a Handler that asks and records with a client, which must not
// read from a cache. Run must run beside it, and Close follow.
func NewHandler(c client.WithWatch, o Options) (*Handler, error) {
	o.setDefaults()
	h := &Handler{
		options:      o,
		availability: &availability{},
		arrivals:     newArrivals(o.MaxInFlight + o.MaxWaiting),
		turns:        newFair(o.MaxInFlight, o.MaxInFlight/4*3, o.MaxWaiting, max(1, o.MaxWaiting/4*3)),
		senders:      newSenders(&o),
		bodies:       newBudget(bodyBudget, o.MaxBodyBytes),
		parsers:      newFair(maxParsers, parsersPerSender, 0, 0),
		delivered:    newDeliveries(o.Clock),
		refusals:     rate.NewLimiter(10, 100),
		mux:          http.NewServeMux(),
	}
	h.gate = newGatekeeper(c, o.AllowUnscopedToken, o.Clock, h.availability, h.arrivals.most/4*3)
	h.listener = newListener(c, &h.options, h.availability)
	store := newClusterStore(c, &o, h.availability)
	h.writes = store.writes
	h.recorder = newRecorder(store, o.Name, o.Clock, o.Log)
	if err := h.open(); err != nil {
		return nil, err
	}
	h.metrics = newMetrics(h)
	h.sheds = newSheds(&o, h.recorder.record)
	if len(o.Formats.reports) > 0 {
		h.reports = newReports(c, store, h)
	}
	h.mux.HandleFunc(alertsPath, h.serveAlerts)
	h.mux.HandleFunc(alertsPath+"/{mapping}", h.serveAlerts)
	h.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		h.refuse(w, r, "", newProblem(http.StatusNotFound, "no-such-path", "There is nothing at this path",
			"The path must be /v1/namespaces/NAMESPACE/FORMAT, with a format of "+strings.Join(o.Formats.names(), ", ")+"."))
	})
	return h, nil
}

// open reads what the options name: the spool, and who signs certificates of senders.
func (h *Handler) open() error {
	o := &h.options
	if o.ClientCAFile != "" {
		authorities, err := newAuthorities(o.ClientCAFile, o.Clock, o.Log)
		if err != nil {
			return fmt.Errorf("reading --client-ca-file: %w", err)
		}
		h.gate.authorities = authorities
	}
	if o.SpoolFolder == "" {
		return nil
	}
	spool, setAside, err := openSpool(o.SpoolFolder, o.SpoolMaxBytes, o.Clock)
	if err != nil {
		return fmt.Errorf("opening the spool in --spool-dir: %w", err)
	}
	if setAside != "" {
		o.Log.Error(nil, "the spool could not be read and was set aside; alerts in it are not recorded", "file", setAside)
	}
	allows, err := newAllows(spool, o.StaleAuth, o.Log)
	if err != nil {
		return errors.Join(fmt.Errorf("reading the spool in --spool-dir: %w", err), spool.close())
	}
	h.spool, h.gate.allows = spool, allows
	h.recorder.spool, h.recorder.availability, h.recorder.patience = spool, h.availability, o.directPatience
	h.drainer = newDrainer(h.recorder)
	return nil
}

// Run takes alerts from the spool to the API server, reads policy reports, and writes down
// which sources were heard and what was not taken, until the context ends.
func (h *Handler) Run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { h.listener.run(ctx) })
	running.Go(func() { h.sheds.run(ctx) })
	if h.drainer != nil {
		running.Go(func() { h.drainer.run(ctx) })
	}
	if h.reports != nil {
		running.Go(func() { h.reports.run(ctx) })
	}
	running.Wait()
}

// Drained says whether the spool holds nothing, or the API server is away.
func (h *Handler) Drained() bool {
	return h.spool == nil || h.spool.index.state().items == 0 || h.availability.away.Load()
}

// Close lets go of the spool.
func (h *Handler) Close() error {
	if h.spool == nil {
		return nil
	}
	return h.spool.close()
}

// takes says whether the receiver can take alerts though the API server does not answer.
func (h *Handler) takes() bool {
	return h.spool != nil && !h.spool.index.state().full
}

// ServeHTTP serves one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if trouble := recover(); trouble != nil {
			if trouble == http.ErrAbortHandler { //nolint:errorlint // recovered as it was thrown
				panic(trouble)
			}
			h.options.Log.Error(nil, "a request made the receiver panic", "panic", trouble)
			newProblem(http.StatusInternalServerError, "internal", "The receiver failed", "The receiver failed on this request; its log says more.").write(w)
		}
	}()
	h.mux.ServeHTTP(w, cleaned(r))
}

// cleaned is a request by the path that was meant, where a sender's base URL and path were put
// together with a slash too many: the mux would redirect, and most senders do not follow.
func cleaned(r *http.Request) *http.Request {
	meant := path.Clean("/" + r.URL.Path)
	if meant == r.URL.Path || r.Method == http.MethodConnect {
		return r
	}
	clone, address := *r, *r.URL
	address.Path, address.RawPath = meant, ""
	clone.URL = &address
	return &clone
}

func (h *Handler) serveAlerts(w http.ResponseWriter, r *http.Request) {
	sender, done, err := h.receive(w, r)
	if err != nil {
		h.shed(r, sender, asProblem(err))
		h.refuse(w, r, sender, asProblem(err))
		return
	}
	if problem := done.problem(); problem != nil {
		h.refuse(w, r, sender, problem)
		return
	}
	h.metrics.answered(done.write(w))
}

// shed counts what is to be sent again later, and has its domain told.
func (h *Handler) shed(r *http.Request, sender string, p *Problem) {
	if p.retryAfter == 0 {
		return
	}
	namespace, format := r.PathValue("namespace"), r.PathValue("format")
	if _, err := h.options.Formats.route(r, namespace); err == nil {
		h.metrics.shed(format, p)
		h.sheds.add(shedKey{namespace, sender}, format, p.slug(), max(1, p.alerts))
	}
}

// receive takes one request as far as its alerts are recorded or refused.
func (h *Handler) receive(w http.ResponseWriter, r *http.Request) (sender string, done *reply, err error) {
	namespace := r.PathValue("namespace")
	wire, err := h.options.Formats.route(r, namespace)
	if err != nil {
		return "", nil, err
	}
	shown, err := credentialOf(r)
	if err != nil {
		return "", nil, err
	}
	if sender, err = h.arrive(r.Context(), shown, namespace); err != nil {
		return sender, nil, err
	}
	defer h.arrivals.leave(sender)
	h.sheds.admitted(namespace)
	if wait := h.senders.charge(sender, 1); wait > 0 {
		return sender, nil, tooFast(wait, 1, &h.options)
	}
	// Before its turn: in HTTP/2 bodies that wait keep those from arriving whose turn it is.
	body, release, err := h.read(w, r, sender)
	if err != nil {
		return sender, nil, err
	}
	defer release()
	// One sender's flood must not keep another waiting.
	if err := h.turns.enter(r.Context(), sender, turnTimeout); err != nil {
		return sender, nil, overloaded()
	}
	defer h.turns.leave(sender)
	what, err := h.parse(r.Context(), wire, report{body: body, header: r.Header, namespace: namespace, sender: sender, receivedTime: h.options.Clock.Now()})
	if err != nil {
		return sender, nil, err
	}
	// Its first alert is paid for. More than what that leaves of a full burst nobody can ever pay.
	if wait := h.senders.charge(sender, min(len(what.alerts), h.options.SenderBurst)-1); wait > 0 {
		return sender, nil, tooFast(wait, len(what.alerts), &h.options)
	}
	done = h.record(namespace, what) //nolint:contextcheck // an alert counts, even when its sender hangs up
	h.listener.heard(namespace, sender, &what)
	for i := range done.outcomes {
		h.metrics.recorded(r.PathValue("format"), &done.outcomes[i], &what.alerts[i])
		if err := done.outcomes[i].err; err != nil {
			if p := refusal(err, &what.alerts[i]); p.retryAfter > 0 {
				h.sheds.add(shedKey{namespace, sender}, r.PathValue("format"), p.slug(), 1)
			}
		}
	}
	return sender, done, nil
}

func (f *Formats) route(r *http.Request, namespace string) (format, error) {
	if r.Method != http.MethodPost && r.Method != http.MethodPut {
		return nil, problemf(http.StatusMethodNotAllowed, "method-not-allowed", "The method is not allowed",
			"The method must be POST or PUT, is %s.", r.Method)
	}
	if !isNamespace(namespace) {
		return nil, problemf(http.StatusBadRequest, "invalid-namespace", "The namespace is not valid",
			"The namespace in the path must be a DNS label (lower-case letters, digits and '-', at most 63), is '%s'.", clean(namespace, 64))
	}
	name := r.PathValue("format")
	if mapping := r.PathValue("mapping"); mapping != "" {
		name += "/" + mapping
	}
	wire, known := f.byName[name]
	if !known {
		p := problemf(http.StatusNotFound, "no-such-format", "There is no such format",
			"The format in the path must be one of %s, is '%s'.", strings.Join(f.names(), ", "), clean(name, 128))
		p.Formats = f.names()
		return nil, p
	}
	return wire, nil
}

// parse understands the body. A parser needs many times the body's memory for a
// moment, so there are few of them.
func (h *Handler) parse(ctx context.Context, wire format, what report) (parsed, error) {
	if problem := what.readable(); problem != nil {
		return parsed{}, problem
	}
	if problem := checkShapeFor(wire, what.body); problem != nil {
		return parsed{}, problem
	}
	if h.parsers.enter(ctx, what.sender, turnTimeout) != nil {
		return parsed{}, overloaded()
	}
	defer h.parsers.leave(what.sender)
	return wire.parse(what)
}

func (h *Handler) record(namespace string, what parsed) *reply {
	a := &reply{namespace: namespace, what: what, outcomes: make([]outcome, len(what.alerts))}
	if len(what.alerts) == 1 {
		a.outcomes[0] = h.recordOne(namespace, &what.alerts[0])
		return a
	}
	var workers sync.WaitGroup
	slots := make(chan struct{}, listWorkers)
	for i := range what.alerts {
		slots <- struct{}{}
		workers.Go(func() {
			defer func() { <-slots }()
			a.outcomes[i] = h.recordOne(namespace, &what.alerts[i])
		})
	}
	workers.Wait()
	return a
}

// recordOne records an alert, unless there is none in its item.
func (h *Handler) recordOne(namespace string, a *alert) outcome {
	if a.problem != nil {
		return outcome{err: a.problem}
	}
	if a.delivery == "" {
		return h.recorder.record(namespace, a)
	}
	return h.delivered.once(a.deliveryKey(namespace), func() outcome { return h.recorder.record(namespace, a) })
}

// refuse answers with a problem and tells the log, as far as there is no flood.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, sender string, p *Problem) {
	if p.Status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", "POST, PUT")
	}
	if p.Status == http.StatusTooManyRequests && r.PathValue("format") == neverRetries429 {
		p.Status = http.StatusServiceUnavailable
	}
	p.write(w)
	h.metrics.answered(p.Status)
	if h.refusals.Allow() {
		h.options.Log.Info("refused a request", "status", p.Status, "problem", p.slug(), "detail", p.Detail,
			"method", r.Method, "path", clean(r.URL.Path, 256), "sender", clean(sender, maxName), "from", r.RemoteAddr)
	}
}

// reply is what became of the alerts of one request.
type reply struct {
	namespace string
	what      parsed
	outcomes  []outcome
}

// problem is the answer when an alert was not recorded: that of the first such, and
// rather that of one which may be sent again.
func (a *reply) problem() *Problem {
	var p *Problem
	for i := range a.outcomes {
		if a.outcomes[i].err == nil {
			continue
		}
		this := refusal(a.outcomes[i].err, &a.what.alerts[i])
		if p == nil || this.retryAfter > 0 && p.retryAfter == 0 {
			p = this
		}
	}
	if p != nil && a.what.list {
		whole := *p // an item's own, which the results repeat
		whole.Results, whole.Skipped = a.results(), a.what.skipped
		return &whole
	}
	return p
}

func (a *reply) results() []Result {
	results := make([]Result, len(a.outcomes))
	for i, o := range a.outcomes {
		result := Result{Pointer: a.what.pointerOf(i), Namespace: a.namespace, Name: o.name, Occurrences: o.occurrences, Status: http.StatusOK}
		switch {
		case o.err != nil:
			p := refusal(o.err, &a.what.alerts[i])
			result.Status, result.Detail = p.Status, p.Detail
		case o.spooled:
			result.Status, result.Detail = http.StatusAccepted, spooledDetail
		case o.created:
			result.Status = http.StatusCreated
		}
		results[i] = result
	}
	return results
}

// write answers, and returns the status.
func (a *reply) write(w http.ResponseWriter) int {
	results := a.results()
	if !a.what.list {
		status := results[0].Status
		results[0].Status = 0
		writeJSON(w, status, "application/json", results[0])
		return status
	}
	status := http.StatusOK
	switch {
	case slices.ContainsFunc(a.outcomes, func(o outcome) bool { return o.created }):
		status = http.StatusCreated
	case slices.ContainsFunc(a.outcomes, func(o outcome) bool { return o.spooled }):
		status = http.StatusAccepted
	}
	writeJSON(w, status, "application/json", struct {
		Results []Result  `json:"results"`
		Skipped []Skipped `json:"skipped,omitempty"`
	}{results, a.what.skipped})
	return status
}
