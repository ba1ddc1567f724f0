package integration

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
	"github.com/firebreak-dev/firebreak/test/harness"
)

// TestLoop runs the manager and the receiver with the rights that ship, and in them
// everything that may happen to an alert.
func TestLoop(t *testing.T) {
	cluster := harness.Get(t)
	cluster.StartManager(t)
	receiver := cluster.StartReceiver(t)
	t.Run("group", func(t *testing.T) {
		tests := map[string]func(*testing.T, *scene){
			"from an alert to a closed incident": wholeLoop,
			"strangers":                          refusesStrangers,
			"no rule, then promoted":             deferredThenPromoted,
			"no rule, then dismissed":            dismissedByPerson,
			"broken rules":                       brokenRules,
			"a second pod":                       secondPod,
			"an event that does not belong":      detachedEvent,
			"nothing is eradicated unconfirmed":  confirmedByPerson,
			"repeats":                            repeats,
			"no such playbook":                   missingPlaybook,
			"an account without rights":          withoutRights,
			"a pod that vanished":                vanishedPod,
			"a pod that was replaced":            replacedPod,
			"a pod in the host's network":        hostNetworkPod,
			"other policies":                     otherPolicies,
			"kube-system":                        kubeSystem,
			"thirty forged alerts":               forgedAlerts,
			"a false positive":                   falsePositive,
			"the red button":                     redButton,
		}
		maps.Copy(tests, scenarios)
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, newScene(t, cluster, receiver))
			})
		}
	})
}

// scene is a domain with a plan, a policy, a playbook and a shop to watch over.
type scene struct {
	*harness.Domain
	receiver *harness.ReceiverProcess
	sender   harness.Sender
	// jane manages incidents.
	jane client.Client
	// seen is when everything was seen that drills and live reports tell.
	seen metav1.Time
}

const contain = "contain"

func newScene(t *testing.T, cluster *harness.Cluster, receiver *harness.ReceiverProcess) *scene {
	t.Helper()
	d := cluster.NewDomain(t)
	s := &scene{Domain: d, receiver: receiver, sender: d.NewSender(t, "falco"), jane: d.As(t, jane, "security-oncall"), seen: metav1.Now()}
	d.Bind(t, d.Namespace, "firebreak-incident-manager", harness.User(jane))
	d.ServiceAccount(t, "reader", harness.ReadRules()...)
	d.ServiceAccount(t, contain, harness.ContainRules()...)
	match := fmt.Sprintf("event.submittedBy == %q && event.source.rule == 'Terminal shell in container'", s.sender.User)
	for _, object := range []client.Object{
		harness.MakePlan(d.Namespace, "reader", func(p *v1alpha1.ResponsePlan) {
			p.Spec.Roles = []v1alpha1.PlanRole{{Name: "IncidentManager", Subjects: []v1alpha1.RoleSubject{{Kind: v1alpha1.RoleSubjectGroup, Name: "security-oncall"}}}}
		}),
		playbook(d.Namespace),
		harness.MakePolicy(d.Namespace, match, contain),
	} {
		done(t, d.Client.Create(t.Context(), object))
	}
	harness.WaitFor(t, d.Client, harness.MakePolicy(d.Namespace, "", ""), "the policy to be ready", func(p *v1alpha1.ClassificationPolicy) bool {
		return isTrue(p.Status.Conditions, v1alpha1.ConditionReady)
	})
	harness.WaitFor(t, d.Client, harness.MakePlan(d.Namespace, ""), "the domain to be guarded", func(p *v1alpha1.ResponsePlan) bool {
		return isTrue(p.Status.Conditions, v1alpha1.ConditionGuarded)
	})
	return s
}

// playbook goes through all phases.
func playbook(namespace string) *v1alpha1.ResponsePlaybook {
	return harness.MakePlaybook(namespace, contain, contain, func(p *v1alpha1.ResponsePlaybook) {
		quick := v1alpha1.Retry{Attempts: 5, Backoff: &metav1.Duration{Duration: 100 * time.Millisecond}}
		p.Spec.Containment.Steps = []v1alpha1.PlaybookStep{
			{Name: "preserve", Parallel: "first", Target: v1alpha1.TargetPods, Collect: &v1alpha1.CollectAction{}, OnFailure: v1alpha1.OnFailureContinue, Retry: quick},
			{Name: "isolate", Parallel: "first", Target: v1alpha1.TargetPods, Isolate: &v1alpha1.IsolateAction{}, Retry: quick},
		}
		p.Spec.Eradication.Steps = []v1alpha1.PlaybookStep{
			{Name: "ok-to-delete", Approve: &v1alpha1.ApproveAction{Role: "IncidentManager", Message: "Is the evidence complete?"}},
			{Name: "delete-pod", Target: v1alpha1.TargetPods, Delete: &v1alpha1.DeleteAction{GracePeriodSeconds: ptr.To[int64](0)}, OnNoTargets: v1alpha1.OnNoTargetsSkip},
		}
		p.Spec.Recovery.Steps = []v1alpha1.PlaybookStep{
			{Name: "release", Revert: &v1alpha1.RevertAction{Steps: []v1alpha1.StepName{"isolate"}}},
			{Name: "healthy", Target: v1alpha1.TargetWorkloads, Verify: &v1alpha1.VerifyAction{
				Expression: "objects.all(w, w.?status.?readyReplicas.orValue(0) == w.spec.replicas)",
			}},
		}
	})
}

func isTrue(conditions []metav1.Condition, kind string) bool {
	return slices.ContainsFunc(conditions, func(c metav1.Condition) bool { return c.Type == kind && c.Status == metav1.ConditionTrue })
}

// shop makes a Deployment of three pods and gives the first.
func (s *scene) shop(t *testing.T, name string) *corev1.Pod {
	t.Helper()
	_, set := s.FakeWorkload(t, client.ObjectKey{Namespace: s.Target, Name: name}, 3)
	var first *corev1.Pod
	for _, suffix := range []string{"a", "b", "c"} {
		pod := s.FakePod(t, client.ObjectKey{Namespace: s.Target, Name: set.Name + "-" + suffix}, harness.PodLabels(name), set)
		if first == nil {
			first = pod
		}
	}
	return first
}

// alert posts Falco's alert for a shell in a pod; the receiver must take it.
func (s *scene) alert(t *testing.T, pod string) {
	t.Helper()
	answer := s.receiver.Post(t, s.Namespace, "falco", s.sender.Token, harness.FalcoAlert(s.Target, pod, time.Now()))
	if answer.Code/100 != 2 {
		t.Fatalf("the receiver answers %d: %s, want 2xx", answer.Code, answer.Body)
	}
}

// incident waits for the one incident of the domain.
func (s *scene) incident(t *testing.T) *v1alpha1.Incident {
	t.Helper()
	incident := &v1alpha1.Incident{}
	harness.Eventually(t, harness.Patience, "an incident", func(ctx context.Context) error {
		var list v1alpha1.IncidentList
		if err := s.Client.List(ctx, &list, client.InNamespace(s.Namespace)); err != nil {
			return err
		}
		if len(list.Items) != 1 {
			return fmt.Errorf("there are %d incidents, want 1", len(list.Items))
		}
		incident = &list.Items[0]
		return nil
	})
	return incident
}

// until waits until something is true of the incident.
func (s *scene) until(t *testing.T, incident *v1alpha1.Incident, what string, holds func(*v1alpha1.Incident) bool) {
	t.Helper()
	harness.WaitFor(t, s.Client, incident, what, holds)
}

func inPhase(phase v1alpha1.Phase) func(*v1alpha1.Incident) bool {
	return func(i *v1alpha1.Incident) bool { return i.Status.Phase == phase }
}

func step(incident *v1alpha1.Incident, name string) v1alpha1.IncidentStep {
	for _, step := range incident.Status.Steps {
		if step.Name == name {
			return step
		}
	}
	return v1alpha1.IncidentStep{}
}

func awaited(incident *v1alpha1.Incident, kind v1alpha1.AwaitingType) *v1alpha1.Awaiting {
	for i := range incident.Status.Awaiting {
		if incident.Status.Awaiting[i].Type == kind {
			return &incident.Status.Awaiting[i]
		}
	}
	return nil
}

// decide creates a Decision in jane's name and waits until it was answered.
func (s *scene) decide(t *testing.T, decision *v1alpha1.Decision) metav1.Condition {
	t.Helper()
	done(t, s.jane.Create(t.Context(), decision))
	var answer metav1.Condition
	harness.WaitFor(t, s.Client, decision, "an answer to the Decision", func(d *v1alpha1.Decision) bool {
		for _, condition := range d.Status.Conditions {
			if condition.Type == v1alpha1.ConditionAccepted {
				answer = condition
				return true
			}
		}
		return false
	})
	return answer
}

// accept is decide where the Decision must be accepted.
func (s *scene) accept(t *testing.T, decision *v1alpha1.Decision) {
	t.Helper()
	if answer := s.decide(t, decision); answer.Status != metav1.ConditionTrue {
		t.Fatalf("the Decision %s must be accepted, but: %s: %s", decision.Spec.Type, answer.Reason, answer.Message)
	}
}

// approve approves what is awaited, as it was shown.
func (s *scene) approve(t *testing.T, incident *v1alpha1.Incident) {
	t.Helper()
	s.until(t, incident, "an approval to be awaited", func(i *v1alpha1.Incident) bool { return awaited(i, v1alpha1.AwaitingApproval) != nil })
	shown := awaited(incident, v1alpha1.AwaitingApproval)
	s.accept(t, harness.MakeDecision(s.Namespace, incident.Name, jane, v1alpha1.DecisionApprove, func(d *v1alpha1.Decision) {
		d.Spec.Step, d.Spec.Digest, d.Spec.Role = shown.Step, shown.Digest, shown.Role
		d.Spec.Groups = []string{"security-oncall"}
	}))
}

func (s *scene) closeIncident(t *testing.T, incident *v1alpha1.Incident, resolution v1alpha1.Resolution) {
	t.Helper()
	s.accept(t, harness.MakeDecision(s.Namespace, incident.Name, jane, v1alpha1.DecisionClose, func(d *v1alpha1.Decision) { d.Spec.Resolution = resolution }))
	s.until(t, incident, "the incident to be closed", inPhase(v1alpha1.PhaseClosed))
}

// policiesSelecting are the NetworkPolicies of the shop that select this pod and were
// not there before.
func (s *scene) policiesSelecting(t *testing.T, pod *corev1.Pod) []string {
	t.Helper()
	var list networkingv1.NetworkPolicyList
	done(t, s.Client.List(t.Context(), &list, client.InNamespace(s.Target)))
	var names []string
	for _, policy := range list.Items {
		selector, err := metav1.LabelSelectorAsSelector(&policy.Spec.PodSelector)
		done(t, err)
		if selector.Matches(labels.Set(pod.Labels)) {
			names = append(names, policy.Name)
		}
	}
	return names
}

func wholeLoop(t *testing.T, s *scene) {
	pod := s.shop(t, "cart")
	s.alert(t, pod.Name)
	incident := s.incident(t)

	s.until(t, incident, "the pod to be contained", func(i *v1alpha1.Incident) bool { return isTrue(i.Status.Conditions, v1alpha1.ConditionContained) })
	if isolate := step(incident, "isolate"); len(isolate.Targets) != 1 || isolate.Targets[0].UID != v1alpha1.ObjectUID(pod.UID) || isolate.Targets[0].Proof != v1alpha1.ProofComputed {
		t.Errorf("got the step %+v, want one target, the pod %s, with proof Computed", isolate, pod.UID)
	}
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod))
	if selecting := s.policiesSelecting(t, pod); len(selecting) != 1 {
		t.Errorf("the pod is selected by the policies %v, want one that isolates it", selecting)
	}
	sibling := &corev1.Pod{}
	done(t, s.Client.Get(t.Context(), client.ObjectKey{Namespace: s.Target, Name: "cart-7f9-b"}, sibling))
	if selecting := s.policiesSelecting(t, sibling); len(selecting) != 0 {
		t.Errorf("the sibling is selected by the policies %v, want none: only the pod named is isolated", selecting)
	}

	s.accept(t, harness.MakeDecision(s.Namespace, incident.Name, jane, v1alpha1.DecisionAcknowledge))
	s.approve(t, incident)
	s.until(t, incident, "the pod to be deleted", func(i *v1alpha1.Incident) bool { return step(i, "delete-pod").State == v1alpha1.StepSucceeded })
	if err := s.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), &corev1.Pod{}); !apierrors.IsNotFound(err) {
		t.Errorf("the pod must be gone, but: %v", err)
	}

	s.until(t, incident, "the incident to be in review", inPhase(v1alpha1.PhaseReview))
	if selecting := s.policiesSelecting(t, pod); len(selecting) != 0 {
		t.Errorf("after the revert the policies %v are left, want none", selecting)
	}
	for _, condition := range []string{v1alpha1.ConditionAcknowledged, v1alpha1.ConditionContained, v1alpha1.ConditionEradicated, v1alpha1.ConditionRecovered} {
		if !isTrue(incident.Status.Conditions, condition) {
			t.Errorf("%s is not True: %+v", condition, incident.Status.Conditions)
		}
	}
	s.until(t, incident, "the close to be awaited", func(i *v1alpha1.Incident) bool { return awaited(i, v1alpha1.AwaitingClose) != nil })
	s.closeIncident(t, incident, v1alpha1.ResolutionResolved)
	s.checkRecord(t, incident)
}

// checkRecord holds the incident to leave a whole record behind.
func (s *scene) checkRecord(t *testing.T, incident *v1alpha1.Incident) {
	t.Helper()
	s.until(t, incident, "all entries to be projected", func(i *v1alpha1.Incident) bool {
		return i.Status.Audit.Sequence > 0 && i.Status.Audit.ProjectedSequence == i.Status.Audit.Sequence
	})
	if err := audit.Verify(&incident.Status); err != nil {
		t.Errorf("the timeline must verify: %v", err)
	}
	var events eventsv1.EventList
	done(t, s.Client.List(t.Context(), &events, client.InNamespace(s.Namespace), client.MatchingLabels{v1alpha1.LabelIncident: incident.Name}))
	if got, want := int64(len(events.Items)), incident.Status.Audit.Sequence; got != want {
		t.Errorf("got %d Events, want %d: one for each entry of the timeline", got, want)
	}
	var lessons v1alpha1.LessonLearnedList
	done(t, s.Client.List(t.Context(), &lessons, client.InNamespace(s.Namespace)))
	var evidence v1alpha1.EvidenceList
	done(t, s.Client.List(t.Context(), &evidence, client.InNamespace(s.Namespace)))
	if len(lessons.Items) != 1 || len(evidence.Items) == 0 {
		t.Errorf("got %d lessons and %d pieces of evidence, want 1 and some", len(lessons.Items), len(evidence.Items))
	}
	for _, piece := range evidence.Items {
		if !isTrue(piece.Status.Conditions, v1alpha1.ConditionStored) || piece.Spec.CollectedBy != harness.AccountUser(s.Namespace, contain) {
			t.Errorf("the evidence %s must be stored, and collected by the playbook's ServiceAccount: %+v", piece.Name, piece)
		}
	}
	var sent v1alpha1.SecurityEventList
	done(t, s.Client.List(t.Context(), &sent, client.InNamespace(s.Namespace)))
	for _, event := range sent.Items {
		if event.Status.IncidentRef.Name != incident.Name || event.Spec.SubmittedBy != s.sender.User {
			t.Errorf("the event %s must belong to %s and be submitted by %s: %+v", event.Name, incident.Name, s.sender.User, event)
		}
	}
}

// refusesStrangers is what the receiver owes its domain.
func refusesStrangers(t *testing.T, s *scene) {
	alert := harness.FalcoAlert(s.Target, "cart", time.Now())
	for name, test := range map[string]struct {
		token, namespace string
		code             int
	}{
		"without a token":                    {"", s.Namespace, http.StatusUnauthorized},
		"with a token of nobody":             {"forged", s.Namespace, http.StatusUnauthorized},
		"with a token for another audience":  {s.Token(t, s.Namespace, "falco"), s.Namespace, http.StatusUnauthorized},
		"in a namespace that is not his":     {s.sender.Token, s.Target, http.StatusForbidden},
		"in a namespace that does not exist": {s.sender.Token, "nowhere", http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			if answer := s.receiver.Post(t, test.namespace, "falco", test.token, alert); answer.Code != test.code {
				t.Errorf("the receiver answers %d: %s, want %d", answer.Code, answer.Body, test.code)
			}
		})
	}
}
