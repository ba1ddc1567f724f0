package action_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
)

// httpRights are what http needs for the Secrets it names.
var httpRights = []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{"mine"}, Verbs: []string{"get"}}}

// hook is a server that keeps what it was sent.
type hook struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
	answer   http.HandlerFunc
}

func newHook(t *testing.T) *hook {
	t.Helper()
	h := &hook{answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"id": 7, "verdict": "bad"}`)) }}
	h.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		h.requests, h.bodies = append(h.requests, r), append(h.bodies, string(body))
		h.mu.Unlock()
		h.answer(w, r)
	}))
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.StartTLS()
	t.Cleanup(h.Close)
	return h
}

func (h *hook) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.requests)
}

func (h *hook) address() string { return strings.TrimPrefix(h.URL, "https://") }

func (h *hook) egress(t *testing.T, allow ...string) *action.Egress {
	t.Helper()
	egress, err := action.NewEgress(action.EgressOptions{
		Allow: allow, RootCAs: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return egress
}

func httpStep(change func(*v1alpha1.HTTPAction)) *v1alpha1.PlaybookStep {
	step := &v1alpha1.PlaybookStep{Name: "tell", HTTP: &v1alpha1.HTTPAction{Method: "POST"}}
	change(step.HTTP)
	return step
}

func key(name, key string) *v1alpha1.SecretKeyReference {
	return &v1alpha1.SecretKeyReference{Name: name, Key: key}
}

func (w *world) secret(name string, data map[string]string) {
	w.Helper()
	w.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.domain, Name: name}, StringData: data})
}

func TestHTTPSendsWhatIsSigned(t *testing.T) {
	w := domainWorld(t, httpRights)
	server := newHook(t)
	w.secret("mine", map[string]string{"url": server.URL + "/hooks/s3cr3t-path\n", "token": "Bearer t0k3n", "key": "signing-key"})
	step := httpStep(func(h *v1alpha1.HTTPAction) {
		h.URLFrom, h.SignatureFrom = key("mine", "url"), key("mine", "key")
		h.Headers = []v1alpha1.HTTPHeader{{Name: "authorization", ValueFrom: key("mine", "token")}, {Name: "X-Kind", Value: "incident"}}
		h.Body = `{"incident": incident.name, "count": 1, "title": incident.title}`
		h.Outputs = []v1alpha1.NamedExpression{
			{Name: "verdict", Expression: `response.body.verdict`}, {Name: "id", Expression: `response.body.id`}, {Name: "status", Expression: `response.status`},
			{Name: "echo", Expression: `response.headers["x-echo"]`},
		}
	})
	server.answer = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Echo", "you are "+r.Header.Get("Authorization"))
		_, _ = w.Write([]byte(`{"id": 7, "verdict": "bad"}`))
	}
	request := w.onIncident(w.incident("inc-1"), step)
	request.Incident.Spec.Title = `"; drop {{evil}} </script>` + "\n"
	request.Egress = server.egress(t, server.address())
	w.carryOut("http", request)
	if server.count() != 1 {
		t.Fatalf("%d requests, want 1: Plan sends none", server.count())
	}
	sent, body := server.requests[0], server.bodies[0]
	var got map[string]any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"incident": "inc-1", "count": 1.0, "title": request.Incident.Spec.Title}, got); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
	timestamp := sent.Header.Get(action.HeaderTimestamp)
	if timestamp != fmt.Sprint(now.Unix()) || sent.Header.Get(action.HeaderSignature) != action.Signature("signing-key", timestamp, []byte(body)) {
		t.Errorf("signature %q of %q", sent.Header.Get(action.HeaderSignature), timestamp)
	}
	if sent.URL.Path != "/hooks/s3cr3t-path" || sent.Header.Get("Authorization") != "Bearer t0k3n" || sent.Header.Get("X-Kind") != "incident" || sent.Header.Get("Content-Type") != "application/json" {
		t.Errorf("request %s %v", sent.URL, sent.Header)
	}
	result := do(t, "http").Apply(t.Context(), request)
	w.expect("repeated Apply", result, v1alpha1.TargetSucceeded, "has answered 200")
	if first, second := sent.Header.Get(action.HeaderIdempotencyKey), server.requests[1].Header.Get(action.HeaderIdempotencyKey); first == "" || first != second {
		t.Errorf("keys %q and %q must be the same", first, second)
	}
	request.Attempt = 2
	w.carryOut("http", request)
	if server.requests[2].Header.Get(action.HeaderIdempotencyKey) == sent.Header.Get(action.HeaderIdempotencyKey) {
		t.Error("another attempt must have a key of its own")
	}
	outputs := map[string]string{}
	for _, output := range result.Outputs {
		outputs[output.Name] = *output.Value
	}
	if diff := cmp.Diff(map[string]string{"verdict": "bad", "id": "7", "status": "200", "echo": "you are (hidden)"}, outputs); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}
	for _, secret := range []string{"s3cr3t", "t0k3n", "signing", server.address()} {
		if strings.Contains(fmt.Sprint(result), secret) {
			t.Errorf("%+v gives away %q", result, secret)
		}
	}
}

func TestHTTPDefaultBody(t *testing.T) {
	w := domainWorld(t, nil)
	server := newHook(t)
	request := w.onIncident(w.incident("inc-1"), httpStep(func(h *v1alpha1.HTTPAction) { h.URL = server.URL }))
	request.Egress = server.egress(t, server.address())
	request.DryRun = true
	w.carryOut("http", request)
	if server.count() != 0 {
		t.Error("a dry run must send nothing")
	}
	request.DryRun = false
	w.carryOut("http", request)
	if !strings.Contains(server.bodies[0], `"incident":"inc-1"`) || !strings.Contains(server.bodies[0], `"step":"tell"`) {
		t.Errorf("body %s", server.bodies[0])
	}
}

func TestHTTPAnswers(t *testing.T) {
	w := domainWorld(t, nil)
	server, other := newHook(t), newHook(t)
	for name, test := range map[string]struct {
		answer    http.HandlerFunc
		state     v1alpha1.TargetState
		permanent bool
		says      string
	}{
		"created":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201) }, v1alpha1.TargetSucceeded, false, "201 Created"},
		"refused":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, v1alpha1.TargetFailed, true, "403 Forbidden"},
		"too many": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }, v1alpha1.TargetFailed, false, "429 Too Many Requests"},
		"broken":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }, v1alpha1.TargetFailed, false, "502 Bad Gateway"},
		"hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, v1alpha1.TargetFailed, false, "the connection failed"},
		"leads elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		}, v1alpha1.TargetFailed, true, "leads to another host"},
		"leads to plain HTTP": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://"+r.Host, http.StatusFound) }, v1alpha1.TargetFailed, true, "leads to another host"},
		"leads to itself": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/again", http.StatusTemporaryRedirect)
		}, v1alpha1.TargetFailed, true, "leads on too often"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{T: t, domain: w.domain, shop: w.shop, client: w.client, user: w.user}
			server.answer = test.answer
			request := w.onIncident(w.incident("inc-1"), httpStep(func(h *v1alpha1.HTTPAction) { h.URL = server.URL }))
			request.Egress = server.egress(t, server.address(), other.address())
			result := do(t, "http").Apply(t.Context(), request)
			w.expect("Apply", result, test.state, test.says)
			if result.Permanent != test.permanent {
				t.Errorf("permanent %v, want %v", result.Permanent, test.permanent)
			}
			if other.count() != 0 {
				t.Error("the other host was asked")
			}
		})
	}
	server.answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(strings.Repeat("x", 100<<10))) }
	request := w.onIncident(w.incident("inc-1"), httpStep(func(h *v1alpha1.HTTPAction) {
		h.URL, h.Outputs = server.URL, []v1alpha1.NamedExpression{{Name: "x", Expression: `response.body`}}
	}))
	request.Egress = server.egress(t, server.address())
	w.expect("too long an answer", do(t, "http").Apply(t.Context(), request), v1alpha1.TargetFailed, "with more than 65536 bytes")
}

// Nothing is reached but what the platform team allows, and no secret is said.
func TestHTTPEscapes(t *testing.T) {
	w := domainWorld(t, httpRights)
	server := newHook(t)
	port := server.address()[strings.LastIndex(server.address(), ":")+1:]
	w.secret("mine", map[string]string{
		"elsewhere": "https://s3cr3t.example.org/x", "plain": "http://s3cr3t.example.org/x", "none": "::s3cr3t", "lines": "s3cr3t\r\nX: y", "user": "https://s3cr3t:x@" + server.address(),
		"name": "https://localhost:" + port + "/s3cr3t",
	})
	w.secret("other", map[string]string{"url": "https://s3cr3t.example.org"})
	from := func(field string) func(*v1alpha1.HTTPAction) {
		return func(h *v1alpha1.HTTPAction) { h.URLFrom = key("mine", field) }
	}
	to := func(url string) func(*v1alpha1.HTTPAction) { return func(h *v1alpha1.HTTPAction) { h.URL = url } }
	for name, test := range map[string]struct {
		change func(*v1alpha1.HTTPAction)
		says   string
	}{
		"another host":              {to("https://example.org"), "`--egress-allow` does not name this host"},
		"another port":              {to("https://127.0.0.1:1"), "`--egress-allow` does not name this host"},
		"plain HTTP":                {to("http://" + server.address()), "must begin with 'https://'"},
		"user":                      {to("https://a:b@" + server.address()), "must have no user"},
		"a name of the node itself": {to("https://localhost:" + port), "no playbook may reach it"},
		"a secret name of the node": {from("name"), "no playbook may reach it"},
		"a secret, elsewhere":       {from("elsewhere"), "key 'elsewhere' of Secret 'mine': the manager's `--egress-allow`"},
		"a secret, plain":           {from("plain"), "key 'plain' of Secret 'mine': must begin with"},
		"a secret that is none":     {from("none"), "must be a URL"},
		"a secret with a user":      {from("user"), "must have no user"},
		"no such key":               {from("absent"), "Secret 'mine' has nothing in key 'absent'"},
		"an unreadable Secret":      {func(h *v1alpha1.HTTPAction) { h.URLFrom = key("other", "url") }, "may not get secrets in namespace"},
		"an unreadable header": {func(h *v1alpha1.HTTPAction) {
			h.URL = server.URL
			h.Headers = []v1alpha1.HTTPHeader{{Name: "A", ValueFrom: key("other", "url")}}
		}, "may not get secrets in namespace"},
		"an unreadable key": {func(h *v1alpha1.HTTPAction) { h.URL = server.URL; h.SignatureFrom = key("other", "url") }, "may not get secrets in namespace"},
		"a header of two lines": {func(h *v1alpha1.HTTPAction) {
			h.URL = server.URL
			h.Headers = []v1alpha1.HTTPHeader{{Name: "A", ValueFrom: key("mine", "lines")}}
		}, "must be one line of text"},
		"the host by a header": {func(h *v1alpha1.HTTPAction) {
			h.URL = server.URL
			h.Headers = []v1alpha1.HTTPHeader{{Name: "host", Value: "x"}}
		}, "Firebreak sets it"},
		"its own key by a header": {func(h *v1alpha1.HTTPAction) {
			h.URL = server.URL
			h.Headers = []v1alpha1.HTTPHeader{{Name: "idempotency-key", Value: "x"}}
		}, "Firebreak sets it"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{T: t, domain: w.domain, shop: w.shop, client: w.client, user: w.user}
			request := w.onIncident(w.incident("inc-1"), httpStep(test.change))
			request.Egress = server.egress(t, server.address(), "localhost:"+port)
			for _, result := range []string{do(t, "http").Plan(t.Context(), request).Message, do(t, "http").Apply(t.Context(), request).Message} {
				if strings.Contains(result, "s3cr3t") {
					t.Errorf("%q gives away a secret", result)
				}
			}
			result := do(t, "http").Apply(t.Context(), request)
			w.expect("Apply", result, v1alpha1.TargetFailed, test.says)
			if !result.Permanent || server.count() != 0 {
				t.Errorf("permanent %v, %d requests", result.Permanent, server.count())
			}
		})
	}
	request := w.onIncident(w.incident("inc-1"), httpStep(to(server.URL)))
	w.expect("no egress", do(t, "http").Plan(t.Context(), request), v1alpha1.TargetFailed, "`--egress-allow` names no host")
	stranger, err := action.NewEgress(action.EgressOptions{Allow: []string{server.address()}})
	if err != nil {
		t.Fatal(err)
	}
	request.Egress = stranger
	w.expect("a certificate of nobody", do(t, "http").Apply(t.Context(), request), v1alpha1.TargetFailed, "its certificate is not trusted")
}

// Only what asks for the same again, with what was to be sent, is followed.
func TestHTTPFollowsWithWhatWasToBeSent(t *testing.T) {
	w := domainWorld(t, nil)
	server := newHook(t)
	for code, state := range map[int]v1alpha1.TargetState{301: v1alpha1.TargetFailed, 302: v1alpha1.TargetFailed, 303: v1alpha1.TargetFailed, 307: v1alpha1.TargetSucceeded, 308: v1alpha1.TargetSucceeded} {
		server.answer = func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/login" {
				http.Redirect(w, r, "/login", code)
			}
		}
		request := w.onIncident(w.incident("inc-1"), httpStep(func(h *v1alpha1.HTTPAction) { h.URL = server.URL }))
		request.Egress = server.egress(t, server.address())
		before := server.count()
		result := do(t, "http").Apply(t.Context(), request)
		if result.State != state || result.Permanent != (state == v1alpha1.TargetFailed) || state == v1alpha1.TargetFailed && !strings.Contains(result.Message, "leads on as a GET") {
			t.Errorf("POST that is answered %d: %+v, want %s", code, result, state)
		}
		if sent := server.bodies[before:]; state == v1alpha1.TargetSucceeded && (len(sent) != 2 || sent[1] != sent[0] || sent[1] == "") || state == v1alpha1.TargetFailed && len(sent) != 1 {
			t.Errorf("POST that is answered %d: sent %q", code, sent)
		}
		request.Step.HTTP.Method = "GET"
		w.expect(fmt.Sprintf("GET that is answered %d", code), do(t, "http").Apply(t.Context(), request), v1alpha1.TargetSucceeded)
	}
}

// A server that says again what it was sent gives no secret away, however it is written.
func TestHTTPHidesWhatIsSaidAgain(t *testing.T) {
	w := domainWorld(t, httpRights)
	server := newHook(t)
	server.answer = func(w http.ResponseWriter, r *http.Request) {
		raw, _ := json.Marshal(map[string]any{
			"uri": r.RequestURI, "path": r.URL.Path, "query": r.URL.Query().Get("sig"), "key": r.Header.Get("X-Key"),
			r.Header.Get("X-Key"): []string{"you sent " + r.Header.Get("X-Key")}, "raw": r.URL.RawQuery, "id": 7,
		})
		_, _ = w.Write(raw)
	}
	w.secret("mine", map[string]string{"url": server.URL + "/hooks/p4th%20<x>?sig=qu%2B3ry%26&v=1", "key": `k3y "<&>" \ end`})
	request := w.onIncident(w.incident("inc-1"), httpStep(func(h *v1alpha1.HTTPAction) {
		h.URLFrom, h.Headers = key("mine", "url"), []v1alpha1.HTTPHeader{{Name: "X-Key", ValueFrom: key("mine", "key")}}
		h.Outputs = []v1alpha1.NamedExpression{{Name: "all", Expression: `response.body`}}
	}))
	request.Egress = server.egress(t, server.address())
	result := do(t, "http").Apply(t.Context(), request)
	w.expect("Apply", result, v1alpha1.TargetSucceeded)
	all := *result.Outputs[0].Value
	for _, secret := range []string{"p4th", "qu+3ry", "qu%2B3ry", "k3y"} {
		if strings.Contains(all, secret) {
			t.Errorf("%s gives away %q", all, secret)
		}
	}
	if !strings.Contains(all, `"id":7`) {
		t.Errorf("%s must say what is no secret", all)
	}
}

func TestHTTPTimeout(t *testing.T) {
	w := domainWorld(t, nil)
	server := newHook(t)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	server.answer = func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}
	request := w.onIncident(w.incident("inc-1"), httpStep(func(h *v1alpha1.HTTPAction) { h.URL = server.URL }))
	request.Egress = server.egress(t, server.address())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	w.expect("Apply", do(t, "http").Apply(ctx, request), v1alpha1.TargetFailed, "no answer in time")
}

func TestEgressAllows(t *testing.T) {
	egress, err := action.NewEgress(action.EgressOptions{Allow: []string{"hooks.example.com", "siem.example.com:8443", "*.chat.example", "[2001:db8::1]:8443", "10.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"https://hooks.example.com/x":        true,
		"https://hooks.example.com:443":      true,
		"https://HOOKS.example.com.":         true,
		"https://hooks.example.com:8443":     false,
		"https://x.hooks.example.com":        false,
		"https://hooks.example.com.evil.org": false,
		"https://siem.example.com":           false,
		"https://siem.example.com:8443":      true,
		"https://a.b.chat.example":           true,
		"https://chat.example":               false,
		"https://evilchat.example":           false,
		"https://[2001:db8::1]:8443":         true,
		"https://10.0.0.1":                   true,
		"https://[::ffff:10.0.0.1]":          true,
		"https://10.0.0.2":                   false,
		"http://hooks.example.com":           false,
		"https://hooks.example.com@evil.org": false,
		"https://u@hooks.example.com":        false,
		"https://hooks.example.com#x":        false,
	} {
		target, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := egress.Allows(target) == nil; got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	for _, entry := range []string{"", "*", "*.com", "https://x", "a b", "x:port", "*.", "user@host"} {
		if _, err := action.NewEgress(action.EgressOptions{Allow: []string{entry}}); err == nil {
			t.Errorf("%q: must be refused", entry)
		}
	}
	if _, err := action.NewEgress(action.EgressOptions{Deny: []string{"10.0.0.0"}}); err == nil {
		t.Error("a network without its length must be refused")
	}
}
