package receiver

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestStreamsShareAConnection posts as many alerts at once over one connection as it may have, whose
// bodies are more than it takes in before they are read, and more than one sender may have held: none
// keeps the bodies of others from arriving while it waits for its turn, and what there is no room for
// is refused, not waited for.
func TestStreamsShareAConnection(t *testing.T) {
	const alerts, size = maxStreams - 1, 30 << 10
	s := newSite(t)
	handler := s.handler(Options{Name: "r0", SpoolFolder: t.TempDir(), directPatience: defaultDirectPatience})
	s.connect()
	if first := s.post("falco", falcoBody(t)); first.status/100 != 2 { // and its sender is known
		t.Fatalf("status %d, want 2xx: %s", first.status, first.body)
	}
	var sending sync.WaitGroup
	var taken atomic.Int64
	for n := range alerts {
		sending.Go(func() {
			body := falcoBody(t, "cart-7f9", fmt.Sprint("cart-", n))
			body += strings.Repeat(" ", size-len(body))
			r, err := s.send(http.MethodPost, "/v1/namespaces/"+s.namespace+"/falco", s.token, strings.NewReader(body))
			switch {
			case err == nil && r.status/100 == 2:
				taken.Add(1)
			case err != nil || r.Problem.Type != problemTypeBase+"overloaded":
				t.Errorf("alert %d: status %d, error %v, want 2xx, or that there is no room: %s", n, r.status, err, r.body)
			}
		})
	}
	sending.Wait()
	if t.Logf("%d of %d are taken", taken.Load(), alerts); taken.Load() < min(alerts, handler.bodies.share/size) {
		t.Errorf("%d alerts are taken, want as many as a sender may have held: %d", taken.Load(), handler.bodies.share/size)
	}
	if err := handler.Close(); err != nil {
		t.Error(err)
	}
}

// deadlines is an answer that remembers the deadlines it was given for reading.
type deadlines struct {
	*httptest.ResponseRecorder
	read []time.Time
}

func (d *deadlines) SetReadDeadline(deadline time.Time) error {
	d.read = append(d.read, deadline)
	return nil
}

// TestDeadlineIsForTheBody: once the body is there, a request may wait for its turn.
func TestDeadlineIsForTheBody(t *testing.T) {
	s := newSite(t)
	answer := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/namespaces/"+s.namespace+"/falco", strings.NewReader(falcoBody(t)))
	request.Header.Set("Authorization", "Bearer "+s.token)
	s.last.ServeHTTP(answer, request)
	if answer.Code != http.StatusCreated {
		t.Fatalf("status %d, want 201: %s", answer.Code, answer.Body)
	}
	if len(answer.read) != 2 || answer.read[0].IsZero() || !answer.read[1].IsZero() {
		t.Errorf("deadlines for reading are %v, want one, and then none", answer.read)
	}
}

// TestSlowBodyIsTold: a body that takes too long is the sender's to send again, and the answer does not
// tell of the receiver's own addresses.
func TestSlowBodyIsTold(t *testing.T) {
	late := fmt.Errorf("read tcp 10.1.2.3:8443->10.4.5.6:1234: %w", os.ErrDeadlineExceeded)
	p := readProblem(late, DefaultMaxBodyBytes, bodyTimeout)
	if p.Status != http.StatusRequestTimeout || strings.Contains(p.Detail, "10.1.2.3") || !strings.Contains(p.Detail, bodyTimeout.String()) {
		t.Errorf("the answer is %d: %s; want 408, and within what time it must come", p.Status, p.Detail)
	}
	if p = readProblem(io.ErrUnexpectedEOF, DefaultMaxBodyBytes, bodyTimeout); p.Status != http.StatusBadRequest {
		t.Errorf("a body that was cut off is answered %d, want 400", p.Status)
	}
}
