package readiness

import (
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"
)

// watchAgain is how soon, or up to half as long again, a watch is opened once more.
const watchAgain = time.Second

// Watches opens watches again as soon as the API server can be reached. client-go waits longer
// after each failure, up to a minute: for that long nobody would see, when it is back, what is
// reported.
type Watches struct {
	// Clock tells the time.
	Clock clock.Clock
	// Log says that the API server is away.
	Log logr.Logger

	away atomic.Bool
}

// Wrap puts it before a transport, as rest.Config.Wrap wants it.
func (w *Watches) Wrap(next http.RoundTripper) http.RoundTripper { return watching{w, next} }

type watching struct {
	*Watches
	next http.RoundTripper
}

// RoundTrip sends a request.
func (w watching) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := w.next.RoundTrip(request)
	if request.URL.Query().Get("watch") != "true" {
		return response, err
	}
	for isDial(err) {
		if !w.away.Swap(true) {
			w.Log.Error(err, "the API server cannot be reached; watches are opened again every second")
		}
		select {
		case <-request.Context().Done():
			return nil, err
		case <-w.Clock.After(wait.Jitter(watchAgain, 0.5)):
		}
		response, err = w.next.RoundTrip(request)
	}
	if err == nil && w.away.Swap(false) {
		w.Log.Info("the API server can be reached again")
	}
	return response, err
}

// isDial says that a request was not sent: there was no connection.
func isDial(err error) bool {
	var failed *net.OpError
	return errors.As(err, &failed) && failed.Op == "dial"
}
