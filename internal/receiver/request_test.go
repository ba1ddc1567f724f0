package receiver

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestStreamsShareAConnection posts 900 alerts at once over one connection, whose bodies are more than
// it takes in before they are read: none keeps the bodies of others from arriving while it waits for
// its turn.
func TestStreamsShareAConnection(t *testing.T) {
	const alerts, size = 900, 16 << 10
	s := newSite(t)
	handler := s.handler(Options{Name: "r0", SpoolFolder: t.TempDir(), directPatience: defaultDirectPatience})
	s.connect()
	s.post("falco", falcoBody(t)).want(t, http.StatusCreated)
	var sending sync.WaitGroup
	for n := range alerts {
		sending.Go(func() {
			body := falcoBody(t, "cart-7f9", fmt.Sprint("cart-", n))
			body += strings.Repeat(" ", size-len(body))
			r, err := s.send(http.MethodPost, "/v1/namespaces/"+s.namespace+"/falco", s.token, strings.NewReader(body))
			if err != nil || r.status/100 != 2 {
				t.Errorf("alert %d: status %d, error %v, want 2xx: %s", n, r.status, err, r.body)
			}
		})
	}
	sending.Wait()
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
	p := readProblem(late, DefaultMaxBodyBytes)
	if p.Status != http.StatusRequestTimeout || strings.Contains(p.Detail, "10.1.2.3") || !strings.Contains(p.Detail, bodyTimeout.String()) {
		t.Errorf("the answer is %d: %s; want 408, and within what time it must come", p.Status, p.Detail)
	}
	if p = readProblem(io.ErrUnexpectedEOF, DefaultMaxBodyBytes); p.Status != http.StatusBadRequest {
		t.Errorf("a body that was cut off is answered %d, want 400", p.Status)
	}
}
