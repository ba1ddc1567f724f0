package integration

import (
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

func init() {
	maps.Copy(scenarios, map[string]func(*testing.T, *scene){
		"a verify that watches":        watchedVerify,
		"a verify that must not watch": polledVerify,
	})
}

// verifying brings an incident to a verify step that does not hold yet.
func (s *scene) verifying(t *testing.T, says string, rules ...rbacv1.PolicyRule) (*v1alpha1.Incident, *corev1.Pod) {
	t.Helper()
	const account = "verifier"
	s.ServiceAccount(t, account, append(rules, harness.ReadRules()...)...)
	s.editPlaybook(t, func(p *v1alpha1.ResponsePlaybookSpec) {
		p.ServiceAccountName = account
		p.Containment.Steps = []v1alpha1.PlaybookStep{{Name: "look", Target: v1alpha1.TargetPods, Verify: &v1alpha1.VerifyAction{
			Expression: `objects.all(p, p.metadata.?labels["clean"].orValue("") == "yes")`,
		}}}
		p.Eradication, p.Recovery = v1alpha1.PlaybookPhase{}, v1alpha1.PlaybookPhase{}
	})
	pod := s.shop(t, "cart")
	s.alert(t, pod.Name)
	incident := s.incident(t)
	s.until(t, incident, "the step to say how it looks", func(i *v1alpha1.Incident) bool { return strings.Contains(step(i, "look").Message, says) })
	return incident, pod
}

// clean makes the step's condition hold.
func (s *scene) clean(t *testing.T, incident *v1alpha1.Incident, pod *corev1.Pod) {
	t.Helper()
	done(t, patch(t, s.Client, pod, func(p *corev1.Pod) { p.Labels["clean"] = "yes" }))
	s.until(t, incident, "the step to succeed", func(i *v1alpha1.Incident) bool { return step(i, "look").State == v1alpha1.StepSucceeded })
}

// watchedVerify: the next look is further away than the test waits, so it is the change
// that wakes the incident.
func watchedVerify(t *testing.T, s *scene) {
	incident, pod := s.verifying(t, "they are watched", harness.Rule("", []string{"pods"}, []string{"watch"}))
	next := step(incident, "look").NextTime
	if next == nil || time.Until(next.Time) <= harness.Patience {
		t.Fatalf("the next look is at %v, want it to be further away than the test waits", next)
	}
	s.clean(t, incident, pod)
}

// polledVerify: without the right to watch it is looked at every second, and the step says why.
func polledVerify(t *testing.T, s *scene) {
	incident, pod := s.verifying(t, "system:serviceaccount:"+s.Namespace+":verifier may not watch Pod")
	s.clean(t, incident, pod)
}
