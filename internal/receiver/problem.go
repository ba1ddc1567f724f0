package receiver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	problemMediaType = "application/problem+json"
	problemTypeBase  = "https://firebreak.dev/problems/"
	slugStrangers    = "too-many-unauthenticated"

	maxDetail = 1024
	maxErrors = 16

	// retryOverload and retryUnavailable are what senders are told to wait.
	retryOverload    = time.Second
	retryUnavailable = 5 * time.Second
	retrySpoolFull   = 15 * time.Second

	spooledDetail = "The alert is safe in the receiver's spool, and will be recorded as soon as the Kubernetes API server takes it."
)

// Problem is the answer to a request that was not served, as RFC 9457 has it.
type Problem struct {
	// Type is a URI for the kind of problem.
	Type string `json:"type"`
	// Title names the kind of problem; it is the same for all of a type.
	Title string `json:"title"`
	// Status is the HTTP status code of the answer.
	Status int `json:"status"`
	// Detail says what was wrong, where, and what would be right.
	Detail string `json:"detail"`
	// Errors are the fields that were wrong, at most 16. Empty when it is not about a field.
	Errors []FieldProblem `json:"errors,omitempty"`
	// Formats are the formats there are, when the one asked for is not among them.
	Formats []string `json:"formats,omitempty"`
	// Results say for each item of a list what became of it, in the list's order.
	Results []Result `json:"results,omitempty"`
	// Skipped are the items of a list that were understood and are no alerts.
	Skipped []Skipped `json:"skipped,omitempty"`

	retryAfter time.Duration
	// alerts is how many it is about, where that is known.
	alerts int
}

// FieldProblem is one field of the request that was wrong.
type FieldProblem struct {
	// Pointer is where the field stands in the body, as a JSON Pointer in a URI fragment.
	Pointer string `json:"pointer"`
	// Detail says what the field must be.
	Detail string `json:"detail"`
}

// slug is the kind of problem in one word.
func (p *Problem) slug() string {
	return strings.TrimPrefix(p.Type, problemTypeBase)
}

// Error makes a Problem an error.
func (p *Problem) Error() string {
	return p.Detail
}

func newProblem(status int, slug, title, detail string) *Problem {
	return &Problem{Type: problemTypeBase + slug, Title: title, Status: status, Detail: clean(detail, maxDetail)}
}

func problemf(status int, slug, title, format string, args ...any) *Problem {
	return newProblem(status, slug, title, fmt.Sprintf(format, args...))
}

// fieldProblem says that the field at a JSON Pointer is wrong.
func fieldProblem(pointer, format string, args ...any) *Problem {
	detail := clean(fmt.Sprintf(format, args...), maxDetail)
	if pointer == "" {
		return newProblem(http.StatusBadRequest, "invalid-input", "The body is not valid", "The body "+detail)
	}
	p := newProblem(http.StatusBadRequest, "invalid-input", "The body is not valid", "`"+fieldPath(pointer)+"` "+detail)
	p.Errors = []FieldProblem{{Pointer: fragment(pointer), Detail: detail}}
	return p
}

func unavailable(detail string) *Problem {
	p := newProblem(http.StatusServiceUnavailable, "unavailable", "The alert could not be recorded now", detail)
	p.retryAfter = retryUnavailable
	return p
}

func overloaded() *Problem {
	p := newProblem(http.StatusTooManyRequests, "overloaded", "Too many alerts at once",
		"The receiver is working on as many requests as it may: send this again later.")
	p.retryAfter = retryOverload
	return p
}

// tooFast says that a sender sends more than it may.
func tooFast(wait time.Duration, alerts int, o *Options) *Problem {
	p := problemf(http.StatusTooManyRequests, "too-fast", "Too many alerts from this sender",
		"A sender may send %g alerts a second, and %d at once: send this again after the time in Retry-After.", o.SenderRate, o.SenderBurst)
	p.retryAfter, p.alerts = wait, alerts
	return p
}

// tooManyStrangers says that an address came with too many credentials that are new, or nobody's.
func tooManyStrangers() *Problem {
	p := newProblem(http.StatusTooManyRequests, slugStrangers, "Too many senders that are not authenticated",
		"Too many requests at once from this address had credentials that are new, and too many of those were not valid, or could not be looked up in time: "+
			"a credential must be valid; who has one must send this again after the time in Retry-After.")
	p.retryAfter = retryStrangers
	return p
}

// spoolFull says that the alert cannot be kept.
func spoolFull(limit int64) *Problem {
	p := problemf(http.StatusServiceUnavailable, "spool-full", "The spool is full",
		"The Kubernetes API server does not take alerts now, and the receiver's spool holds as many as it may (%d bytes, --spool-max-bytes): send this again later.", limit)
	p.retryAfter = retrySpoolFull
	return p
}

// senderShareFull says that the alert cannot be kept for this sender.
func senderShareFull(share int64) *Problem {
	p := problemf(http.StatusServiceUnavailable, "spool-full", "The spool is full for this sender",
		"The Kubernetes API server does not take alerts now, and of the receiver's spool one sender may fill three quarters (%d bytes): send this again later.", share)
	p.retryAfter = retrySpoolFull
	return p
}

// refusal turns what the API server said about an alert into a Problem.
func refusal(err error, a *alert) *Problem {
	var problem *Problem
	if errors.As(err, &problem) {
		return problem
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return unavailable("The Kubernetes API server could not be asked: " + err.Error())
	}
	switch {
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return invalid(status.Status(), a)
	case apierrors.IsRequestEntityTooLargeError(err):
		return newProblem(http.StatusRequestEntityTooLarge, "too-large", "The alert is too large", err.Error())
	case apierrors.HasStatusCause(err, "NamespaceTerminating"):
		return newProblem(http.StatusConflict, "namespace-terminating", "The namespace is being deleted",
			"Nothing can be recorded in a namespace that is being deleted: "+err.Error())
	case apierrors.IsNotFound(err) && details(status.Status()).Kind == "namespaces":
		return newProblem(http.StatusNotFound, "no-such-namespace", "The namespace does not exist",
			"The namespace in the URL must exist: "+err.Error())
	}
	p := unavailable("The Kubernetes API server did not record it: " + err.Error())
	if seconds, ok := apierrors.SuggestsClientDelay(err); ok && seconds > 0 {
		p.retryAfter = time.Duration(seconds) * time.Second
	}
	return p
}

// invalid repeats the API server's refusal of an event, with pointers into the body.
func invalid(status metav1.Status, a *alert) *Problem {
	p := newProblem(http.StatusBadRequest, "invalid-input", "The body is not valid",
		"The Kubernetes API server refused it: "+status.Message)
	for _, cause := range details(status).Causes {
		field, ofSpec := strings.CutPrefix(cause.Field, "spec")
		if !a.native || !ofSpec || len(p.Errors) == maxErrors {
			continue
		}
		p.Errors = append(p.Errors, FieldProblem{
			Pointer: fragment(a.pointer + pointerOf(strings.TrimPrefix(field, "."))),
			Detail:  clean(cause.Message, maxDetail),
		})
	}
	return p
}

func details(status metav1.Status) metav1.StatusDetails {
	if status.Details == nil {
		return metav1.StatusDetails{}
	}
	return *status.Details
}

// refusesObject says whether an error speaks of one alert and would not meet another.
func refusesObject(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsRequestEntityTooLargeError(err)
}

func (p *Problem) write(w http.ResponseWriter) {
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((p.retryAfter+time.Second-1)/time.Second)))
	}
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="firebreak-receiver"`)
	}
	writeJSON(w, p.Status, problemMediaType, p)
}

func writeJSON(w http.ResponseWriter, status int, mediaType string, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte("{}")
	}
	header := w.Header()
	header.Set("Content-Type", mediaType)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	// A sender that has gone cannot be told anything.
	_, _ = w.Write(append(body, '\n'))
}

// pointerOf turns a field path such as 'spec.resources[0].name' into a JSON Pointer.
func pointerOf(path string) string {
	if path == "" || path == "<nil>" {
		return ""
	}
	path = strings.NewReplacer("[", ".", "]", "").Replace(path)
	return "/" + strings.ReplaceAll(escapePointer(path), ".", "/")
}

// fieldPath turns a JSON Pointer into a field path people know.
func fieldPath(pointer string) string {
	var path strings.Builder
	for token := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		if _, err := strconv.Atoi(token); err == nil {
			path.WriteString("[" + token + "]")
			continue
		}
		if path.Len() > 0 {
			path.WriteString(".")
		}
		path.WriteString(strings.NewReplacer("~1", "/", "~0", "~").Replace(token))
	}
	return path.String()
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// escapePointer escapes one token of a JSON Pointer.
func escapePointer(token string) string {
	return pointerEscapes.Replace(token)
}

func fragment(pointer string) string {
	return "#" + clean(pointer, maxDetail)
}
