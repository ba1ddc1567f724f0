// Package receiver takes security alerts over HTTPS and records each as a
// SecurityEvent. A sender is answered 2xx only when the alert is durable: in the API
// server, or on disk in the spool, which takes it to the API server later, once. An
// alert seen again raises the counter of its event instead of making another.
package receiver

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// formats are the wire formats that need no configuration, by their name in the URL.
var formats = map[string]format{
	"alertmanager":    alertmanagerFormat{},
	"audit":           auditFormat{},
	"cloudevents":     cloudEventsFormat{},
	"events":          nativeFormat{},
	"falco":           falcoFormat{},
	"ocsf":            ocsfFormat{},
	"policy-reporter": policyReporterFormat{},
	"tetragon":        tetragonFormat{},
	"trivy-operator":  trivyFormat{},
}

// names are the formats by their names in the URL.
func (f *Formats) names() []string {
	return slices.Sorted(maps.Keys(f.byName))
}

// format turns the body of a request into alerts. What it returns fits the bounds
// of the API wherever the format leaves it a choice. Its errors are *Problem.
type format interface {
	parse(r report) (parsed, error)
}

// report is the body of a request and what is known of it.
type report struct {
	body []byte
	// header is the request's; nil is none.
	header    http.Header
	namespace string
	// sender is the authenticated user.
	sender string
	// receivedTime stands in where a sender does not say when something was seen.
	receivedTime time.Time
}

// parsed is what a body says.
type parsed struct {
	alerts []alert
	// list says that the body was a list, and so is the answer. A body without alerts is one.
	list bool
	// skipped are the items that were understood and are no alerts.
	skipped []Skipped
	// product is whose those are. Empty is not known.
	product string
}

// alert is one alert, ready to be recorded.
type alert struct {
	spec v1alpha1.SecurityEventSpec
	// native says that the spec was sent as it is.
	native bool
	// pointer is where in the body it stands, as a JSON Pointer (RFC 6901).
	pointer string
	// problem is why there is no alert in this item of a list. It is not recorded.
	problem *Problem
	// undated says that observedTime is the time of receipt, for want of another.
	undated bool
	// unhashed says that rawDataHash is the receiver's and no part of what was said.
	unhashed bool
	// delivery is what its sender calls this delivery; empty is nothing. The same again is
	// not counted, as long as the receiver remembers.
	delivery string
	// single says that what has its fingerprint is the same delivered again, never a repeat.
	single bool
	// window is for how long an equal fingerprint is the same event; 0 is the usual time, and
	// noWindow for ever.
	window time.Duration
}

// pointerOf is where an alert of a list stands in the body.
func (p *parsed) pointerOf(i int) string {
	if !p.list || p.alerts[i].pointer == "" {
		return ""
	}
	return fragment(p.alerts[i].pointer)
}
