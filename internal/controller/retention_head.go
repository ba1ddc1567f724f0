package controller

import (
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// noteHead notes on the plan where the journals end, before anything goes that the last one names:
// whoever takes the last ones away leaves that behind.
func (r *RetentionReconciler) noteHead(ctx context.Context, namespace string, head *journalHead) error {
	status := v1alpha1.ResponsePlanStatus{Retention: v1alpha1.RetentionHead{Sequence: head.last.LastSequence, Hash: head.last.LastHash}}
	text, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": head.plan}, "status": status})
	if err != nil {
		return fmt.Errorf("the end of the retention journals: %w", err)
	}
	plan := &v1alpha1.ResponsePlan{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: v1alpha1.ResponsePlanName}}
	if err := r.Client.Status().Patch(ctx, plan, client.RawPatch(types.MergePatchType, text)); err != nil {
		return fmt.Errorf("note the end of the retention journals on the plan: %w", err)
	}
	return nil
}

// noteFound notes where the journals were found to end when the plan does not tell of it yet: noting it
// has failed, or an earlier version has made the last one. What the plan tells of already stays.
func (r *RetentionReconciler) noteFound(ctx context.Context, namespace string, head *journalHead) error {
	plan, err := planOf(ctx, r.Client, namespace)
	if err != nil || plan == nil || plan.Status.Retention.Sequence >= head.last.LastSequence {
		return err
	}
	return r.noteHead(ctx, namespace, head)
}

// followHead has the next journal follow the one that the plan tells of where that is not there any
// more: what is missing is missed then for ever.
func (r *RetentionReconciler) followHead(ctx context.Context, namespace string, head *journalHead) error {
	plan, err := planOf(ctx, r.Client, namespace)
	if err != nil || plan == nil {
		return err
	}
	noted := plan.Status.Retention
	if noted.Sequence == 0 || head.last != nil && noted.Sequence <= head.last.LastSequence {
		return nil
	}
	r.tellCut(ctx, namespace, head, noted)
	head.last = &v1alpha1.JournalRange{LastSequence: noted.Sequence, LastHash: noted.Hash}
	return nil
}
