package action_test

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/expression"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// freshValues evaluate as things are now: those of a request keep what they have seen.
func freshValues() action.Values {
	return (&expression.Cache{}).Values(&v1alpha1.ResponsePlaybookSpec{})
}

// Under one key always the same bytes are sent, whatever becomes of the incident.
func TestHTTPSendsTheSameUnderOneKey(t *testing.T) {
	w := domainWorld(t, nil)
	for name, body := range map[string]string{
		"default": "", "severity": `{"severity": incident.severity, "seen": incident.eventCount}`, "text": `incident.title + "<&>\u2028"`,
		"null": `incident.severity == "High" ? dyn(null) : dyn({"x": 1})`, "number": `incident.eventCount`,
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{T: t, domain: w.domain, shop: w.shop, client: w.client, user: w.user}
			server := newHook(t)
			request := w.onIncident(w.incident("inc-1"), httpStep(func(h *v1alpha1.HTTPAction) { h.URL, h.Body = server.URL, v1alpha1.Expression(body) }))
			request.Egress = server.egress(t, server.address())
			request.Incident.Status.Severity, request.Incident.Spec.Title = v1alpha1.SeverityHigh, "before"
			planned := w.ask(lifecycle.VerbPlan, request, "")
			w.expect("Plan", planned, v1alpha1.TargetActing)
			w.expect("first Apply", w.ask(lifecycle.VerbApply, request, planned.Undo), v1alpha1.TargetSucceeded)
			request.Incident.Status.Severity, request.Incident.Spec.Title, request.Incident.Status.EventCount = v1alpha1.SeverityCritical, "after", 7
			request.Values = freshValues()
			w.expect("repeated Apply", w.ask(lifecycle.VerbApply, request, planned.Undo), v1alpha1.TargetSucceeded)
			again := w.ask(lifecycle.VerbPlan, request, planned.Undo)
			if again.Undo != planned.Undo {
				t.Errorf("planned again it keeps %s, want %s", again.Undo, planned.Undo)
			}
			request.Attempt = 2
			anew := w.ask(lifecycle.VerbPlan, request, planned.Undo)
			w.expect("Apply of another attempt", w.ask(lifecycle.VerbApply, request, anew.Undo), v1alpha1.TargetSucceeded)
			keys := []string{}
			for _, sent := range server.requests {
				keys = append(keys, sent.Header.Get(action.HeaderIdempotencyKey))
			}
			if keys[0] != keys[1] || server.bodies[0] != server.bodies[1] || server.bodies[0] == "" {
				t.Errorf("sent %s under %s, then %s under %s", server.bodies[0], keys[0], server.bodies[1], keys[1])
			}
			if keys[2] == keys[0] || server.bodies[2] == server.bodies[0] {
				t.Errorf("another attempt has sent %s under %s, want it as it is then, under another key than %s", server.bodies[2], keys[2], keys[0])
			}
		})
	}
}

// A body that is too large for the status is Evidence before it is sent.
func TestHTTPKeepsALargeBodyAsEvidence(t *testing.T) {
	w := domainWorld(t, nil)
	server := newHook(t)
	request := w.onIncident(w.incident("inc-1"), httpStep(func(h *v1alpha1.HTTPAction) {
		h.URL, h.Body = server.URL, `[1,2,3,4,5,6,7,8,9,10].map(i, incident.title + incident.severity)`
	}))
	request.Egress = server.egress(t, server.address())
	request.Incident.Spec.Title, request.Incident.Status.Severity = strings.Repeat("long ", 200), v1alpha1.SeverityHigh
	w.expect("Plan without a store", w.ask(lifecycle.VerbPlan, request, ""), v1alpha1.TargetFailed, "would have to be kept as Evidence before it is done")
	recorder, _ := w.vault()
	request.Evidence = recorder
	planned := w.ask(lifecycle.VerbPlan, request, "")
	w.expect("Plan", planned, v1alpha1.TargetActing)
	if len(planned.Undo) > 4096 || len(w.undoRecords()) != 1 {
		t.Fatalf("the status would keep %d bytes, Evidence %d records", len(planned.Undo), len(w.undoRecords()))
	}
	w.expect("first Apply", w.ask(lifecycle.VerbApply, request, planned.Undo), v1alpha1.TargetSucceeded)
	request.Incident.Spec.Title, request.Values = "short", freshValues()
	w.expect("repeated Apply", w.ask(lifecycle.VerbApply, request, planned.Undo), v1alpha1.TargetSucceeded)
	if len(server.bodies[0]) < 4096 || server.bodies[0] != server.bodies[1] {
		t.Errorf("sent %d bytes, then %d others", len(server.bodies[0]), len(server.bodies[1]))
	}
}

// Of a body with secrets only the digest is on record: what has changed is not sent.
func TestHTTPKeepsNoSecret(t *testing.T) {
	w := newWorld(t, []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets", "pods"}, Verbs: []string{"get"}}})
	server := newHook(t)
	leaked := &corev1.Secret{Data: map[string][]byte{"token": []byte("s3cr3t")}}
	leaked.Namespace, leaked.Name = w.shop, "leaked"
	w.create(leaked)
	step := httpStep(func(h *v1alpha1.HTTPAction) {
		h.URL, h.Body = server.URL, `{"name": object.metadata.name, "token": object.data.token, "severity": incident.severity}`
	})
	request := w.onIncident(w.incident("inc-1"), step)
	request.Incident.Status.Severity = v1alpha1.SeverityHigh
	request.Target = v1alpha1.StepTarget{APIVersion: "v1", Kind: "Secret", Namespace: w.shop, Name: leaked.Name, UID: v1alpha1.ObjectUID(leaked.UID)}
	request.Egress = server.egress(t, server.address())
	planned := w.ask(lifecycle.VerbPlan, request, "")
	w.expect("Plan", planned, v1alpha1.TargetActing)
	if strings.Contains(planned.Undo, "czNjcjN0") || !strings.Contains(planned.Undo, `"digest":"sha256:`) {
		t.Errorf("on record: %s", planned.Undo)
	}
	for _, try := range []string{"first", "repeated"} {
		w.expect(try+" Apply", w.ask(lifecycle.VerbApply, request, planned.Undo), v1alpha1.TargetSucceeded)
	}
	if server.bodies[0] != server.bodies[1] || !strings.Contains(server.bodies[0], "czNjcjN0") {
		t.Errorf("sent %s, then %s", server.bodies[0], server.bodies[1])
	}
	request.Incident.Status.Severity, request.Values = v1alpha1.SeverityCritical, freshValues()
	changed := w.ask(lifecycle.VerbApply, request, planned.Undo)
	w.expect("Apply of what has changed", changed, v1alpha1.TargetFailed, "is not sent under the same key", "RetryStep")
	if !changed.Permanent || server.count() != 2 {
		t.Errorf("permanent %v, %d requests; want true and 2", changed.Permanent, server.count())
	}
	request.Step.HTTP.Body = `{"name": object.metadata.name, "severity": incident.severity}`
	if planned = w.ask(lifecycle.VerbPlan, request, ""); !strings.Contains(planned.Undo, `"body":{"name":"leaked"`) {
		t.Errorf("a body without secrets is on record as it is, but: %s", planned.Undo)
	}
}

func TestNotifySaysTheSameUnderOneKey(t *testing.T) {
	server := newHook(t)
	w := tellingWorld(t, chatURLs(server))
	request := w.telling(server, "chat")
	planned := w.ask(lifecycle.VerbPlan, request, "")
	w.expect("Plan", planned, v1alpha1.TargetActing)
	for _, severity := range []v1alpha1.Severity{v1alpha1.SeverityHigh, v1alpha1.SeverityCritical} {
		request.Incident.Status.Severity, request.Values = severity, freshValues()
		w.expect("Apply", w.ask(lifecycle.VerbApply, request, planned.Undo), v1alpha1.TargetSucceeded)
	}
	request.Attempt = 2
	w.expect("Apply of another attempt", w.ask(lifecycle.VerbApply, request, w.ask(lifecycle.VerbPlan, request, planned.Undo).Undo), v1alpha1.TargetSucceeded)
	var first, anew map[string]string
	if err := json.Unmarshal([]byte(server.bodies[0]), &first); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(server.bodies[2]), &anew); err != nil {
		t.Fatal(err)
	}
	if server.bodies[0] != server.bodies[1] || !strings.HasPrefix(first["title"], "High:") || !strings.HasPrefix(anew["title"], "Critical:") {
		t.Errorf("sent %q", server.bodies)
	}
	request.DryRun = true
	if tried := w.ask(lifecycle.VerbPlan, request, ""); tried.Undo != "" {
		t.Errorf("what is only tried keeps nothing, but: %s", tried.Undo)
	}
}
