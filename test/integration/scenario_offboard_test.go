package integration

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/cli"
	"github.com/firebreak-dev/firebreak/test/harness"
)

func init() {
	maps.Copy(scenarios, map[string]func(*testing.T, *scene){
		"a domain that is offboarded":        offboarded,
		"a domain with nothing to undo":      offboardedIdle,
		"a domain whose plan undoes nothing": offboardedPaused,
	})
}

// platform is somebody who may do everything, with a kubeconfig.
func (s *scene) platform(t *testing.T) string {
	t.Helper()
	const name = "platform"
	done(t, s.Client.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: s.Target, Name: name}}))
	done(t, s.Client.Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name + "-" + s.Target},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{harness.Account(s.Target, name)},
	}))
	s.WaitAllowed(t, s.Namespace, harness.Account(s.Target, name), []rbacv1.PolicyRule{harness.Rule("firebreak.dev", []string{"incidents"}, []string{"close"})})
	return s.Kubeconfig(t, s.Target, name)
}

// offboard runs the command as the platform's account.
func (s *scene) offboard(t *testing.T, kubeconfig string, code int, flags ...string) (out, errOut string) {
	t.Helper()
	streams, _, stdout, stderr := genericiooptions.NewTestIOStreams()
	args := slices.Concat([]string{"offboard", "-n", s.Namespace, "--kubeconfig", kubeconfig}, flags)
	if got := cli.Run(t.Context(), args, cli.Config{Streams: streams}); got != code {
		t.Fatalf("%v: exit code %d, want %d\n%s\n%s", args, got, code, stdout, stderr)
	}
	return stdout.String(), stderr.String()
}

// noDomainAnyMore checks that the namespace is an ordinary one, and can be deleted.
func (s *scene) noDomainAnyMore(t *testing.T) {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.Namespace}}
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(namespace), namespace))
	if _, labelled := namespace.Labels[v1alpha1.LabelDomain]; labelled {
		t.Error("the label is still there")
	}
	binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: v1alpha1.ImpersonatorClusterRole}}
	if err := s.Client.Get(t.Context(), client.ObjectKeyFromObject(binding), binding); !apierrors.IsNotFound(err) {
		t.Errorf("the RoleBinding is still there: %v", err)
	}
	done(t, s.As(t, "root", harness.Masters).Delete(t.Context(), namespace))
}

func (s *scene) policyNames(t *testing.T) []string {
	t.Helper()
	list := &networkingv1.NetworkPolicyList{}
	done(t, s.Client.List(t.Context(), list, client.InNamespace(s.Target)))
	var names []string
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	return names
}

// offboarded: what was done is undone before the domain is one no more, also when the
// command was interrupted on its way.
func offboarded(t *testing.T, s *scene) {
	kubeconfig := s.platform(t)
	pod := s.shop(t, "cart")
	before, policies := maps.Clone(pod.Labels), s.policyNames(t)
	s.alert(t, pod.Name)
	incident := s.incident(t)
	s.until(t, incident, "the pod to be contained", func(i *v1alpha1.Incident) bool { return isTrue(i.Status.Conditions, v1alpha1.ConditionContained) })
	s.accept(t, harness.MakeDecision(s.Namespace, incident.Name, jane, v1alpha1.DecisionPause))

	_, asks := s.offboard(t, kubeconfig, cli.ExitRefused, "--reason", "moving")
	for _, part := range []string{"has 1 open incidents", incident.Name, "stands: isolate of Pod " + s.Target + "/" + pod.Name, "--revert"} {
		if !strings.Contains(asks, part) {
			t.Errorf("the refusal must say %q:\n%s", part, asks)
		}
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.Namespace}}
	refused(t, s.As(t, "root", harness.Masters).Delete(t.Context(), namespace), "remove the label 'firebreak.dev/domain' first")

	begun, says := s.offboard(t, kubeconfig, cli.ExitError, "--revert", "--reason", "moving", "--within", "1ns")
	if !strings.Contains(says, "run the same command again") {
		t.Errorf("what was not finished must say how it goes on:\n%s", says)
	}
	out, _ := s.offboard(t, kubeconfig, cli.ExitOK, "--revert", "--reason", "moving")
	for _, part := range []string{incident.Name + " closes as FalsePositive", incident.Name + " goes on", "the automation of " + s.Namespace + " goes on", "label firebreak.dev/domain removed", "rolebinding firebreak-impersonator deleted", s.Namespace + " is no response domain."} {
		if !strings.Contains(begun+out, part) {
			t.Errorf("each step must be seen, want %q:\n%s%s", part, begun, out)
		}
	}
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(incident), incident))
	if incident.Status.Phase != v1alpha1.PhaseClosed || step(incident, "isolate").State != v1alpha1.StepReverted {
		t.Errorf("the incident is in phase %s, and isolate is %s", incident.Status.Phase, step(incident, "isolate").State)
	}
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod))
	if diff := cmp.Diff(before, pod.Labels); diff != "" {
		t.Errorf("the pod's labels (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(policies, s.policyNames(t)); diff != "" {
		t.Errorf("policies (-before +after):\n%s", diff)
	}
	s.offboard(t, kubeconfig, cli.ExitOK) // nothing is left to do
	s.noDomainAnyMore(t)
}

// offboardedIdle: without open incidents nothing is asked but why.
func offboardedIdle(t *testing.T, s *scene) {
	kubeconfig := s.platform(t)
	if _, says := s.offboard(t, kubeconfig, cli.ExitError); !strings.Contains(says, "the reason is missing") {
		t.Errorf("it must ask why:\n%s", says)
	}
	out, _ := s.offboard(t, kubeconfig, cli.ExitOK, "--reason", "moving")
	if !strings.Contains(out, "the automation of "+s.Namespace+" is stopped") {
		t.Errorf("the automation must be stopped first:\n%s", out)
	}
	s.noDomainAnyMore(t)
}

// offboardedPaused: where nothing can be undone, nothing is taken away.
func offboardedPaused(t *testing.T, s *scene) {
	kubeconfig := s.platform(t)
	pod := s.shop(t, "cart")
	s.alert(t, pod.Name)
	incident := s.incident(t)
	s.until(t, incident, "the pod to be contained", func(i *v1alpha1.Incident) bool { return isTrue(i.Status.Conditions, v1alpha1.ConditionContained) })
	plan := harness.MakePlan(s.Namespace, "reader")
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(plan), plan))
	done(t, patch(t, s.Client, plan, func(p *v1alpha1.ResponsePlan) { p.Spec.Response = v1alpha1.ResponsePaused }))
	_, says := s.offboard(t, kubeconfig, cli.ExitRefused, "--revert", "--reason", "moving")
	if !strings.Contains(says, "nothing is undone while the plan's `response` is 'Paused'") {
		t.Errorf("it must say what keeps it from undoing:\n%s", says)
	}
	namespace := &corev1.Namespace{}
	done(t, s.Client.Get(t.Context(), client.ObjectKey{Name: s.Namespace}, namespace))
	if _, labelled := namespace.Labels[v1alpha1.LabelDomain]; !labelled || !s.isolated(t)[pod.Name] {
		t.Error("it must stay a domain, and the pod isolated")
	}
}
