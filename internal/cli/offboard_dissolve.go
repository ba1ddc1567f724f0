package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// awaitClosed follows an incident until it is closed, says what is left to undo, and gives
// up when that needs a person. whole is the context of the command.
func (o *offboarding) awaitClosed(ctx, whole context.Context, incident *v1alpha1.Incident) error {
	left := -1
	err := o.watch(ctx, watching{
		object: incident.DeepCopy(), list: &v1alpha1.IncidentList{},
		see: func(state client.Object) (bool, error) {
			latest, ok := state.(*v1alpha1.Incident)
			if !ok || latest.UID != incident.UID {
				return true, nil // purged
			}
			standing := lifecycle.Standing(&latest.Status)
			if latest.Status.Phase == v1alpha1.PhaseClosed {
				fmt.Fprintf(o.Out, "%s is closed as %s\n", latest.Name, clean(string(latest.Status.Resolution)))
				o.warnOfLeft([]v1alpha1.Incident{*latest})
				return true, nil
			}
			if len(standing) != left && len(standing) > 0 {
				fmt.Fprintf(o.Out, "%s: to be undone: %s\n", latest.Name, clean(strings.Join(standing, ", ")))
			}
			left = len(standing)
			return false, o.stuck(latest)
		},
	})
	again := "Look:  " + o.command(o.namespace, "show", incident.Name)
	switch {
	case err == nil:
		return nil
	case whole.Err() != nil:
		return failed("interrupted: nothing is lost, run the same command again to carry on", again)
	case errors.Is(err, context.DeadlineExceeded):
		return failed(fmt.Sprintf("%s is not closed within %s", incident.Name, o.within), again, "Then run the same command again.")
	default:
		return explain(err, "follow the incident "+incident.Name)
	}
}

// stuck says what only a person can undo, of an incident that undoes everything.
func (o *offboarding) stuck(incident *v1alpha1.Incident) error {
	var hints []string
	undoes := incident.Status.Resolution == v1alpha1.ResolutionFalsePositive || incident.Status.Resolution == v1alpha1.ResolutionDuplicate
	for i := range incident.Status.Awaiting {
		if one := &incident.Status.Awaiting[i]; undoes && one.Type == v1alpha1.AwaitingFailure {
			hints = append(hints, one.Message,
				"  Again:          "+o.command(o.namespace, "retry", incident.Name, one.Step),
				"  Leave in place: "+o.command(o.namespace, "skip", incident.Name, one.Step, "--reason", "WHY"))
		}
	}
	if len(hints) == 0 {
		return nil
	}
	return refusedWith(incident.Name+": not everything could be undone; "+o.namespace+" stays a response domain", append(hints, "Then run the same command again.")...)
}

// warnOfLeft names what closed incidents have left in place.
func (o *offboarding) warnOfLeft(closed []v1alpha1.Incident) {
	for i := range closed {
		if standing := lifecycle.Standing(&closed[i].Status); len(standing) > 0 {
			fmt.Fprintf(o.ErrOut, "%s %s has left in place, and nobody undoes it after this: %s\n", o.style.yellow("Warning:"), closed[i].Name, clean(strings.Join(standing, ", ")))
		}
	}
}

// incidents lists the incidents of the namespace.
func (o *offboarding) incidents(ctx context.Context) ([]v1alpha1.Incident, error) {
	list := &v1alpha1.IncidentList{}
	if err := o.api.List(ctx, list, client.InNamespace(o.namespace)); err != nil {
		return nil, explain(err, "list the incidents in the namespace "+o.namespace)
	}
	return list.Items, nil
}

func split(incidents []v1alpha1.Incident) (open, closed []v1alpha1.Incident) {
	for i := range incidents {
		if incidents[i].Status.Phase == v1alpha1.PhaseClosed {
			closed = append(closed, incidents[i])
		} else {
			open = append(open, incidents[i])
		}
	}
	return open, closed
}

func (o *offboarding) labelled(ctx context.Context) (bool, error) {
	namespace := &corev1.Namespace{}
	if err := o.api.Get(ctx, client.ObjectKey{Name: o.namespace}, namespace); err != nil {
		return false, explain(err, "read the namespace "+o.namespace)
	}
	_, labelled := namespace.Labels[v1alpha1.LabelDomain]
	return labelled, nil
}

// mayDissolve finds out before anything is done whether the last steps can be done.
func (o *offboarding) mayDissolve(ctx context.Context) error {
	if err := o.unlabel(ctx, client.DryRunAll); err != nil {
		return explain(err, "remove the label "+v1alpha1.LabelDomain+" from the namespace "+o.namespace)
	}
	bindings, err := o.bindings(ctx)
	for i := range bindings {
		if err == nil {
			err = o.api.Delete(ctx, bindings[i].DeepCopy(), client.DryRunAll)
		}
	}
	if err != nil {
		return explain(err, "delete the RoleBinding to "+v1alpha1.ImpersonatorClusterRole)
	}
	return nil
}

func (o *offboarding) unlabel(ctx context.Context, options ...client.PatchOption) error {
	namespace := &corev1.Namespace{}
	namespace.Name = o.namespace
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:null}}}`, v1alpha1.LabelDomain)
	return o.api.Patch(ctx, namespace, client.RawPatch(types.MergePatchType, []byte(patch)), options...)
}

// bindings are those by which the manager acts as the ServiceAccounts of the namespace.
func (o *offboarding) bindings(ctx context.Context) ([]rbacv1.RoleBinding, error) {
	list := &rbacv1.RoleBindingList{}
	err := o.api.List(ctx, list, client.InNamespace(o.namespace))
	return slices.DeleteFunc(list.Items, func(binding rbacv1.RoleBinding) bool {
		return binding.RoleRef.Kind != "ClusterRole" || binding.RoleRef.Name != v1alpha1.ImpersonatorClusterRole
	}), err
}

// dissolve takes the label and the bindings away. The label goes first: from then on the
// manager does nothing here, and the bindings are not missed.
func (o *offboarding) dissolve(ctx context.Context, labelled bool) error {
	if labelled {
		if err := o.unlabel(ctx); err != nil {
			return explain(err, "remove the label "+v1alpha1.LabelDomain+" from the namespace "+o.namespace)
		}
		fmt.Fprintf(o.Out, "namespace %s: label %s removed\n", o.namespace, v1alpha1.LabelDomain)
	}
	bindings, err := o.bindings(ctx)
	if err != nil {
		return explain(err, "list the RoleBindings in the namespace "+o.namespace)
	}
	for i := range bindings {
		if err := o.api.Delete(ctx, &bindings[i]); err != nil && !apierrors.IsNotFound(err) {
			return explain(err, "delete the RoleBinding "+bindings[i].Name)
		}
		fmt.Fprintf(o.Out, "rolebinding %s deleted\n", bindings[i].Name)
	}
	fmt.Fprintf(o.Out, "%s is no response domain.\n", o.namespace)
	if incidents, err := o.incidents(ctx); err == nil {
		open, _ := split(incidents)
		for i := range open {
			fmt.Fprintf(o.ErrOut, "%s %s was opened meanwhile and stays open; nothing was done for it\n", o.style.yellow("Warning:"), open[i].Name)
		}
	}
	fmt.Fprintf(o.Out, "  Its records are still there. To delete them with it: kubectl delete namespace %s%s\n", o.namespace, o.clusterFlags())
	fmt.Fprintf(o.Out, "  To take it back: kubectl firebreak init, and then kubectl firebreak resume, -n %s%s\n", o.namespace, o.clusterFlags())
	return nil
}
