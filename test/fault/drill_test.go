package fault

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
	"github.com/firebreak-dev/firebreak/test/harness"
)

// TestDrillChangesNothing has a drill go the whole way, approvals and all, once through the
// demo's playbook and once through one that uses every action. It is closed, and no object but
// Firebreak's own records is another than before.
func TestDrillChangesNothing(t *testing.T) {
	s := newScenario(t)
	hook := newWebhook(t)
	s.manager(t, hook.flags(t)...)
	for name, build := range map[string]func(*testing.T) *world{
		"the demo":     func(t *testing.T) *world { return newWorld(t, s.cluster) },
		"every action": func(t *testing.T) *world { return newActionsWorld(t, s.cluster, hook) },
	} {
		t.Run(name, func(t *testing.T) {
			w := build(t)
			before := w.snapshot(t)
			w.drill(t, s.receiver)
			incident := w.closed(t)
			if diff := cmp.Diff(before, w.snapshot(t)); diff != "" {
				t.Errorf("objects (-before +after the drill):\n%s", diff)
			}
			if calls, _ := hook.callsOf(t, w.Namespace); len(calls) > 0 {
				t.Errorf("a drill has sent: %v", calls)
			}
			w.wantTried(t, incident)
		})
	}
}

// drill reports, as a drill, what the demo's alert does.
func (w *world) drill(t *testing.T, receiver *harness.ReceiverProcess) {
	t.Helper()
	body, err := json.Marshal(v1alpha1.SecurityEventSpec{
		Source: v1alpha1.EventSource{Kind: v1alpha1.SourceAutomatic, Product: "falco", Rule: "Terminal shell in container"},
		Title:  "A shell was spawned", Severity: v1alpha1.SeverityHigh, Mode: v1alpha1.ModeDrill, ObservedTime: metav1.Now(),
		Resources: []v1alpha1.ResourceReference{{APIVersion: "v1", Kind: "Pod", Namespace: w.Target, Name: w.suspect.Name, Image: "registry.example.com/app:1.0"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if answer := receiver.Post(t, w.Namespace, "events", w.sender.Token, body); answer.Code/100 != 2 {
		t.Fatalf("the receiver answers %d: %s, want 2xx", answer.Code, answer.Body)
	}
}

// closed has jane answer whatever is asked, until the one incident is closed and told.
func (w *world) closed(t *testing.T) *v1alpha1.Incident {
	t.Helper()
	p := &person{world: w, decided: map[string]bool{}}
	var incident *v1alpha1.Incident
	harness.Eventually(t, 2*time.Minute, "the drill to be closed", func(ctx context.Context) error {
		var list v1alpha1.IncidentList
		if err := w.Client.List(ctx, &list, client.InNamespace(w.Namespace)); err != nil {
			return err
		}
		if len(list.Items) != 1 {
			return errors.New("there is not one incident")
		}
		if incident = &list.Items[0]; incident.Status.Phase != v1alpha1.PhaseClosed {
			if incident.Status.Phase != "" {
				p.see(t, incident)
			}
			return errors.New("it is in " + string(incident.Status.Phase))
		}
		if incident.Status.Audit.ProjectedSequence != incident.Status.Audit.Sequence {
			return errors.New("its last entries are not told")
		}
		return nil
	})
	return incident
}

// snapshot is every object of the two namespaces, and those outside of namespaces that the
// actions change, in their versions. Left out are Firebreak's records and what tells of them.
func (w *world) snapshot(t *testing.T) map[string]string {
	t.Helper()
	kinds, err := discovery.NewDiscoveryClientForConfigOrDie(w.Config).ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	outside := []string{"nodes", "namespaces", "clusterroles", "clusterrolebindings", "validatingadmissionpolicies", "validatingadmissionpolicybindings"}
	versions := map[string]string{}
	for _, list := range kinds {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, resource := range list.APIResources {
			record := version.Group == v1alpha1.SchemeGroupVersion.Group || resource.Kind == "Event" || resource.Kind == "ControllerRevision"
			if record || !slices.Contains(resource.Verbs, "list") || !resource.Namespaced && !slices.Contains(outside, resource.Name) {
				continue
			}
			objects := &metav1.PartialObjectMetadataList{}
			objects.SetGroupVersionKind(version.WithKind(resource.Kind + "List"))
			if err := w.Client.List(t.Context(), objects); err != nil {
				t.Fatalf("listing %s: %v", resource.Name, err)
			}
			for _, object := range objects.Items {
				if object.Namespace == "" || object.Namespace == w.Namespace || object.Namespace == w.Target {
					versions[resource.Kind+" "+object.Namespace+"/"+object.Name] = string(object.UID) + " " + object.ResourceVersion
				}
			}
		}
	}
	if len(versions) < 20 {
		t.Fatalf("only %d objects were found: %v", len(versions), versions)
	}
	return versions
}

// wantTried holds a closed drill to say what it is, and each step to have been tried.
func (w *world) wantTried(t *testing.T, incident *v1alpha1.Incident) {
	t.Helper()
	status := &incident.Status
	if incident.Spec.Mode != v1alpha1.ModeDrill || status.Mode != v1alpha1.ModeDryRun || status.Resolution != v1alpha1.ResolutionResolved {
		t.Errorf("it is of mode %s, ran as %s and was closed as %s", incident.Spec.Mode, status.Mode, status.Resolution)
	}
	for _, kind := range []string{v1alpha1.ConditionContained, v1alpha1.ConditionEradicated, v1alpha1.ConditionRecovered} {
		if condition := meta.FindStatusCondition(status.Conditions, kind); condition == nil || condition.Status != metav1.ConditionFalse || condition.Reason != v1alpha1.ReasonDryRun {
			t.Errorf("%s is %+v, want False because of DryRun", kind, condition)
		}
	}
	for i := range status.Steps {
		step := &status.Steps[i]
		want := v1alpha1.StepSucceeded
		if step.Action == "verify" || step.Action == "revert" {
			want = v1alpha1.StepSkipped
		}
		if step.State != want {
			t.Errorf("step %s is %s, want %s: %s", step.Name, step.State, want, step.Message)
		}
		for j := range step.Targets {
			if target := &step.Targets[j]; step.Action != "collect" && step.State == v1alpha1.StepSucceeded && (target.Mode != v1alpha1.ResponseDryRun || target.Undo != "") {
				t.Errorf("%s of %s is %+v, want it only tried", step.Name, target.Name, target)
			}
		}
	}
	if err := audit.Verify(status); err != nil {
		t.Errorf("the timeline must verify: %v", err)
	}
	var events eventsv1.EventList
	w.list(t, &events)
	told := 0
	for i := range events.Items {
		if events.Items[i].Regarding.Name != incident.Name {
			continue
		}
		told++
		if !strings.HasPrefix(events.Items[i].Note, "DRILL #") {
			t.Errorf("an Event of the drill says %q", events.Items[i].Note)
		}
	}
	if int64(told) != status.Audit.Sequence {
		t.Errorf("%d Events tell of %d entries", told, status.Audit.Sequence)
	}
}
