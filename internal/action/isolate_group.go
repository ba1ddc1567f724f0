package action

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action/isolation"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// maxGroup is of how many pods a workload is looked at.
const maxGroup = 5000

// groupKinds are the workloads that can be isolated: those that select pods.
var groupKinds = slices.DeleteFunc(slices.Clone(workloadKinds), func(kind schema.GroupVersionKind) bool { return kind.Kind == "CronJob" })

// isGroup says whether the target is a workload, and not one pod.
func (r *Request) isGroup() bool { return r.Target.Kind != "Pod" || r.Target.APIVersion != "v1" }

// group is a workload and what it selects.
type group struct {
	selector metav1.LabelSelector
	// pods are the labels of its pods, and of those to come.
	pods []map[string]string
}

// planGroup finds out whether a policy that selects as the workload does isolates all of
// its pods, also those to come, and no others.
func (r *Request) planGroup(ctx context.Context, record *isolateRecord, cut isolation.Cut) lifecycle.Result {
	if r.deletesPod() {
		return refused("`survivingConnections: Delete` is only for pods, and %s is none: isolate its pods (`target: Pods`)", r.targetName())
	}
	found, problem := r.group(ctx)
	if problem != nil {
		return *problem
	}
	if problem := r.members(ctx, found); problem != nil {
		return *problem
	}
	policies, err := r.networkPolicies(ctx, r.Target.Namespace)
	if err != nil {
		return r.failure(err, r.policyAccess("list", ""))
	}
	_, others, err := r.divide(policies, record.Policy)
	if err == nil {
		err = isolation.CheckGroup(found.pods, others, cut)
	}
	if err != nil {
		return refused("%s cannot be isolated: %v", r.targetName(), err)
	}
	record.Selector, record.Label = &found.selector, isolation.Label{}
	return r.planned(record, record.describe("will be", cut)+", for every pod of "+r.targetName()+", also those to come")
}

// applyGroup makes the policies, which take effect at once.
func (r *Request) applyGroup(ctx context.Context, record *isolateRecord, cut isolation.Cut) lifecycle.Result {
	found, problem := r.group(ctx)
	if problem != nil {
		if problem.State == v1alpha1.TargetGone {
			if failure := r.deletePolicies(ctx, record); failure != nil {
				return *failure
			}
		}
		return *problem
	}
	if problem := r.applyPolicies(ctx, record, &cut); problem != nil {
		return *problem
	}
	if r.DryRun {
		return done("%s, for every pod of %s", record.describe("would be", cut), r.targetName())
	}
	return r.judgeGroup(ctx, found, record, cut)
}

func (r *Request) observeGroup(ctx context.Context, record *isolateRecord, cut isolation.Cut) lifecycle.Result {
	found, problem := r.group(ctx)
	switch {
	case problem != nil && problem.State == v1alpha1.TargetGone:
		problem.State = v1alpha1.TargetSucceeded
		return *problem
	case problem != nil:
		return *problem
	}
	return r.judgeGroup(ctx, found, record, cut)
}

// judgeGroup computes anew, from what is in the API now, whether the workload is isolated.
func (r *Request) judgeGroup(ctx context.Context, found *group, record *isolateRecord, cut isolation.Cut) lifecycle.Result {
	others, problem := r.standing(ctx, record, &cut)
	if problem != nil {
		return *problem
	}
	if problem := r.members(ctx, found); problem != nil {
		return *problem
	}
	if err := isolation.CheckGroup(found.pods, others, cut); err != nil {
		return refused("%s is not isolated: %v", r.targetName(), err)
	}
	result := done("%s, for every pod of %s, also those to come", record.describe("is", cut), r.targetName())
	result.Proof = v1alpha1.ProofComputed
	return result
}

// group reads the workload and says why no NetworkPolicy can be of use for it.
func (r *Request) group(ctx context.Context) (*group, *lifecycle.Result) {
	var problem lifecycle.Result
	kind := kindOf(&r.Target)
	if !slices.Contains(groupKinds, kind) {
		problem = refused("%s cannot be isolated: 'isolate' acts on %s, and on %s", r.targetName(), kindInWords(podKind), kindsInWords(groupKinds))
		return nil, &problem
	}
	object, err := r.object(ctx, kind, targetKey(&r.Target))
	if absent := r.absent(object, err); absent != nil {
		return nil, absent
	}
	selector, ok := groupSelector(object)
	if !ok {
		problem = refused("%s cannot be isolated: it has no selector that names its pods: isolate its pods (`target: Pods`)", r.targetName())
		return nil, &problem
	}
	if host, _, _ := unstructured.NestedBool(object.Object, "spec", "template", "spec", "hostNetwork"); host {
		problem = refused("%s cannot be isolated: its pods use the network of their nodes (`hostNetwork: true`), and no NetworkPolicy applies to such pods: scale it down, or cordon and drain the nodes", r.targetName())
		return nil, &problem
	}
	template, _, _ := unstructured.NestedStringMap(object.Object, "spec", "template", "metadata", "labels")
	return &group{selector: selector, pods: []map[string]string{template}}, nil
}

// groupSelector gives the selector of a workload. A ReplicationController's is a plain map.
func groupSelector(object *unstructured.Unstructured) (metav1.LabelSelector, bool) {
	selector := metav1.LabelSelector{}
	content, found, err := unstructured.NestedMap(object.Object, "spec", "selector")
	if err != nil || !found || len(content) == 0 {
		return selector, false
	}
	if object.GetKind() == "ReplicationController" {
		plain, _, err := unstructured.NestedStringMap(object.Object, "spec", "selector")
		selector.MatchLabels = plain
		return selector, err == nil
	}
	err = runtime.DefaultUnstructuredConverter.FromUnstructured(content, &selector)
	return selector, err == nil && len(selector.MatchLabels)+len(selector.MatchExpressions) > 0
}

// members reads the pods that the workload selects. All of them must be its own: a
// policy cannot tell them from others that have the same labels.
func (r *Request) members(ctx context.Context, found *group) *lifecycle.Result {
	selector, err := metav1.LabelSelectorAsSelector(&found.selector)
	if err != nil {
		problem := refused("%s cannot be isolated: its selector cannot be understood: %v", r.targetName(), err)
		return &problem
	}
	pods := &metav1.PartialObjectMetadataList{}
	pods.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	err = r.Client.List(ctx, pods, client.InNamespace(r.Target.Namespace), client.MatchingLabelsSelector{Selector: selector}, client.Limit(maxGroup))
	if err != nil {
		problem := r.failure(err, access{verb: "list", resource: "pods", namespace: r.Target.Namespace})
		return &problem
	}
	owned := map[types.UID]bool{types.UID(r.Target.UID): true}
	for i := range pods.Items {
		pod := &pods.Items[i]
		own, problem := r.isMember(ctx, pod, owned)
		if problem != nil {
			return problem
		}
		if !own {
			problem := refused("%s cannot be isolated: its selector also selects Pod '%s', which is not its own and would be cut too: isolate its pods (`target: Pods`), or give them a label that the other lacks",
				r.targetName(), pod.Name)
			return &problem
		}
		found.pods = append(found.pods, pod.Labels)
	}
	return nil
}

// isMember says whether a pod belongs to the workload, by itself or by a ReplicaSet of a
// Deployment. What is known of controllers is kept in owned.
func (r *Request) isMember(ctx context.Context, pod *metav1.PartialObjectMetadata, owned map[types.UID]bool) (bool, *lifecycle.Result) {
	controller := metav1.GetControllerOf(pod)
	if controller == nil {
		return false, nil
	}
	if known, ok := owned[controller.UID]; ok {
		return known, nil
	}
	if r.Target.Kind != "Deployment" || controller.Kind != "ReplicaSet" {
		return false, nil
	}
	set := &metav1.PartialObjectMetadata{}
	set.SetGroupVersionKind(schema.FromAPIVersionAndKind(controller.APIVersion, controller.Kind))
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: r.Target.Namespace, Name: controller.Name}, set)
	if client.IgnoreNotFound(err) != nil {
		problem := r.failure(err, access{verb: "get", group: "apps", resource: "replicasets", namespace: r.Target.Namespace, name: controller.Name})
		return false, &problem
	}
	owner := metav1.GetControllerOf(set)
	owned[controller.UID] = err == nil && set.UID == controller.UID && owner != nil && owner.UID == types.UID(r.Target.UID)
	return owned[controller.UID], nil
}
