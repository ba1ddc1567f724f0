package readiness

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
)

// TestForbidden has an API server refuse everything, and say whether it is ready.
func TestForbidden(t *testing.T) {
	for name, test := range map[string]struct {
		// ready are its answers to whether it is; the last stays.
		ready []int
		// refusals is how often it refuses before it does not.
		refusals int
		asked    int
		want     func(error) bool
	}{
		"it is starting":          {[]int{http.StatusInternalServerError, http.StatusOK}, 1, 2, func(err error) bool { return err == nil }},
		"it is ready":             {[]int{http.StatusOK}, 9, 1, apierrors.IsForbidden},
		"it does not let one ask": {[]int{http.StatusUnauthorized}, 9, 1, apierrors.IsForbidden},
		"it does not know yet":    {[]int{http.StatusForbidden, http.StatusInternalServerError, http.StatusOK}, 2, 3, func(err error) bool { return err == nil }},
		"it starts, and refuses":  {[]int{http.StatusServiceUnavailable, http.StatusOK}, 9, 2, apierrors.IsForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			asked, questions := 0, 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/readyz" {
					if r.Header.Get("Impersonate-User") != "" || r.Header.Get("Authorization") != "Bearer itself" {
						t.Errorf("it is asked with %v, want as itself", r.Header)
					}
					w.WriteHeader(test.ready[min(questions, len(test.ready)-1)])
					questions++
					return
				}
				w.Header().Set("Content-Type", "application/json")
				if asked++; asked <= test.refusals {
					w.WriteHeader(http.StatusForbidden)
					_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403}`))
					return
				}
				_, _ = w.Write([]byte(`{"kind":"Pod","apiVersion":"v1","metadata":{"name":"cart"}}`))
			}))
			defer server.Close()
			config := &rest.Config{Host: server.URL, BearerToken: "itself", Impersonate: rest.ImpersonationConfig{UserName: "contain"}}
			config.Wrap((&Patience{Clock: clock.RealClock{}}).Wrap)
			api, err := corev1client.NewForConfig(config)
			if err != nil {
				t.Fatal(err)
			}
			var pod *corev1.Pod
			pod, err = api.Pods("shop").Get(t.Context(), "cart", metav1.GetOptions{})
			if !test.want(err) {
				t.Errorf("the pod %v is answered with: %v", pod, err)
			}
			if asked != test.asked {
				t.Errorf("it was asked %d times, want %d", asked, test.asked)
			}
		})
	}
}

// TestNeverAllowedToAsk: who may never ask whether the API server is ready, or gets no answer, is told
// of a refusal a while later; and anew when it may have been started once more since.
func TestNeverAllowedToAsk(t *testing.T) {
	for name, server := range map[string]refusing{
		"it refuses to say": {ready: http.StatusForbidden}, "it never is ready": {ready: http.StatusInternalServerError}, "it does not answer": {},
	} {
		t.Run(name, func(t *testing.T) {
			now := clocktesting.NewFakeClock(time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC))
			through := (&Patience{Clock: now}).Wrap(server)
			for _, step := range []struct {
				after time.Duration
				want  int
			}{{0, 503}, {time.Minute, 503}, {time.Minute, 403}, {time.Minute, 403}, {time.Hour, 503}, {time.Minute, 503}, {time.Minute, 403}} {
				now.Step(step.after)
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://example.com/api/v1/pods", nil)
				if err != nil {
					t.Fatal(err)
				}
				answer, err := through.RoundTrip(request)
				if err != nil {
					t.Fatal(err)
				}
				if answer.StatusCode != step.want {
					t.Errorf("%s later the answer is %d, want %d", step.after, answer.StatusCode, step.want)
				}
				if err := answer.Body.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// refusing refuses everything, and says so much of whether it is ready; zero is no answer.
type refusing struct{ ready int }

func (r refusing) RoundTrip(request *http.Request) (*http.Response, error) {
	code := http.StatusForbidden
	if request.URL.Path == "/readyz" {
		code = r.ready
	}
	if code == 0 {
		return nil, errors.New("no answer")
	}
	return &http.Response{StatusCode: code, Body: http.NoBody}, nil
}
