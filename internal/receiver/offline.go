package receiver

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Body is what a sender would post.
type Body struct {
	// Content is its bytes, and Header the request's headers; nil is none.
	Content []byte
	Header  http.Header
	// Namespace is the domain it is posted to.
	Namespace string
	// Sender is the user that posts it.
	Sender string
	// ReceivedTime stands in where the sender does not say when something was seen.
	ReceivedTime time.Time
}

// Parse gives the events that the receiver would make of a body, without a server: those
// of items that are wrong are left out, and named in the error.
func (f *Formats) Parse(name string, body Body) ([]v1alpha1.SecurityEvent, error) {
	wire, ok := f.byName[name]
	if !ok {
		return nil, fmt.Errorf("no format '%s': it must be one of %s", clean(name, maxName), strings.Join(f.names(), ", "))
	}
	what, err := wire.parse(report{
		body: body.Content, header: body.Header, namespace: body.Namespace, sender: body.Sender, receivedTime: body.ReceivedTime,
	})
	if err != nil {
		return nil, err
	}
	var events []v1alpha1.SecurityEvent
	var problems []error
	for i := range what.alerts {
		a := &what.alerts[i]
		if a.problem != nil {
			problems = append(problems, a.problem)
			continue
		}
		if err := validate(a); err != nil {
			problems = append(problems, err)
			continue
		}
		events = append(events, v1alpha1.SecurityEvent{
			TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "SecurityEvent"},
			ObjectMeta: metav1.ObjectMeta{Namespace: body.Namespace, Name: identify(body.Namespace, a).name(0)},
			Spec:       a.spec,
		})
	}
	for _, skipped := range what.skipped {
		problems = append(problems, fmt.Errorf("no alert: %s", skipped.Reason))
	}
	if len(events) > 0 && len(what.skipped) == len(problems) {
		return events, nil
	}
	return events, errors.Join(problems...)
}
