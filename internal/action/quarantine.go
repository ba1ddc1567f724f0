package action

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/internal/action/isolation"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// quarantine takes a pod out of its workload and its Services, by taking away labels they
// select it by. The workload starts a clean replica, and this pod stays for forensics.
type quarantine struct{}

var _ = register("quarantine", quarantine{})

// quarantinePrefix begins the keys of the label that shows people a pod in quarantine, and
// of the annotation that keeps what was taken off it.
const quarantinePrefix = "quarantine.firebreak.dev/"

// quarantineRecord is what undoing needs.
type quarantineRecord struct {
	Mark string `json:"mark"`
	// Removed are the labels taken off the pod, by this or an earlier incident.
	Removed []isolation.Label `json:"removed,omitempty"`
	// Owner is the pod's workload.
	Owner quarantineOwner `json:"owner,omitzero"`
}

type quarantineOwner struct {
	APIVersion string `json:"apiVersion,omitempty"`
	ownerName
	UID string `json:"uid,omitempty"`
}

// labelSelection is one thing that selects pods by their labels.
type labelSelection struct {
	name     string
	workload bool
	selector labels.Selector
}

func (r *Request) decodeQuarantine() (*quarantineRecord, *lifecycle.Result) {
	record := &quarantineRecord{}
	err := json.Unmarshal([]byte(r.Target.Undo), record)
	if err != nil || !strings.HasPrefix(record.Mark, quarantinePrefix) {
		problem := refused("the record of what to undo cannot be read, or is not of this step")
		return nil, &problem
	}
	return record, nil
}

// Plan finds out by which labels the pod is selected, and which must go.
func (quarantine) Plan(ctx context.Context, r *Request) lifecycle.Result {
	if r.Step.Quarantine == nil {
		return refused("step '%s' has no `quarantine`", r.Step.Name)
	}
	if problem := r.mustBe(podKind); problem != nil {
		return *problem
	}
	pod, problem := r.targetPod(ctx)
	switch {
	case problem != nil:
		return *problem
	case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		return gone("%s has ended (%s): nothing uses it any more", r.targetName(), pod.Status.Phase)
	}
	record := &quarantineRecord{Mark: r.holdKey(quarantinePrefix)}
	selections, problem := r.selections(ctx, pod, record)
	if problem != nil {
		return *problem
	}
	removed, err := labelsToTake(pod.Labels, selections, isIsolationLabel)
	if err != nil {
		return refused("%s cannot be quarantined: %v", r.targetName(), err)
	}
	note, problem := r.staysIsolated(ctx, pod, removed)
	if problem != nil {
		return *problem
	}
	record.add(removed)
	if problem := record.carryOver(r, pod); problem != nil {
		return *problem
	}
	undo, err := json.Marshal(record)
	if err != nil || len(undo) > MaxUndo {
		return refused("%s cannot be quarantined: %d labels would have to be taken away, which is more than can be recorded to give them back", r.targetName(), len(record.Removed))
	}
	return acting(r.targetName(), pod, undo, "planned: "+record.describe(pod.Spec.NodeName)+note)
}

// carryOver keeps what an earlier try of this step, or another incident, has taken off.
func (record *quarantineRecord) carryOver(r *Request, pod *corev1.Pod) *lifecycle.Result {
	if r.Target.Undo != "" {
		earlier, problem := r.decodeQuarantine()
		if problem != nil {
			return problem
		}
		if record.Owner.Name == "" {
			record.Owner = earlier.Owner
		}
		record.add(earlier.Removed)
	}
	for _, one := range quarantineMarks(pod) {
		larger := quarantineRecord{Mark: record.Mark, Removed: slices.Clone(record.Removed), Owner: record.Owner}
		if larger.Owner.Name == "" {
			larger.Owner = one.Owner
		}
		larger.add(one.Removed)
		// A mark may be forged: one that is too large must not stand in the way.
		if text, err := json.Marshal(larger); err == nil && len(text) <= MaxUndo {
			*record = larger
		}
	}
	for i := range record.Removed {
		if value, present := pod.Labels[record.Removed[i].Key]; present {
			record.Removed[i].Value = value
		}
	}
	return nil
}

func (record *quarantineRecord) add(removed []isolation.Label) {
	for _, label := range removed {
		at := slices.IndexFunc(record.Removed, func(known isolation.Label) bool { return known.Key == label.Key })
		switch {
		case !isGivable(label):
		case at < 0:
			record.Removed = append(record.Removed, label)
		default:
			record.Removed[at].Workload = record.Removed[at].Workload || label.Workload
		}
	}
}

// quarantineMarks gives what incidents have taken off a pod, by the keys of their marks.
func quarantineMarks(pod *corev1.Pod) map[string]quarantineRecord {
	marks := map[string]quarantineRecord{}
	for key, one := range holdMarksOf(pod, quarantinePrefix, "") {
		text, err := json.Marshal(one.Before)
		record := quarantineRecord{}
		if err == nil && json.Unmarshal(text, &record) == nil && record.Mark == key {
			marks[key] = record
		}
	}
	return marks
}

// selections finds what selects the pod by its labels: its workload and Services.
func (r *Request) selections(ctx context.Context, pod *corev1.Pod, record *quarantineRecord) ([]labelSelection, *lifecycle.Result) {
	var all []labelSelection
	owner, problem := r.workloadSelection(ctx, pod, record)
	if problem != nil {
		return nil, problem
	}
	if owner != nil {
		all = append(all, *owner)
	}
	services := &corev1.ServiceList{}
	for {
		err := r.Client.List(ctx, services, client.InNamespace(pod.Namespace), client.Limit(policyPage), client.Continue(services.Continue))
		if err != nil {
			failure := r.failure(err, access{verb: "list", resource: "services", namespace: pod.Namespace})
			return nil, &failure
		}
		for i := range services.Items {
			if service := &services.Items[i]; len(service.Spec.Selector) > 0 {
				all = append(all, labelSelection{name: nameOf("Service", service.Name), selector: labels.SelectorFromSet(service.Spec.Selector)})
			}
		}
		if services.Continue == "" {
			return all, nil
		}
	}
}

// workloadSelection finds the workload of the pod, or the one it had. Whoever creates a
// pod chooses what it says it is owned by: only what is there by its UID counts.
func (r *Request) workloadSelection(ctx context.Context, pod *corev1.Pod, record *quarantineRecord) (*labelSelection, *lifecycle.Result) {
	reference := metav1.GetControllerOf(pod)
	if reference != nil && reference.Kind != nodeKind.Kind {
		record.Owner = quarantineOwner{APIVersion: reference.APIVersion, ownerName: ownerName{Kind: reference.Kind, Name: reference.Name}, UID: string(reference.UID)}
	}
	owner := record.Owner
	if owner.Name == "" {
		return nil, nil
	}
	kind := schema.FromAPIVersionAndKind(owner.APIVersion, owner.Kind)
	object, err := r.object(ctx, kind, client.ObjectKey{Namespace: pod.Namespace, Name: owner.Name})
	if err != nil && !apierrors.IsNotFound(err) && slices.Contains(workloadKinds, kind) {
		problem := r.failure(err, r.accessTo("get", kind, pod.Namespace, owner.Name))
		return nil, &problem
	}
	var selector labels.Selector
	if err == nil && string(object.GetUID()) == owner.UID {
		selector, err = selectorOf(object)
	}
	if err != nil || selector == nil || selector.Empty() {
		record.Owner = quarantineOwner{}
		return nil, nil
	}
	if owner.Kind == "StatefulSet" && reference != nil && selector.Matches(labels.Set(pod.Labels)) {
		problem := refused("%s belongs to StatefulSet '%s', which cannot start a clean pod as long as this one is there under its name: `isolate` cuts it off and keeps it, and `delete` after `collect` has it replaced", r.targetName(), owner.Name)
		return nil, &problem
	}
	return &labelSelection{name: nameOf(owner.Kind, owner.Name), workload: true, selector: selector}, nil
}

// labelsToTake gives few labels without which nothing selects the pod any more. A
// selector matches only when all it asks for holds, so that one label of each is enough;
// what most selectors ask for goes first.
func labelsToTake(have map[string]string, selections []labelSelection, mustStay func(string) bool) ([]isolation.Label, error) {
	left := maps.Clone(have)
	var taken []isolation.Label
	for {
		matching := slices.DeleteFunc(slices.Clone(selections), func(one labelSelection) bool { return !one.selector.Matches(labels.Set(left)) })
		if len(matching) == 0 {
			return taken, nil
		}
		best, most := "", 0
		for _, key := range slices.Sorted(maps.Keys(left)) {
			freed := freedWithout(left, key, matching)
			// Of two the one that NetworkPolicies do not select by.
			better := freed > most || freed == most && freed > 0 && slices.Contains(controllerLabels, key)
			if better && !mustStay(key) {
				best, most = key, freed
			}
		}
		if best == "" {
			return nil, fmt.Errorf("%s selects it by labels that cannot be taken away, or that it must not have", matching[0].name)
		}
		taken = append(taken, isolation.Label{Key: best, Value: left[best], Workload: asksFor(selections, best)})
		delete(left, best)
	}
}

// freedWithout counts the selections that do not match any more without a label.
func freedWithout(have map[string]string, key string, matching []labelSelection) int {
	without := maps.Clone(have)
	delete(without, key)
	freed := 0
	for _, one := range matching {
		if !one.selector.Matches(labels.Set(without)) {
			freed++
		}
	}
	return freed
}

// asksFor says that the workload selects by a label.
func asksFor(selections []labelSelection, key string) bool {
	for _, one := range selections {
		requirements, _ := one.selector.Requirements()
		if one.workload && slices.ContainsFunc(requirements, func(asked labels.Requirement) bool { return asked.Key() == key }) {
			return true
		}
	}
	return false
}

// describe says what the quarantine is and what follows from it.
func (record *quarantineRecord) describe(node string) string {
	if len(record.Removed) == 0 {
		return "no Service or workload selects the pod: there is no label to be taken off"
	}
	text := "taken off the pod: " + quoteKeys(record.Removed)
	switch record.Owner.Kind {
	case "":
		text += "; no workload was found that would start a clean one"
	case "DaemonSet":
		text += fmt.Sprintf("; DaemonSet '%s' loses the pod and starts a second one on node '%s', which cannot run where both need a port of the node", record.Owner.Name, node)
	default:
		text += fmt.Sprintf("; %s '%s' loses the pod and starts a clean one", record.Owner.Kind, record.Owner.Name)
	}
	return text
}
