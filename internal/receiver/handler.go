package receiver

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// DefaultMaxBodyBytes is how large a body may be.
	DefaultMaxBodyBytes = 1 << 20
	// DefaultMaxInFlight is how many requests are worked on at a time.
	DefaultMaxInFlight = 256
	// DefaultMaxWaiting is how many more may wait for their turn.
	DefaultMaxWaiting = 2048

	// bodyBudget is how many bodies of full size are held at a time.
	bodyBudget = 32
	maxParsers = 4

	turnTimeout = 10 * time.Second
	bodyTimeout = 10 * time.Second

	// listWorkers is how many events of one list are recorded at a time.
	listWorkers = 32

	alertsPath = "/v1/namespaces/{namespace}/{format}"
)

// Options say how a receiver works.
type Options struct {
	// Name is the receiver's own name, under which it counts repeats: at most 63 letters,
	// digits, '-', '_' and '.', and no other receiver's of the cluster. No default.
	Name string
	// AllowUnscopedToken admits tokens without the audience 'firebreak-receiver'. Default false.
	AllowUnscopedToken bool
	// MaxBodyBytes is how large a body may be. Default 1 MiB.
	MaxBodyBytes int64
	// MaxInFlight is how many requests are worked on at a time. Default 256.
	MaxInFlight int
	// MaxWaiting is how many more requests may wait for their turn. Default 2048.
	MaxWaiting int
	// Clock is for tests. Default is the real one.
	Clock clock.Clock
	// Log is where refusals are told. Default is nowhere.
	Log logr.Logger
}

// Handler serves the paths of alerts.
type Handler struct {
	options  Options
	gate     *gatekeeper
	recorder *recorder
	turns    *turns
	bodies   *semaphore.Weighted
	parsers  chan struct{}
	refusals *rate.Limiter
	mux      *http.ServeMux
}

var _ http.Handler = (*Handler)(nil)

// Result is what became of one alert.
type Result struct {
	// Status is the HTTP status code for this alert: 201 when it is a new event, 200 when
	// it repeats one.
	Status int `json:"status,omitempty"`
	// Namespace of the event.
	Namespace string `json:"namespace,omitempty"`
	// Name of the event. Empty when the alert was not recorded.
	Name string `json:"name,omitempty"`
	// Occurrences is how often the event was seen, when that is known.
	Occurrences int64 `json:"occurrences,omitempty"`
	// Detail says why the alert was not recorded.
	Detail string `json:"detail,omitempty"`
}

// NewHandler makes a Handler that asks and records with a client, which must not
// read from a cache.
func NewHandler(c client.Client, o Options) *Handler {
	if o.MaxBodyBytes <= 0 {
		o.MaxBodyBytes = DefaultMaxBodyBytes
	}
	if o.MaxInFlight <= 0 {
		o.MaxInFlight = DefaultMaxInFlight
	}
	if o.MaxWaiting <= 0 {
		o.MaxWaiting = DefaultMaxWaiting
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
	h := &Handler{
		options:  o,
		gate:     newGatekeeper(c, o.AllowUnscopedToken, o.Clock),
		recorder: newRecorder(newClusterStore(c, o.Name), o.Name, o.Clock, o.Log),
		turns:    newTurns(o.MaxInFlight, o.MaxWaiting),
		bodies:   semaphore.NewWeighted(bodyBudget * o.MaxBodyBytes),
		parsers:  make(chan struct{}, maxParsers),
		refusals: rate.NewLimiter(10, 100),
		mux:      http.NewServeMux(),
	}
	h.mux.HandleFunc(alertsPath, h.serveAlerts)
	h.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		h.refuse(w, r, "", newProblem(http.StatusNotFound, "no-such-path", "There is nothing at this path",
			"The path must be /v1/namespaces/NAMESPACE/FORMAT, with a format of "+strings.Join(formatNames(), ", ")+"."))
	})
	return h
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
	h.mux.ServeHTTP(w, r)
}

func (h *Handler) serveAlerts(w http.ResponseWriter, r *http.Request) {
	leave, ok := h.turns.enter(r.Context())
	if !ok {
		h.refuse(w, r, "", overloaded())
		return
	}
	defer leave()
	sender, done, err := h.receive(w, r)
	if err != nil {
		h.refuse(w, r, sender, asProblem(err))
		return
	}
	if problem := done.problem(); problem != nil {
		h.refuse(w, r, sender, problem)
		return
	}
	done.write(w)
}

// receive takes one request as far as its alerts are recorded or refused.
func (h *Handler) receive(w http.ResponseWriter, r *http.Request) (sender string, done *reply, err error) {
	namespace := r.PathValue("namespace")
	wire, err := route(r, namespace)
	if err != nil {
		return "", nil, err
	}
	token, err := bearerToken(r)
	if err != nil {
		return "", nil, err
	}
	if sender, err = h.gate.admit(r.Context(), token, namespace); err != nil {
		return sender, nil, err
	}
	body, release, err := h.read(w, r)
	if err != nil {
		return sender, nil, err
	}
	defer release()
	what, err := h.parse(wire, report{body: body, namespace: namespace, sender: sender, receivedTime: h.options.Clock.Now()})
	if err != nil {
		return sender, nil, err
	}
	return sender, h.record(namespace, what), nil //nolint:contextcheck // an alert counts, even when its sender hangs up
}

func route(r *http.Request, namespace string) (format, error) {
	if r.Method != http.MethodPost && r.Method != http.MethodPut {
		return nil, problemf(http.StatusMethodNotAllowed, "method-not-allowed", "The method is not allowed",
			"The method must be POST or PUT, is %s.", r.Method)
	}
	if !isNamespace(namespace) {
		return nil, problemf(http.StatusBadRequest, "invalid-namespace", "The namespace is not valid",
			"The namespace in the path must be a DNS label (lower-case letters, digits and '-', at most 63), is '%s'.", clean(namespace, 64))
	}
	wire, known := formats[r.PathValue("format")]
	if !known {
		p := problemf(http.StatusNotFound, "no-such-format", "There is no such format",
			"The format in the path must be one of %s, is '%s'.", strings.Join(formatNames(), ", "), clean(r.PathValue("format"), 64))
		p.Formats = formatNames()
		return nil, p
	}
	return wire, nil
}

// read reads the body. The bytes of all requests together are bounded, until release,
// when nothing made of the body is held any more.
func (h *Handler) read(w http.ResponseWriter, r *http.Request) (body []byte, release func(), err error) {
	limit := h.options.MaxBodyBytes
	if r.ContentLength > limit {
		return nil, nil, tooLarge(limit)
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, nil, newProblem(http.StatusUnsupportedMediaType, "content-encoding", "The body is encoded",
			"The body must be sent without a Content-Encoding.")
	}
	weight := r.ContentLength
	if weight < 0 {
		weight = limit
	}
	ctx, cancel := context.WithTimeout(r.Context(), turnTimeout)
	defer cancel()
	if h.bodies.Acquire(ctx, weight) != nil {
		return nil, nil, overloaded()
	}
	// Not every ResponseWriter can: then the server's own timeout ends a slow body.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	if body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, limit)); err != nil {
		h.bodies.Release(weight)
		return nil, nil, readProblem(err, limit)
	}
	held := int64(len(body))
	h.bodies.Release(weight - held)
	return body, func() { h.bodies.Release(held) }, nil
}

// parse understands the body. A parser needs many times the body's memory for a
// moment, so there are few of them.
func (h *Handler) parse(wire format, what report) (parsed, error) {
	if problem := checkDepth(what.body); problem != nil {
		return parsed{}, problem
	}
	h.parsers <- struct{}{}
	defer func() { <-h.parsers }()
	return wire.parse(what)
}

func readProblem(err error, limit int64) *Problem {
	var tooMuch *http.MaxBytesError
	if errors.As(err, &tooMuch) {
		return tooLarge(limit)
	}
	return problemf(http.StatusBadRequest, "incomplete-body", "The body could not be read",
		"The body must arrive whole within %s: %s", bodyTimeout, err)
}

func tooLarge(limit int64) *Problem {
	return problemf(http.StatusRequestEntityTooLarge, "too-large", "The body is too large",
		"The body must be at most %d bytes long.", limit)
}

func (h *Handler) record(namespace string, what parsed) *reply {
	a := &reply{namespace: namespace, what: what, outcomes: make([]outcome, len(what.alerts))}
	if len(what.alerts) == 1 {
		a.outcomes[0] = h.recorder.record(namespace, &what.alerts[0])
		return a
	}
	var workers sync.WaitGroup
	slots := make(chan struct{}, listWorkers)
	for i := range what.alerts {
		slots <- struct{}{}
		workers.Go(func() {
			defer func() { <-slots }()
			a.outcomes[i] = h.recorder.record(namespace, &what.alerts[i])
		})
	}
	workers.Wait()
	return a
}

// refuse answers with a problem and tells the log, as far as there is no flood.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, sender string, p *Problem) {
	if p.Status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", "POST, PUT")
	}
	p.write(w)
	if h.refusals.Allow() {
		h.options.Log.Info("refused a request", "status", p.Status, "problem", strings.TrimPrefix(p.Type, problemTypeBase), "detail", p.Detail,
			"method", r.Method, "path", clean(r.URL.Path, 256), "sender", clean(sender, maxName), "from", r.RemoteAddr)
	}
}

// reply is what became of the alerts of one request.
type reply struct {
	namespace string
	what      parsed
	outcomes  []outcome
}

// problem is the answer when an alert was not recorded: that of the first such.
func (a *reply) problem() *Problem {
	failed := slices.IndexFunc(a.outcomes, func(o outcome) bool { return o.err != nil })
	if failed < 0 {
		return nil
	}
	p := refusal(a.outcomes[failed].err, &a.what.alerts[failed])
	if a.what.list {
		p.Results = a.results()
	}
	return p
}

func (a *reply) results() []Result {
	results := make([]Result, len(a.outcomes))
	for i, o := range a.outcomes {
		result := Result{Namespace: a.namespace, Name: o.name, Occurrences: o.occurrences, Status: http.StatusOK}
		switch {
		case o.err != nil:
			p := refusal(o.err, &a.what.alerts[i])
			result.Status, result.Detail = p.Status, p.Detail
		case o.created:
			result.Status = http.StatusCreated
		}
		results[i] = result
	}
	return results
}

func (a *reply) write(w http.ResponseWriter) {
	results := a.results()
	if !a.what.list {
		status := results[0].Status
		results[0].Status = 0
		writeJSON(w, status, "application/json", results[0])
		return
	}
	status := http.StatusOK
	if slices.ContainsFunc(a.outcomes, func(o outcome) bool { return o.created }) {
		status = http.StatusCreated
	}
	writeJSON(w, status, "application/json", map[string]any{"results": results})
}
