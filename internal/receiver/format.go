// Package receiver takes security alerts over HTTPS and records each as a
// SecurityEvent. A sender is answered 2xx only when the API server has the alert;
// an alert seen again raises the counter of its event instead of making another.
package receiver

import (
	"maps"
	"slices"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// formats are the wire formats the receiver understands, by their name in the URL.
var formats = map[string]format{
	"falco":  falcoFormat{},
	"events": nativeFormat{},
}

func formatNames() []string {
	return slices.Sorted(maps.Keys(formats))
}

// format turns the body of a request into alerts. What it returns fits the bounds
// of the API wherever the format leaves it a choice. Its errors are *Problem.
type format interface {
	parse(r report) (parsed, error)
}

// report is the body of a request and what is known of it.
type report struct {
	body      []byte
	namespace string
	// sender is the authenticated user.
	sender string
	// receivedTime stands in where a sender does not say when something was seen.
	receivedTime time.Time
}

// parsed is what a body says.
type parsed struct {
	alerts []alert
	// list says that the body was a list, and so is the answer.
	list bool
}

// alert is one alert, ready to be recorded.
type alert struct {
	spec v1alpha1.SecurityEventSpec
	// native says that the spec was sent as it is, and pointer where in the body it
	// stands, as a JSON Pointer (RFC 6901).
	native  bool
	pointer string
	// undated says that observedTime is the time of receipt, for want of another.
	undated bool
	// unhashed says that rawDataHash is the receiver's and no part of what was said.
	unhashed bool
}
