package action_test

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// losing loses the answer to one read, after so many that come.
type losing struct {
	client.Client
	after *int
}

func (l losing) lost() error {
	if *l.after--; *l.after == -1 {
		return apierrors.NewServiceUnavailable("later")
	}
	return nil
}

func (l losing) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if err := l.lost(); err != nil {
		return err
	}
	return l.Client.Get(ctx, key, object, options...)
}

func (l losing) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	if err := l.lost(); err != nil {
		return err
	}
	return l.Client.List(ctx, list, options...)
}

// A node is not drained as long as a pod is left on it, whichever answer is lost.
func TestDrainWhoseAnswersAreLost(t *testing.T) {
	w := newClusterWorld(t, drainRights)
	node := w.node("n1")
	w.pod("cart-1", w.replicaSet(), cartLabels, func(pod *corev1.Pod) { pod.Spec.NodeName = node.Name })
	step := &v1alpha1.PlaybookStep{Name: "drain", Target: v1alpha1.TargetNodes, Drain: &v1alpha1.DrainAction{}}
	request := w.request(w.incident("inc-1"), step, node)
	drain := do(t, "drain")
	w.planned("drain", request)
	w.expect("Apply", drain.Apply(t.Context(), request), v1alpha1.TargetApplied, "are ending")
	// Node, node again, pods: with all of them there it is as it was.
	for reads := range 4 {
		after, state := reads, v1alpha1.TargetFailed
		request.Client = losing{w.client, &after}
		result := drain.Observe(t.Context(), request)
		if after >= 0 {
			state = v1alpha1.TargetApplied
		}
		w.expect(fmt.Sprintf("Observe without the answer to read %d", reads+1), result, state)
		if result.Permanent {
			t.Errorf("read %d must be tried again", reads+1)
		}
	}
}
