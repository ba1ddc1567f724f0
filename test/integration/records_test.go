package integration

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

// records makes one object of each kind that is a record, in the name of root.
func records(t *testing.T, d *harness.Domain) map[string]client.Object {
	t.Helper()
	made := map[string]client.Object{
		"SecurityEvent": harness.MakeEvent(d.Namespace, "event", "root"),
		"Incident":      harness.MakeIncident(d.Namespace, "inc"),
		"Decision":      harness.MakeDecision(d.Namespace, "inc", "root", v1alpha1.DecisionAcknowledge),
		"Evidence":      harness.MakeEvidence(d.Namespace, "evidence", "root"),
		"LessonLearned": harness.MakeLesson(d.Namespace, "lesson", "inc"),
	}
	for _, object := range made {
		done(t, d.As(t, "root", harness.Masters).Create(t.Context(), object))
	}
	return made
}

func copyOf(t *testing.T, object client.Object) client.Object {
	t.Helper()
	copied, ok := object.DeepCopyObject().(client.Object)
	if !ok {
		t.Fatalf("no copy of %T", object)
	}
	return copied
}

func TestOnlyFirebreakSetsWhatControllersActOn(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	root := d.As(t, "root", harness.Masters)
	falseOwner := []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "gone", UID: "0b0c0c6e-0000-4000-8000-000000000000"}}
	changes := map[string]struct {
		change  func(client.Object)
		refusal string // empty: allowed
	}{
		"a false owner":          {func(o client.Object) { o.SetOwnerReferences(falseOwner) }, "`metadata.ownerReferences` must be left"},
		"a finalizer":            {func(o client.Object) { o.SetFinalizers([]string{"example.com/mine"}) }, "`metadata.finalizers` must be left"},
		"Firebreak's finalizer":  {func(o client.Object) { o.SetFinalizers([]string{"firebreak.dev/incident"}) }, "`metadata.finalizers` must be left"},
		"a label of Firebreak's": {func(o client.Object) { o.SetLabels(map[string]string{v1alpha1.LabelCorrelation: "x"}) }, "`metadata.labels` with the prefix 'firebreak.dev/' must be left"},
		"a label of their own":   {func(o client.Object) { o.SetLabels(map[string]string{"team": "blue"}) }, ""},
		"an annotation":          {func(o client.Object) { o.SetAnnotations(map[string]string{"firebreak.dev/x": "y"}) }, ""},
	}
	for kind, object := range records(t, d) {
		for name, test := range changes {
			t.Run(kind+" gets "+name, func(t *testing.T) {
				err := patch(t, root, copyOf(t, object), test.change)
				created := copyOf(t, object)
				created.SetName("another")
				created.SetGenerateName("")
				created.SetUID("")
				created.SetResourceVersion("")
				test.change(created)
				createErr := root.Create(t.Context(), created, client.DryRunAll)
				if test.refusal == "" {
					done(t, err)
					done(t, createErr)
					return
				}
				refused(t, err, test.refusal)
				refused(t, createErr, test.refusal)
			})
		}
	}
}

func TestWhatFirebreakHasSetStays(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	// It is the user that counts; the group stands for rights the manager has no need of yet.
	manager, root := d.As(t, harness.Manager, harness.Masters), d.As(t, "root", harness.Masters)
	incident := harness.MakeIncident(d.Namespace, "inc", func(i *v1alpha1.Incident) {
		i.Labels = map[string]string{v1alpha1.LabelCorrelation: "abc", "team": "blue"}
		i.Finalizers = []string{"firebreak.dev/incident"}
		i.Spec.SubmittedBy, i.Spec.Rule = "system:serviceaccount:falco:falco", "policy/rule"
	})
	done(t, manager.Create(t.Context(), incident))

	for name, change := range map[string]func(*v1alpha1.Incident){
		"changing its label": func(i *v1alpha1.Incident) { i.Labels[v1alpha1.LabelCorrelation] = "def" },
		"removing its label": func(i *v1alpha1.Incident) { delete(i.Labels, v1alpha1.LabelCorrelation) },
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, patch(t, root, incident.DeepCopy(), change), "`metadata.labels` with the prefix 'firebreak.dev/'")
		})
	}
	refused(t, patch(t, root, incident.DeepCopy(), func(i *v1alpha1.Incident) { i.Finalizers = nil }), "`metadata.finalizers` must be left")
	done(t, patch(t, root, incident.DeepCopy(), func(i *v1alpha1.Incident) { delete(i.Labels, "team") }))
	done(t, patch(t, manager, incident.DeepCopy(), func(i *v1alpha1.Incident) { i.Finalizers = nil }))
}

func TestTheSpecOfRecordsIsImmutable(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	made := records(t, d)
	made["a drill reported"] = harness.MakeEvent(d.Namespace, "drill", "root", func(e *v1alpha1.SecurityEvent) { e.Spec.Mode = v1alpha1.ModeDrill })
	made["a drill declared"] = harness.MakeIncident(d.Namespace, "drill", func(i *v1alpha1.Incident) { i.Spec.Mode = v1alpha1.ModeDrill })
	for _, kind := range []string{"a drill reported", "a drill declared"} {
		done(t, d.As(t, "root", harness.Masters).Create(t.Context(), made[kind]))
	}
	for _, test := range [][2]string{
		{"SecurityEvent", `{"spec":{"title":"another"}}`},
		{"SecurityEvent", `{"spec":{"mode":"Drill"}}`},
		{"Incident", `{"spec":{"severity":"Low"}}`},
		{"Incident", `{"spec":{"mode":"Drill"}}`},
		{"a drill reported", `{"spec":{"mode":"Live"}}`},
		{"a drill reported", `{"spec":{"mode":null}}`},
		{"a drill declared", `{"spec":{"mode":"Live"}}`},
		{"a drill declared", `{"spec":{"mode":null}}`},
		{"Decision", `{"spec":{"reason":"another"}}`},
		{"Evidence", `{"spec":{"digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000"}}`},
	} {
		kind, change := test[0], test[1]
		t.Run(kind+" "+change, func(t *testing.T) {
			err := d.Client.Patch(t.Context(), copyOf(t, made[kind]), client.RawPatch(types.MergePatchType, []byte(change)))
			if err == nil || !strings.Contains(err.Error(), "`spec` must not change") {
				t.Errorf("got: %v, want a refusal that says the spec must not change", err)
			}
		})
	}
	t.Run("but for a lesson, which people write", func(t *testing.T) {
		done(t, d.Client.Patch(t.Context(), made["LessonLearned"], client.RawPatch(types.MergePatchType, []byte(`{"spec":{"summary":"It was the endpoint."}}`))))
	})
}

func TestOnlyFirebreakWritesStatus(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	root, manager := d.As(t, "root", harness.Masters), d.As(t, harness.Manager)
	made := records(t, d)
	made["ResponsePlan"] = harness.MakePlan(d.Namespace, "")
	made["ResponsePlaybook"] = harness.MakePlaybook(d.Namespace, "playbook", "contain")
	made["ClassificationPolicy"] = harness.MakePolicy(d.Namespace, "true", "playbook")
	for _, kind := range []string{"ResponsePlan", "ResponsePlaybook", "ClassificationPolicy"} {
		done(t, root.Create(t.Context(), made[kind]))
	}
	for kind, object := range made {
		t.Run(kind, func(t *testing.T) {
			change := client.RawPatch(types.MergePatchType, []byte(`{"status":{"observedGeneration":1}}`))
			refused(t, root.Status().Patch(t.Context(), copyOf(t, object), change), "`status` must be left as it is")
			done(t, manager.Status().Patch(t.Context(), copyOf(t, object), change))
		})
	}
}

// TestTheReceiverCountsAndNothingElse holds the policy against the type: a field that is
// added to the status, and not to the policy, fails here.
func TestTheReceiverCountsAndNothingElse(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	receiver, manager := d.As(t, harness.Receiver), d.As(t, harness.Manager)
	event := harness.MakeEvent(d.Namespace, "event", "system:serviceaccount:falco:falco")
	done(t, receiver.Create(t.Context(), event))
	values := map[string]string{
		"conditions":         `[{"type":"Assessed","status":"True","reason":"RuleMatched","message":"","lastTransitionTime":"2026-11-21T16:00:00Z"}]`,
		"observedGeneration": `1`,
		"occurrences":        `7`,
		"assessment":         `{"outcome":"Dismissed","reason":"RuleMatched","by":"x","time":"2026-11-21T16:00:00Z"}`,
		"advice":             `"Leave things as they are."`,
		"earlierAssessments": `[{"outcome":"Dismissed","reason":"RuleMatched","by":"x","time":"2026-11-21T16:00:00Z"}]`,
		"incidentRef":        `{"name":"inc"}`,
	}
	count := func(number string) client.Patch {
		return client.RawPatch(types.MergePatchType, []byte(`{"status":{"counters":[{"spool":"receiver-0","count":`+number+`}]}}`))
	}
	done(t, receiver.Status().Patch(t.Context(), event.DeepCopy(), count("1")))

	onlyWrites(t, ownField{receiver, manager, event, reflect.TypeFor[v1alpha1.SecurityEventStatus](), "counters", "config/admission/status_securityevents.yaml"}, values)
	// With everything set, it still counts.
	done(t, receiver.Status().Patch(t.Context(), event.DeepCopy(), count("2")))
	applied := map[string]any{
		"apiVersion": "firebreak.dev/v1alpha1", "kind": "SecurityEvent",
		"metadata": map[string]any{"name": "event", "namespace": d.Namespace},
		"status":   map[string]any{"counters": []any{map[string]any{"spool": "receiver-1", "count": 3}}},
	}
	body, err := json.Marshal(applied)
	done(t, err)
	done(t, receiver.Status().Patch(t.Context(), event.DeepCopy(), client.RawPatch(types.ApplyPatchType, body), client.FieldOwner("receiver-1"), client.ForceOwnership))
	done(t, d.Client.Get(t.Context(), client.ObjectKeyFromObject(event), event))
	if len(event.Status.Counters) != 2 || event.Status.Occurrences != 7 {
		t.Errorf("got the status %+v, want two counters and the 7 occurrences the manager wrote", event.Status)
	}
}
