package harness

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// PodLabels are what FakePod and FakeWorkload label and select by, for one name.
func PodLabels(app string) map[string]string { return map[string]string{"app": app} }

// FakePod makes a pod that looks as if a kubelet ran it. The owner, if any, becomes its
// controller.
func (c *Cluster) FakePod(t testing.TB, key client.ObjectKey, labels map[string]string, owner client.Object, edit ...func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Labels: labels},
		Spec: corev1.PodSpec{
			NodeName: "node-1",
			// Nobody ends it: without a kubelet a grace period would last for ever.
			TerminationGracePeriodSeconds: ptr.To[int64](0),
			Containers:                    []corev1.Container{{Name: "app", Image: "registry.example.com/app:1.0"}},
		},
	}
	if owner != nil {
		pod.OwnerReferences = []metav1.OwnerReference{controllerReference(t, c, owner)}
	}
	for _, change := range edit {
		change(pod)
	}
	c.create(t, pod)
	c.FakeRunning(t, pod)
	return pod
}

// FakeRunning gives a pod the status a kubelet would.
func (c *Cluster) FakeRunning(t testing.TB, pod *corev1.Pod) {
	t.Helper()
	now := metav1.NewTime(time.Now())
	pod.Status.Phase = corev1.PodRunning
	pod.Status.PodIP = "10.0.0.7"
	pod.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.7"}}
	pod.Status.StartTime = &now
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: now}}
	pod.Status.ContainerStatuses = nil
	for _, container := range pod.Spec.Containers {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: container.Name, Image: container.Image, Ready: true,
			ImageID:     "registry.example.com/app@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
			ContainerID: "containerd://" + string(pod.UID),
			State:       corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		})
	}
	if err := c.Client.Status().Update(t.Context(), pod); err != nil {
		t.Fatalf("the status of pod %s: %v", pod.Name, err)
	}
}

// FakeWorkload makes a Deployment and its ReplicaSet that look as if their controllers
// had made all replicas ready. Pods are made with FakePod, owned by the ReplicaSet.
func (c *Cluster) FakeWorkload(t testing.TB, key client.ObjectKey, replicas int32) (*appsv1.Deployment, *appsv1.ReplicaSet) {
	t.Helper()
	selector := &metav1.LabelSelector{MatchLabels: PodLabels(key.Name)}
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: PodLabels(key.Name)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.example.com/app:1.0"}}},
	}
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Labels: PodLabels(key.Name)},
		Spec:       appsv1.DeploymentSpec{Replicas: &replicas, Selector: selector, Template: template},
	}
	c.create(t, deployment)
	set := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: key.Namespace, Name: key.Name + "-7f9", Labels: PodLabels(key.Name),
			OwnerReferences: []metav1.OwnerReference{controllerReference(t, c, deployment)},
		},
		Spec: appsv1.ReplicaSetSpec{Replicas: &replicas, Selector: selector, Template: template},
	}
	c.create(t, set)
	deployment.Status = appsv1.DeploymentStatus{
		ObservedGeneration: deployment.Generation, Replicas: replicas, UpdatedReplicas: replicas,
		ReadyReplicas: replicas, AvailableReplicas: replicas,
	}
	set.Status = appsv1.ReplicaSetStatus{
		ObservedGeneration: set.Generation, Replicas: replicas, FullyLabeledReplicas: replicas,
		ReadyReplicas: replicas, AvailableReplicas: replicas,
	}
	for _, object := range []client.Object{deployment, set} {
		if err := c.Client.Status().Update(t.Context(), object); err != nil {
			t.Fatalf("the status of %s: %v", object.GetName(), err)
		}
	}
	return deployment, set
}

func controllerReference(t testing.TB, c *Cluster, owner client.Object) metav1.OwnerReference {
	t.Helper()
	kinds, _, err := c.Scheme.ObjectKinds(owner)
	if err != nil || len(kinds) == 0 {
		kinds = []schema.GroupVersionKind{owner.GetObjectKind().GroupVersionKind()}
	}
	return *metav1.NewControllerRef(owner, kinds[0])
}
