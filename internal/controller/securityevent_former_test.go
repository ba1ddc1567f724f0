package controller

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// knows makes an incident that knows a pod, as package lifecycle leaves it.
func knows(name string, age time.Duration, uid v1alpha1.ObjectUID, edit ...func(*v1alpha1.Incident)) v1alpha1.Incident {
	incident := v1alpha1.Incident{ObjectMeta: metav1.ObjectMeta{
		Name: name, CreationTimestamp: metav1.NewTime(time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC).Add(-age)),
	}}
	incident.Status.Phase = v1alpha1.PhaseContainment
	incident.Status.Resources = []v1alpha1.IncidentResource{{
		ResourceReference: v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "cart-7f9-abc", UID: uid},
		State:             v1alpha1.ResourcePresent,
		Workload:          v1alpha1.WorkloadReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "cart-of-" + name, UID: "d1"},
	}}
	for _, apply := range edit {
		apply(&incident)
	}
	return incident
}

func resourceOf(change func(*v1alpha1.IncidentResource)) func(*v1alpha1.Incident) {
	return func(incident *v1alpha1.Incident) { change(&incident.Status.Resources[0]) }
}

// TestFormerWorkload: which incident tells the workload of a pod that has none any more.
func TestFormerWorkload(t *testing.T) {
	const hour = time.Hour
	named := func(event string) func(*v1alpha1.Incident) {
		return func(incident *v1alpha1.Incident) { incident.Spec.EventRefs = []v1alpha1.EventReference{{Name: event}} }
	}
	unowned := resourceOf(func(known *v1alpha1.IncidentResource) { known.Workload = v1alpha1.WorkloadReference{} })
	for name, one := range map[string]struct {
		incidents []v1alpha1.Incident
		want      string
	}{
		"no incident":                      {},
		"one that knows it":                {[]v1alpha1.Incident{knows("a", hour, "p1")}, "cart-of-a"},
		"the oldest of several":            {[]v1alpha1.Incident{knows("a", hour, "p1"), knows("b", 2*hour, "p1")}, "cart-of-b"},
		"of two at once the first by name": {[]v1alpha1.Incident{knows("b", hour, "p1"), knows("a", hour, "p1")}, "cart-of-a"},
		"an older one that has not seen its owner": {
			[]v1alpha1.Incident{knows("a", 2*hour, "p1", unowned), knows("b", hour, "p1")}, "cart-of-b",
		},
		"another pod of that name": {[]v1alpha1.Incident{knows("a", hour, "p0")}, ""},
		"that UID under another name, as only a forged record has it": {
			[]v1alpha1.Incident{knows("a", hour, "p1", resourceOf(func(known *v1alpha1.IncidentResource) { known.Name = "cart-7f9-xyz" }))}, "",
		},
		"a UID that an event has claimed, and nobody has seen": {
			[]v1alpha1.Incident{knows("a", hour, "p1", resourceOf(func(known *v1alpha1.IncidentResource) { known.State = v1alpha1.ResourceReplaced }))}, "",
		},
		"not looked at yet": {
			[]v1alpha1.Incident{knows("a", hour, "p1", resourceOf(func(known *v1alpha1.IncidentResource) { known.State = "" }))}, "",
		},
		"detached since": {
			[]v1alpha1.Incident{knows("a", hour, "p1", resourceOf(func(known *v1alpha1.IncidentResource) { known.State = v1alpha1.ResourceDetached }))}, "",
		},
		"its event correlates by what the plan's account has seen": {[]v1alpha1.Incident{knows("a", hour, "p1", named("by-replica-set"))}, "cart-7f9"},
		"also where the playbook's account has seen nothing":       {[]v1alpha1.Incident{knows("a", hour, "p1", named("by-replica-set"), unowned)}, "cart-7f9"},
		"its event is about another pod first":                     {[]v1alpha1.Incident{knows("a", hour, "p1", named("about-another"))}, "cart-of-a"},
		"what a newer one's event correlates by, before what an older one's playbook has seen": {
			[]v1alpha1.Incident{knows("a", 2*hour, "p1", named("gone")), knows("b", hour, "p1", named("by-replica-set"))}, "cart-7f9",
		},
		"its event is gone": {[]v1alpha1.Incident{knows("a", hour, "p1", named("gone"))}, "cart-of-a"},
		"the event that brought the pod, not the one that opened it": {[]v1alpha1.Incident{knows("a", hour, "p1", named("about-another"), resourceOf(func(known *v1alpha1.IncidentResource) { known.EventRef.Name = "by-replica-set" }))}, "cart-7f9"},
	} {
		t.Run(name, func(t *testing.T) {
			events := map[string]*v1alpha1.SecurityEvent{}
			for event, pod := range map[string]string{"by-replica-set": "cart-7f9-abc", "about-another": "web-1"} {
				events[event] = shellEvent("soc", event, pod)
				events[event].Status.Assessment.Workload = "cart-7f9"
			}
			pod := &v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "cart-7f9-abc", UID: "p1"}
			got := formerWorkload(one.incidents, pod, func(_ *v1alpha1.Incident, name string) *v1alpha1.SecurityEvent { return events[name] })
			if got != one.want {
				t.Errorf("got the workload %q, want %q", got, one.want)
			}
		})
	}
}

// TestPodsOfIncident: a closed incident tells nothing, and a drill nothing about what is live.
func TestPodsOfIncident(t *testing.T) {
	for name, one := range map[string]struct {
		edit func(*v1alpha1.Incident)
		want string
	}{
		"open":   {func(*v1alpha1.Incident) {}, "[Live/p1]"},
		"drill":  {func(incident *v1alpha1.Incident) { incident.Spec.Mode = v1alpha1.ModeDrill }, "[Drill/p1]"},
		"closed": {func(incident *v1alpha1.Incident) { incident.Status.Phase = v1alpha1.PhaseClosed }, "[]"},
		"no pod": {resourceOf(func(known *v1alpha1.IncidentResource) { known.Kind = "Deployment" }), "[]"},
	} {
		incident := knows("a", 0, "p1", one.edit)
		if got := fmt.Sprint(podsOfIncident(&incident)); got != one.want {
			t.Errorf("%s: got %s, want %s", name, got, one.want)
		}
	}
}

// isolated is a pod of Deployment cart that an open incident has taken out of it.
type isolated struct {
	namespace, incident string
	pod                 *corev1.Pod
}

// isolate has an incident opened for a pod, and does to the pod what isolation does, and what
// the ReplicaSet controller does then.
func isolate(t *testing.T) isolated {
	t.Helper()
	namespace := newDomain(t)
	cartPod(t, namespace)
	mustCreate(t, shellPolicy(namespace))
	mustCreate(t, &v1alpha1.ResponsePlan{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ResponsePlanName, Namespace: namespace}, Spec: v1alpha1.ResponsePlanSpec{ServiceAccountName: "reader"},
	})
	var cached client.Reader
	startAssessor(t, namespace, nil, func(r *SecurityEventReconciler) { cached = r.Client })
	first := shellEvent(namespace, "first", "cart-7f9-abc")
	first.Spec.Resources[0].Namespace = namespace
	mustCreate(t, first)
	assessed := awaitAssessment(t, first, v1alpha1.OutcomePromoted)
	if assessed.Status.Assessment.Workload != "cart" {
		t.Fatalf("the workload is %q, want 'cart'", assessed.Status.Assessment.Workload)
	}
	pod := &corev1.Pod{}
	if err := testClient.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "cart-7f9-abc"}, pod); err != nil {
		t.Fatal(err)
	}
	setIncident(t, namespace, assessed.Status.IncidentRef.Name, func(status *v1alpha1.IncidentStatus) {
		status.Phase = v1alpha1.PhaseContainment
		status.Resources[0].State, status.Resources[0].UID = v1alpha1.ResourcePresent, v1alpha1.ObjectUID(pod.UID)
		status.Resources[0].Workload = v1alpha1.WorkloadReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "cart", UID: "d1"}
	})
	eventually(t, func(ctx context.Context) string {
		list := &v1alpha1.IncidentList{}
		key := podKey(v1alpha1.ModeLive, v1alpha1.ObjectUID(pod.UID))
		if err := cached.List(ctx, list, client.InNamespace(namespace), client.MatchingFields{indexIncidentPods: key}); err != nil || len(list.Items) != 1 {
			return fmt.Sprintf("the cache has %d incidents that know the pod (error %v)", len(list.Items), err)
		}
		return ""
	})
	taken := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"ownerReferences":null,"labels":{"app":null,"isolation.firebreak.dev/x":"true"}}}`))
	if err := testClient.Patch(t.Context(), pod, taken); err != nil {
		t.Fatal(err)
	}
	return isolated{namespace: namespace, incident: assessed.Status.IncidentRef.Name, pod: pod}
}

// remove deletes the pod, and starts another of that name that belongs to no workload.
func (i isolated) remove(t *testing.T, again bool) {
	t.Helper()
	if err := testClient.Delete(t.Context(), i.pod, &client.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}); err != nil {
		t.Fatal(err)
	}
	if again {
		mustCreate(t, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: i.namespace, Name: i.pod.Name, Labels: i.pod.Labels}, Spec: corev1.PodSpec{Containers: i.pod.Spec.Containers}})
	}
}

// TestLaterAlertAboutIsolatedPod: another alert about the pod belongs to the incident that has
// taken it out of its workload, and nothing but that very pod does.
func TestLaterAlertAboutIsolatedPod(t *testing.T) {
	for name, one := range map[string]struct {
		prepare func(*testing.T, isolated)
		alert   func(isolated, *v1alpha1.SecurityEvent)
		joins   bool
	}{
		"without its UID": {joins: true},
		"with its UID": {joins: true, alert: func(i isolated, event *v1alpha1.SecurityEvent) {
			event.Spec.Resources[0].UID = v1alpha1.ObjectUID(i.pod.UID)
		}},
		"with its UID, once it is gone": {
			joins: true, prepare: func(t *testing.T, i isolated) { i.remove(t, false) },
			alert: func(i isolated, event *v1alpha1.SecurityEvent) {
				event.Spec.Resources[0].UID = v1alpha1.ObjectUID(i.pod.UID)
			},
		},
		"once it is gone, without its UID":                {prepare: func(t *testing.T, i isolated) { i.remove(t, false) }},
		"about another pod of that name and those labels": {prepare: func(t *testing.T, i isolated) { i.remove(t, true) }},
		"with its UID, which the pod that is there has not": {
			prepare: func(t *testing.T, i isolated) { i.remove(t, true) },
			alert: func(i isolated, event *v1alpha1.SecurityEvent) {
				event.Spec.Resources[0].UID = v1alpha1.ObjectUID(i.pod.UID)
			},
		},
		"a drill": {alert: func(_ isolated, event *v1alpha1.SecurityEvent) { event.Spec.Mode = v1alpha1.ModeDrill }},
	} {
		t.Run(name, func(t *testing.T) {
			there := isolate(t)
			if one.prepare != nil {
				one.prepare(t, there)
			}
			later := shellEvent(there.namespace, "later", there.pod.Name)
			later.Spec.Resources[0].Namespace = there.namespace
			if one.alert != nil {
				one.alert(there, later)
			}
			mustCreate(t, later)
			outcome, workload := v1alpha1.OutcomePromoted, there.pod.Name
			if one.joins {
				outcome, workload = v1alpha1.OutcomeJoined, "cart"
			}
			got := awaitAssessment(t, later, outcome)
			if joined := got.Status.IncidentRef.Name == there.incident; joined != one.joins || got.Status.Assessment.Workload != workload {
				t.Errorf("it belongs to incident %q with the workload %q; the pod's is %q, and the workload must be %q",
					got.Status.IncidentRef.Name, got.Status.Assessment.Workload, there.incident, workload)
			}
		})
	}
}
