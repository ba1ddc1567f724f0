package integration

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/test/harness"
)

// readyMades are the playbooks in config/playbooks, each with what its alert is about.
var readyMades = map[string]readyMade{
	"shell-in-container": {
		build: func(t *testing.T, s *shop) { s.stall(t, "cart") },
		gone:  []string{"Pod/cart-7f9-a"},
	},
	"crypto-miner": {
		build: func(t *testing.T, s *shop) {
			template := batchv1.JobSpec{Template: corev1.PodTemplateSpec{
				Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "app", Image: "registry.example.com/cleanup:1"}}},
			}}
			cron := &batchv1.CronJob{
				ObjectMeta: metav1.ObjectMeta{Name: "report-cleanup"},
				Spec:       batchv1.CronJobSpec{Schedule: "0 3 * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: template}},
			}
			s.make(t, cron)
			job := &batchv1.Job{
				ObjectMeta: metav1.ObjectMeta{
					Name: "report-cleanup-29804340", OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(cron, batchv1.SchemeGroupVersion.WithKind("CronJob"))},
				},
				Spec: template,
			}
			s.make(t, job)
			s.FakePod(t, client.ObjectKey{Namespace: s.Target, Name: job.Name + "-x7k2p"}, harness.PodLabels("report-cleanup"), job, s.runs("cleanup:1"), func(pod *corev1.Pod) {
				pod.Spec.RestartPolicy = corev1.RestartPolicyNever
			})
		},
		gone: []string{"Pod/report-cleanup-29804340-x7k2p"},
	},
	"leaked-credentials": {
		build: func(t *testing.T, s *shop) {
			s.stall(t, "deployer", s.runsAs(t, "deployer"))
		},
		inAlert: podOfToken("deployer-7f9-a"),
		changed: restarted,
	},
	"exposed-secret-read": {
		build: func(t *testing.T, s *shop) {
			s.stall(t, "frontend", s.runsAs(t, "frontend"))
			s.make(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "payment-api"}, StringData: map[string]string{"key": "not to be seen"}})
		},
		inAlert: podOfToken("frontend-7f9-a"),
		gone:    []string{"Pod/frontend-7f9-a"},
		changed: restarted,
	},
	"privilege-escalation": {
		build: func(t *testing.T, s *shop) {
			s.runsAs(t, "ci")
			s.make(t, &rbacv1.ClusterRoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: "ci-debug"},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
				Subjects:   []rbacv1.Subject{harness.Account(s.Target, "ci"), harness.User("jdoe@example.com")},
			})
		},
		inAlert: clusterScoped("ci-debug"),
		gone:    []string{"ClusterRoleBinding/ci-debug"},
	},
	"vulnerable-image": {
		build: func(t *testing.T, s *shop) {
			s.stall(t, "search", s.runs("search:1.16"))
			// The alert names the ReplicaSet, and what it would run is refused.
			set := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: s.Target, Name: "search-7f9"}}
			done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(set), set))
			set.Spec.Template.Spec.Containers[0].Image = "registry.example.com/" + s.Target + "/search:1.16"
			done(t, s.Client.Update(t.Context(), set))
		},
	},
	"node-compromise": {
		build: func(t *testing.T, s *shop) {
			s.node(t, "worker-7")
			onNode := func(pod *corev1.Pod) { pod.Spec.NodeName = s.named("worker-7") }
			s.stall(t, "agent", onNode)
			// Its pod stays: it would be started anew on this very node.
			set := &appsv1.DaemonSet{
				ObjectMeta: metav1.ObjectMeta{Name: "logs"},
				Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: harness.PodLabels("logs")}, Template: corev1.PodTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Labels: harness.PodLabels("logs")},
					Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.example.com/logs:1"}}},
				}},
			}
			s.make(t, set)
			s.FakePod(t, client.ObjectKey{Namespace: s.Target, Name: "logs-x"}, harness.PodLabels("logs"), set, onNode)
		},
		inAlert: clusterScoped("worker-7"),
		gone:    []string{"Pod/agent-7f9-a", "Pod/agent-7f9-b"},
	},
	"data-exfiltration": {
		build: func(t *testing.T, s *shop) { s.stall(t, "orders") },
		gone:  []string{"Pod/orders-7f9-a"},
	},
	"denial-of-service": {
		build: func(t *testing.T, s *shop) {
			s.stall(t, "checkout")
			s.make(t, &networkingv1.Ingress{
				ObjectMeta: metav1.ObjectMeta{Name: "checkout", Annotations: map[string]string{"nginx.ingress.kubernetes.io/limit-rps": "1000", "team": "checkout"}},
				Spec: networkingv1.IngressSpec{DefaultBackend: &networkingv1.IngressBackend{
					Service: &networkingv1.IngressServiceBackend{Name: "checkout", Port: networkingv1.ServiceBackendPort{Number: 80}},
				}},
			})
		},
	},
	"lost-device": {people: true},
}

// podOfToken is the pod that the token was given to, by the UID it has in this test.
func podOfToken(name string) func(*testing.T, *shop) map[string]string {
	return func(t *testing.T, s *shop) map[string]string {
		t.Helper()
		pod := &corev1.Pod{}
		done(t, s.Client.Get(t.Context(), client.ObjectKey{Namespace: s.Target, Name: name}, pod))
		return map[string]string{"6d0b0f5e-51c4-4b9b-8a61-0d8b4f2f9c77": string(pod.UID)}
	}
}

// clusterScoped is an object in no namespace, by the name it has in this test.
func clusterScoped(name string) func(*testing.T, *shop) map[string]string {
	return func(_ *testing.T, s *shop) map[string]string { return map[string]string{name: s.named(name)} }
}

// restarted takes off a workload that its pods were replaced: that cannot be undone.
func restarted(object *unstructured.Unstructured) {
	unstructured.RemoveNestedField(object.Object, "spec", "template", "metadata", "annotations", "kubectl.kubernetes.io/restartedAt")
}

// make creates an object in the shop's namespace, or in none.
func (s *shop) make(t *testing.T, object client.Object) {
	t.Helper()
	switch object.(type) {
	case *corev1.Node, *rbacv1.ClusterRoleBinding:
		object.SetName(s.named(object.GetName()))
	default:
		object.SetNamespace(s.Target)
	}
	done(t, s.Client.Create(t.Context(), object))
}

// stall makes a Deployment of two pods, NAME-7f9-a and -b, a Service for it and a
// NetworkPolicy that lets everything in and out.
func (s *shop) stall(t *testing.T, name string, edit ...func(*corev1.Pod)) {
	t.Helper()
	_, set := s.FakeWorkload(t, client.ObjectKey{Namespace: s.Target, Name: name}, 2)
	for _, suffix := range []string{"-a", "-b"} {
		pod := s.FakePod(t, client.ObjectKey{Namespace: s.Target, Name: set.Name + suffix}, harness.PodLabels(name), set, edit...)
		// The digest that runs, as the image has it: no other test's pods have this one.
		pod.Status.ContainerStatuses[0].ImageID = pod.Spec.Containers[0].Image + "@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
		done(t, s.Client.Status().Update(t.Context(), pod))
	}
	s.make(t, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Selector: harness.PodLabels(name), Ports: []corev1.ServicePort{{Port: 80}}},
	})
	s.make(t, &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "allow-" + name},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: harness.PodLabels(name)},
			Ingress:     []networkingv1.NetworkPolicyIngressRule{{}}, Egress: []networkingv1.NetworkPolicyEgressRule{{}},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		},
	})
}

// runs has pods run an image of this test's own: it is refused in the whole cluster.
func (s *shop) runs(image string) func(*corev1.Pod) {
	image = "registry.example.com/" + s.Target + "/" + image
	return func(pod *corev1.Pod) { pod.Spec.Containers[0].Image = image }
}

// runsAs makes a ServiceAccount that is bound twice, together with others, and has pods
// run as it.
func (s *shop) runsAs(t *testing.T, name string) func(*corev1.Pod) {
	t.Helper()
	s.make(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}})
	view := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"}
	s.make(t, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "view"}, RoleRef: view,
		Subjects: []rbacv1.Subject{harness.User("maria@example.com"), harness.Account(s.Target, name), harness.Group("shop")},
	})
	s.make(t, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "view"}, RoleRef: view, Subjects: []rbacv1.Subject{harness.Account(s.Target, name)},
	})
	return func(pod *corev1.Pod) { pod.Spec.ServiceAccountName = name }
}

// node makes a node that is ready, and holds others' taints.
func (s *shop) node(t *testing.T, name string) {
	t.Helper()
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"pool": s.Target}},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: "dedicated", Value: "shop", Effect: corev1.TaintEffectNoSchedule}}},
	}
	s.make(t, node)
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()}}
	done(t, s.Client.Status().Update(t.Context(), node))
}
