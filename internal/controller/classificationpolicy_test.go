package controller

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// editMatch changes what a rule of a policy matches.
func editMatch(t *testing.T, policy *v1alpha1.ClassificationPolicy, match v1alpha1.Expression) {
	t.Helper()
	if err := testClient.Get(t.Context(), client.ObjectKeyFromObject(policy), policy); err != nil {
		t.Fatal(err)
	}
	policy.Spec.Rules[0].Match = match
	if err := testClient.Update(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
}

func revisionsIn(t *testing.T, namespace string) []appsv1.ControllerRevision {
	t.Helper()
	list := &appsv1.ControllerRevisionList{}
	if err := testClient.List(t.Context(), list, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// TestLastGoodGenerationOutlivesTheManager: what was in force is so after a restart, although
// the text that is there does not compile.
func TestLastGoodGenerationOutlivesTheManager(t *testing.T) {
	namespace := newDomain(t)
	first := startAssessor(t, namespace, nil)
	policy := shellPolicy(namespace)
	mustCreate(t, policy)
	awaitReady(t, policy, metav1.ConditionTrue, "2 rules are in force")
	if kept := policy.Status.InForce; kept.Generation != 1 || len(policy.Status.Revisions) != 1 || policy.Status.Revisions[0] != kept {
		t.Fatalf("got the status %+v", policy.Status)
	}
	revisions := revisionsIn(t, namespace)
	if len(revisions) != 1 || revisions[0].Name != policy.Status.InForce.Revision || !metav1.IsControlledBy(&revisions[0], policy) || revisions[0].Revision != 1 {
		t.Fatalf("got the revisions %+v", revisions)
	}
	first.stop()

	editMatch(t, policy, `event.sorce.rule == "x"`)
	noise, shell := shellEvent(namespace, "noise", "cart-1"), shellEvent(namespace, "shell", "cart-1")
	noise.Spec.Source.Rule = "Noise"
	mustCreate(t, noise)
	mustCreate(t, shell)
	second := startAssessor(t, namespace, nil)
	awaitReady(t, policy, metav1.ConditionFalse, "undefined field 'sorce'; generation 1 stays in force")
	for event, want := range map[*v1alpha1.SecurityEvent]v1alpha1.AssessmentOutcome{noise: v1alpha1.OutcomeDismissed, shell: v1alpha1.OutcomePromoted} {
		got := awaitAssessment(t, event, want)
		if got.Status.Assessment.Policy.Generation != 1 || len(got.Status.EarlierAssessments) != 0 {
			t.Errorf("%s: got %+v, and before that %+v", event.Name, got.Status.Assessment, got.Status.EarlierAssessments)
		}
		asked := []v1alpha1.AskedPolicy{{Name: "runtime", Generation: 1, Answer: v1alpha1.AnswerMatched, Rules: []string{"noise", "shell-in-container"}}}
		if event == noise {
			asked[0].Rules = asked[0].Rules[:1]
		}
		if diff := cmp.Diff(asked, got.Status.Assessment.Asked); diff != "" {
			t.Errorf("%s: asked (-want +got):\n%s", event.Name, diff)
		}
	}
	second.stop()

	// One that was changed, or is gone, is not in force: nothing is dismissed by it.
	if err := testClient.Delete(t.Context(), &revisions[0]); err != nil {
		t.Fatal(err)
	}
	again := shellEvent(namespace, "again", "cart-1")
	again.Spec.Source.Rule = "Noise"
	mustCreate(t, again)
	startAssessor(t, namespace, nil)
	got := awaitAssessment(t, again, v1alpha1.OutcomeDeferred)
	if got.Status.Assessment.Reason != v1alpha1.ReasonRuleError || got.Status.Assessment.Asked[0].Answer != v1alpha1.AnswerNotUsable {
		t.Errorf("got %+v", got.Status.Assessment)
	}
	awaitReady(t, policy, metav1.ConditionFalse, "no rule of this policy is in force")
}

// TestGenerationsAreBounded: the last ten stay, and what was in force longest ago goes.
func TestGenerationsAreBounded(t *testing.T) {
	namespace := newDomain(t)
	startAssessor(t, namespace, nil)
	policy := shellPolicy(namespace)
	mustCreate(t, policy)
	awaitReady(t, policy, metav1.ConditionTrue, "")
	for i := range maxRevisions + 1 {
		editMatch(t, policy, v1alpha1.Expression(fmt.Sprintf(`event.title == "%d"`, i)))
		awaitReady(t, policy, metav1.ConditionTrue, "")
	}
	var generations []int64
	for _, kept := range policy.Status.Revisions {
		generations = append(generations, kept.Generation)
	}
	if diff := cmp.Diff([]int64{3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, generations); diff != "" {
		t.Errorf("generations (-want +got):\n%s", diff)
	}
	eventually(t, func(context.Context) string {
		if revisions := revisionsIn(t, namespace); len(revisions) != maxRevisions {
			return fmt.Sprintf("got %d revisions", len(revisions))
		}
		return ""
	})
	for _, revision := range revisionsIn(t, namespace) {
		if !strings.HasPrefix(revision.Name, "runtime-") || revision.Revision < 3 {
			t.Errorf("got revision %s of generation %d", revision.Name, revision.Revision)
		}
	}
}
