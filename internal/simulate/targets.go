package simulate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// targets says what a step would act on: what the event names, and what must be looked up. It
// gives the objects that lead there.
func (k *simulation) targets(ctx context.Context, step *v1alpha1.PlaybookStep, result *Step) []v1alpha1.ResourceReference {
	switch {
	case step.Targets != "":
		return k.byExpression(ctx, step, result)
	case step.Target == "":
		result.Targets = append(result.Targets, "the incident itself")
		return nil
	}
	for i := range k.incident.Spec.Resources {
		k.byResource(step.Target, &k.incident.Spec.Resources[i], result)
	}
	return k.incident.Spec.Resources
}

func (k *simulation) byExpression(ctx context.Context, step *v1alpha1.PlaybookStep, result *Step) []v1alpha1.ResourceReference {
	found, err := k.values.Targets(ctx, k.incident, step.Targets)
	if err != nil {
		result.Notes = append(result.Notes, "`targets` cannot be told before the steps before it have run: "+err.Error())
		return nil
	}
	for i := range found {
		addNew(&result.Targets, nameOf(&found[i]))
	}
	return found
}

// byResource adds what a resource of the event leads to.
func (k *simulation) byResource(kind v1alpha1.TargetKind, resource *v1alpha1.ResourceReference, result *Step) {
	name := nameOf(resource)
	pod := resource.Kind == "Pod" && resource.APIVersion == "v1"
	workload := pod || slices.Contains(workloads, resource.APIVersion+" "+resource.Kind)
	look := func(format string, args ...any) {
		addNew(&result.Notes, "looked up in the cluster: "+fmt.Sprintf(format, args...))
	}
	switch kind {
	case v1alpha1.TargetPods:
		if pod {
			addNew(&result.Targets, name)
		}
	case v1alpha1.TargetWorkloads:
		if pod {
			look("the top owner of %s", name)
		} else if workload {
			addNew(&result.Targets, name)
		}
	case v1alpha1.TargetNamespaces:
		if resource.Kind == "Namespace" {
			addNew(&result.Targets, name)
		} else if resource.Namespace != "" {
			addNew(&result.Targets, "Namespace "+resource.Namespace)
		}
	case v1alpha1.TargetNodes:
		if resource.Kind == "Node" {
			addNew(&result.Targets, name)
		} else if pod {
			look("the node of %s%s", name, says(resource.Node))
		}
	case v1alpha1.TargetServiceAccounts:
		if resource.Kind == "ServiceAccount" {
			addNew(&result.Targets, name)
		} else if workload {
			look("the ServiceAccount that %s runs as", name)
		}
	case v1alpha1.TargetImages:
		if workload {
			look("the images that %s runs, by their digests%s", name, says(resource.Image))
		}
	}
}

func says(value string) string {
	if value == "" {
		return ""
	}
	return " ('" + value + "', the event says)"
}

// workloads are the kinds that can be a pod's top owner.
var workloads = []string{
	"apps/v1 Deployment", "apps/v1 StatefulSet", "apps/v1 DaemonSet", "apps/v1 ReplicaSet",
	"batch/v1 Job", "batch/v1 CronJob", "v1 ReplicationController",
}

// nameOf names an object: Pod shop/cart-7f9.
func nameOf(resource *v1alpha1.ResourceReference) string {
	return resource.Kind + " " + strings.TrimPrefix(resource.Namespace+"/"+resource.Name, "/")
}

func addNew(list *[]string, one string) {
	if !slices.Contains(*list, one) {
		*list = append(*list, one)
	}
}
