package action_test

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// inGit makes an object say that a Kustomization of Flux manages it.
func (w *world) inGit(object client.Object) {
	w.Helper()
	w.patch(object, `{"metadata":{"labels":{"kustomize.toolkit.fluxcd.io/name":"shop","kustomize.toolkit.fluxcd.io/namespace":"flux-system"}}}`)
}

const ofFlux = "is managed by Flux Kustomization flux-system/shop"

// TestPlansNameWhoWouldFight changes objects that a GitOps controller manages: each plan
// names it, and says nothing of the kind about an object of nobody.
func TestPlansNameWhoWouldFight(t *testing.T) {
	w := newWorld(t, gitopsRights)
	selector := byLabel("app", "cart")
	deployment := func() client.Object {
		return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, GenerateName: "cart-"},
			Spec: appsv1.DeploymentSpec{Selector: &selector, Template: template(map[string]string{"app": "cart"})}}
	}
	pod := func() client.Object {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, GenerateName: "cart-"}, Spec: template(nil).Spec}
	}
	job := func() client.Object {
		run := template(nil)
		run.Spec.RestartPolicy = corev1.RestartPolicyNever
		return &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, GenerateName: "cart-"},
			Spec: batchv1.CronJobSpec{Schedule: "0 0 * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: run}}}}
	}
	for name, test := range map[string]struct {
		step *v1alpha1.PlaybookStep
		made func() client.Object
	}{
		"isolate":    {isolateStep(), pod},
		"quarantine": {quarantineStep(""), pod},
		"scale":      {scaleStep(0), deployment},
		"restart":    {restartStep(), deployment},
		"patch":      {patchStep(`{"spec": {"paused": true}}`), deployment},
		"suspend":    {suspendStep(), job},
		"delete":     {&v1alpha1.PlaybookStep{Name: "delete", Delete: &v1alpha1.DeleteAction{}}, deployment},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{T: t, domain: w.domain, shop: w.shop, client: w.client, user: w.user}
			free, managed := test.made(), test.made()
			w.create(free)
			w.create(managed)
			w.inGit(managed)
			plan := do(t, name).Plan(t.Context(), w.request(w.incident("inc-1"), test.step, free))
			if w.expect("Plan of nobody's", plan, v1alpha1.TargetActing); plan.Warning != "" {
				t.Errorf("warns of nobody: %q", plan.Warning)
			}
			plan = do(t, name).Plan(t.Context(), w.request(w.incident("inc-1"), test.step, managed))
			if w.expect("Plan of Flux's", plan, v1alpha1.TargetActing); !strings.Contains(plan.Warning, ofFlux) || !strings.Contains(plan.Warning, managed.GetName()) {
				t.Errorf("warning is %q, want %q in it", plan.Warning, ofFlux)
			}
		})
	}
}

var gitopsRights = append([]rbacv1.PolicyRule{
	{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "patch"}},
	{APIGroups: []string{""}, Resources: []string{"services"}, Verbs: []string{"list"}},
	{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, Verbs: []string{"get", "patch"}},
	{APIGroups: []string{"batch"}, Resources: []string{"cronjobs"}, Verbs: []string{"get", "patch"}},
	{APIGroups: []string{"networking.k8s.io"}, Resources: []string{"networkpolicies"}, Verbs: []string{"list", "patch"}},
}, scaleRights...)

// TestLossesNameWhoManages takes effects away as Flux would: what is said of it names Flux.
func TestLossesNameWhoManages(t *testing.T) {
	w := newWorld(t, gitopsRights)
	deployment := w.workloadOf("cart", 3)
	w.inGit(deployment)
	scaled := w.request(w.incident("inc-1"), scaleStep(0), deployment)
	w.applied("scale", scaled)
	w.patch(deployment, `{"spec":{"replicas":3}}`)
	w.expect("Observe", do(t, "scale").Observe(t.Context(), scaled), v1alpha1.TargetFailed, "something has scaled Deployment 'cart' to 3 replicas", "it "+ofFlux)

	paused := w.valued(w.incident("inc-2"), patchStep(`{"spec": {"paused": true}}`), deployment)
	w.carryOut("patch", paused)
	w.patch(deployment, `{"spec":{"paused":false}}`)
	w.expect("Observe", do(t, "patch").Observe(t.Context(), paused), v1alpha1.TargetFailed, "something has changed", "it "+ofFlux)
}
