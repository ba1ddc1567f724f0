package fault

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/firebreak-dev/firebreak/internal/action"
)

const (
	webhookPath = "/hooks/"
	hookKey     = "signed-with-this"
	// answersAfter is how long a server takes to answer, so that there is time to kill who asks.
	answersAfter = 100 * time.Millisecond
)

// webhook is the server that `http` steps and channels call.
type webhook struct {
	*httptest.Server
	// called says that a request has come, and is not answered yet.
	called chan struct{}

	mu sync.Mutex
	// calls are the requests by path, each key once.
	calls map[string][]*call
}

// call is what was sent under one key.
type call struct {
	method, key string
	body        []byte
	// signed says that each signature was right, and times how often it was sent.
	signed bool
	times  int
	// others are bodies that were sent under the same key, and must not be there.
	others [][]byte
}

func newWebhook(t *testing.T) *webhook {
	t.Helper()
	w := &webhook{calls: map[string][]*call{}, called: make(chan struct{}, 1)}
	w.Server = httptest.NewTLSServer(w)
	t.Cleanup(w.Close)
	return w
}

func (w *webhook) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		answer.WriteHeader(http.StatusBadRequest)
		return
	}
	w.note(request, body)
	select {
	case w.called <- struct{}{}:
	default:
	}
	select {
	case <-time.After(answersAfter):
	case <-request.Context().Done(): // the caller was killed
	}
	answer.Header().Set("Content-Type", "application/json")
	_, _ = answer.Write([]byte(`{"ticket": "T-1"}`)) // the caller may have been killed
}

func (w *webhook) note(request *http.Request, body []byte) {
	header, path := request.Header, request.URL.Path
	key := header.Get(action.HeaderIdempotencyKey)
	// The signature is over the time too, so that it differs each time.
	signed := header.Get(action.HeaderSignature) == action.Signature(hookKey, header.Get(action.HeaderTimestamp), body)
	w.mu.Lock()
	defer w.mu.Unlock()
	at := slices.IndexFunc(w.calls[path], func(known *call) bool { return known.key == key && known.method == request.Method })
	if at < 0 {
		w.calls[path] = append(w.calls[path], &call{method: request.Method, key: key, body: body, signed: signed, times: 1})
		return
	}
	known := w.calls[path][at]
	known.times++
	known.signed = known.signed && signed
	if !bytes.Equal(known.body, body) {
		known.others = append(known.others, body)
	}
}

// callsOf describes the calls to a world's path, each key once, and says how many were
// repeated. What was sent under one key must be the same each time.
func (w *webhook) callsOf(t *testing.T, namespace string) (calls []string, repeated int) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.calls[webhookPath+namespace] {
		for _, other := range one.others {
			t.Errorf("under the key %s other bytes were sent:\n%s\nthan before:\n%s", one.key, other, one.body)
		}
		if one.key == "" {
			t.Errorf("%s was sent without a key", one.body)
		}
		calls = append(calls, fmt.Sprintf("%s signed=%t %s", one.method, one.signed, one.body))
		repeated += one.times - 1
	}
	return calls, repeated
}

// flags let a manager call the webhook.
func (w *webhook) flags(t *testing.T) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.crt")
	content := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.Certificate().Raw})
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--egress-allow=" + w.Listener.Addr().String(), "--egress-ca-file=" + path}
}
