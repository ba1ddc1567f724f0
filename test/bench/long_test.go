package bench

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
	"github.com/firebreak-dev/firebreak/test/harness"
)

const (
	longTimeline = 60
	longTargets  = 100
	longWrites   = 100
)

// longWrite is what writing the status of a long incident takes.
type longWrite struct {
	bytes    int
	p50, p99 time.Duration
}

// measureLong writes the status of an incident with 60 timeline entries and 100 targets
// again and again, each time with another entry, as the manager does. Its namespace is no
// response domain: the manager does not look at it.
func measureLong(t *testing.T, c *harness.Cluster) longWrite {
	t.Helper()
	const namespace = metav1.NamespaceDefault
	manager := c.As(t, harness.Manager)
	incident := longIncident(t, namespace)
	status := incident.Status
	if err := manager.Create(t.Context(), incident); err != nil {
		t.Fatal(err)
	}
	incident.Status = status
	var took []time.Duration
	for i := range longWrites {
		if i > 0 {
			incident.Status.Timeline = incident.Status.Timeline[1:]
		}
		if err := audit.Append(&incident.Status, entry(i)); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := manager.Status().Update(t.Context(), incident); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	content, err := json.Marshal(incident)
	if err != nil {
		t.Fatal(err)
	}
	if entries := len(incident.Status.Timeline); entries != longTimeline {
		t.Fatalf("the timeline has %d entries, want %d", entries, longTimeline)
	}
	if err := c.Client.Delete(t.Context(), incident, client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
		t.Fatal(err)
	}
	return longWrite{bytes: len(content), p50: percentile(took, 50), p99: percentile(took, 99)}
}

func entry(number int) v1alpha1.TimelineEntry {
	return v1alpha1.TimelineEntry{
		Time: metav1.Now().Rfc3339Copy(), Actor: harness.AccountUser("security", "contain-pod"), Action: "TargetSucceeded", Outcome: "Succeeded",
		Step: "isolate", Resource: fmt.Sprintf("Pod/shop/cart-%d", number),
		Message: "isolate: ingress and egress are cut by NetworkPolicy 'firebreak-inc-20261121-k7f2a-0123456789'; " + strings.Repeat("label 'app' taken off the pod; ", 4),
	}
}

func longIncident(t *testing.T, namespace string) *v1alpha1.Incident {
	t.Helper()
	incident := &v1alpha1.Incident{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "long"},
		Spec:       v1alpha1.IncidentSpec{Title: "A long incident", Severity: v1alpha1.SeverityHigh, Category: v1alpha1.CategoryIntrusion},
	}
	status := &incident.Status
	status.Phase, status.Severity, status.Category = v1alpha1.PhaseContainment, incident.Spec.Severity, incident.Spec.Category
	step := v1alpha1.IncidentStep{Name: "isolate", Phase: v1alpha1.PhaseContainment, Action: "isolate", State: v1alpha1.StepSucceeded}
	for i := range longTargets {
		name, uid := fmt.Sprintf("cart-%d", i), v1alpha1.ObjectUID(uuid.NewUUID())
		step.Targets = append(step.Targets, v1alpha1.StepTarget{
			APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: name, UID: uid, State: v1alpha1.TargetSucceeded, Attempts: 1, Proof: v1alpha1.ProofComputed,
			Message: entry(i).Message, Undo: `{"policy":"firebreak-inc-20261121-k7f2a-0123456789","label":{"key":"isolation.firebreak.dev/0123456789","value":"0123456789"}}`,
		})
		status.Resources = append(status.Resources, v1alpha1.IncidentResource{
			ResourceReference: v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: name, UID: uid}, State: v1alpha1.ResourcePresent,
		})
	}
	status.Steps = []v1alpha1.IncidentStep{step}
	for i := range longTimeline - 1 {
		if err := audit.Append(status, entry(i)); err != nil {
			t.Fatal(err)
		}
	}
	return incident
}
