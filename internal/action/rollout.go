package action

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// rolloutAfter is how soon a rollout is looked at again.
const rolloutAfter = 3 * time.Second

// rolloutKinds are the workloads whose controllers replace their pods when the template changes.
var rolloutKinds = []schema.GroupVersionKind{
	{Group: "apps", Version: "v1", Kind: "Deployment"},
	{Group: "apps", Version: "v1", Kind: "StatefulSet"},
	{Group: "apps", Version: "v1", Kind: "DaemonSet"},
}

// rollable reads a workload, and says why its pods would not be replaced.
func (r *Request) rollable(ctx context.Context) (*unstructured.Unstructured, *lifecycle.Result) {
	if problem := r.mustBe(rolloutKinds...); problem != nil {
		return nil, problem
	}
	object, problem := r.present(ctx)
	if problem != nil {
		return nil, problem
	}
	if paused, _, _ := unstructured.NestedBool(object.Object, "spec", "paused"); paused {
		refusal := refused("%s is paused and would not replace its pods: it must be resumed first, by 'kubectl rollout resume'", r.targetName())
		return nil, &refusal
	}
	if strategy, _, _ := unstructured.NestedString(object.Object, "spec", "updateStrategy", "type"); strategy == "OnDelete" {
		refusal := refused("%s replaces pods only when they are deleted (`updateStrategy: OnDelete`): its pods must be deleted instead", r.targetName())
		return nil, &refusal
	}
	return object, nil
}

// rollout looks how far a workload has come in replacing its pods, by the rules of
// 'kubectl rollout status'.
func (r *Request) rollout(ctx context.Context) lifecycle.Result {
	object, problem := r.present(ctx)
	if problem != nil {
		return r.stillGone(*problem)
	}
	return r.rolledOut(object)
}

func (r *Request) rolledOut(object *unstructured.Unstructured) lifecycle.Result {
	if r.DryRun {
		return done("%s would replace its pods", r.targetName())
	}
	waits, stuck := rolloutOf(object)
	switch {
	case stuck != "":
		return refused("%s does not come up: %s", r.targetName(), stuck)
	case waits != "":
		result := applied("%s is replacing its pods: %s", r.targetName(), waits)
		result.After = rolloutAfter
		return result
	}
	return done("%s has replaced its pods", r.targetName())
}

// count reads a number of a workload; otherwise where there is none.
func count(object *unstructured.Unstructured, otherwise int64, fields ...string) int64 {
	value, found, err := unstructured.NestedInt64(object.Object, fields...)
	if err != nil || !found {
		return otherwise
	}
	return value
}

// rolloutOf says what a rollout waits for, and why it has failed for good; both empty when
// it is complete.
func rolloutOf(object *unstructured.Unstructured) (waits, stuck string) {
	status := func(field string) int64 { return count(object, 0, "status", field) }
	if status("observedGeneration") < object.GetGeneration() {
		return "its controller has not seen the change yet", ""
	}
	switch object.GetKind() {
	case "Deployment":
		return deploymentRollout(object, status)
	case "DaemonSet":
		wanted, updated, available := status("desiredNumberScheduled"), status("updatedNumberScheduled"), status("numberAvailable")
		switch {
		case updated < wanted:
			return fmt.Sprintf("%d of %d are new", updated, wanted), ""
		case available < wanted:
			return fmt.Sprintf("%d of %d are available", available, wanted), ""
		}
		return "", ""
	default:
		return statefulSetRollout(object, status)
	}
}

func deploymentRollout(object *unstructured.Unstructured, status func(string) int64) (waits, stuck string) {
	for _, condition := range conditionsOf(object) {
		if condition["type"] == "Progressing" && condition["reason"] == "ProgressDeadlineExceeded" {
			return "", fmt.Sprint(condition["message"])
		}
	}
	wanted, updated := count(object, 1, "spec", "replicas"), status("updatedReplicas")
	switch all, available := status("replicas"), status("availableReplicas"); {
	case updated < wanted:
		return fmt.Sprintf("%d of %d are new", updated, wanted), ""
	case all > updated:
		return fmt.Sprintf("%d old ones are still there", all-updated), ""
	case available < updated:
		return fmt.Sprintf("%d of %d are available", available, updated), ""
	}
	return "", ""
}

func statefulSetRollout(object *unstructured.Unstructured, status func(string) int64) (waits, stuck string) {
	wanted := count(object, 1, "spec", "replicas")
	current, _, _ := unstructured.NestedString(object.Object, "status", "currentRevision")
	update, _, _ := unstructured.NestedString(object.Object, "status", "updateRevision")
	partition := count(object, 0, "spec", "updateStrategy", "rollingUpdate", "partition")
	switch ready, updated := status("readyReplicas"), status("updatedReplicas"); {
	case ready < wanted:
		return fmt.Sprintf("%d of %d are ready", ready, wanted), ""
	case partition > 0 && updated < wanted-partition:
		return fmt.Sprintf("%d of %d are new", updated, wanted-partition), ""
	case partition == 0 && current != update:
		return fmt.Sprintf("%d of %d are new", updated, wanted), ""
	}
	return "", ""
}
