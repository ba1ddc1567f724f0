package action

import (
	"context"
	"io"

	corev1 "k8s.io/api/core/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// PodLogs reads logs through the API server, with the identity of its client.
type PodLogs struct {
	// Pods is the client; it must act as the playbook's ServiceAccount.
	Pods typedcorev1.PodsGetter
}

var _ LogReader = PodLogs{}

// OpenLog opens the log of one container of a pod. The caller closes it.
func (l PodLogs) OpenLog(ctx context.Context, namespace, pod string, options *corev1.PodLogOptions) (io.ReadCloser, error) {
	return l.Pods.Pods(namespace).GetLogs(pod, options).Stream(ctx)
}
