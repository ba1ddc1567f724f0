package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const prepareText = "The shop knows nothing of Firebreak. The namespace security is a response domain: its plan says who decides, its policy " +
	"which alerts are incidents, its playbook what is done about them, with the rights of one ServiceAccount and no others."

// ready says whether the cluster answers and Firebreak is installed.
func (d *demo) ready(ctx context.Context, config *rest.Config) error {
	api, err := client.New(config, client.Options{})
	if err != nil {
		return err
	}
	crd := &metav1.PartialObjectMetadata{}
	crd.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	return api.Get(ctx, client.ObjectKey{Name: "incidents." + v1alpha1.GroupName}, crd)
}

// prepare brings shop and domain to where the demo begins, whatever an earlier one has left.
func (d *demo) prepare(ctx context.Context) error {
	if err := d.apply(ctx); err != nil {
		return err
	}
	if err := d.domainReady(ctx); err != nil {
		return err
	}
	if err := d.clean(ctx); err != nil {
		return err
	}
	if err := d.shopReady(ctx); err != nil {
		return err
	}
	return d.choosePod(ctx)
}

// apply applies the samples in the order their kustomization names them.
func (d *demo) apply(ctx context.Context) error {
	objects, err := readSamples(d.samples)
	if err != nil {
		return err
	}
	for _, object := range objects {
		what := client.ApplyConfigurationFromUnstructured(object)
		if err := d.Apply(ctx, what, client.ForceOwnership, client.FieldOwner("firebreak-demo")); err != nil {
			return fmt.Errorf("applying %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	d.good("%d objects of shop and domain are applied", len(objects))
	d.command("kubectl apply -k %s", d.samples)
	return nil
}

// readSamples reads the objects of a kustomize directory that only lists files.
func readSamples(dir string) ([]*unstructured.Unstructured, error) {
	content, err := os.ReadFile(filepath.Join(dir, "kustomization.yaml"))
	if err != nil {
		return nil, err
	}
	var kustomization struct {
		Resources []string `json:"resources"`
	}
	if err := yaml.Unmarshal(content, &kustomization); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	var objects []*unstructured.Unstructured
	for _, name := range kustomization.Resources {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
		for {
			document, err := reader.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			object := &unstructured.Unstructured{}
			if err == nil {
				err = yaml.Unmarshal(document, &object.Object)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
			}
			if len(object.Object) > 0 {
				objects = append(objects, object)
			}
		}
	}
	return objects, nil
}

// domainReady waits until plan, policy and playbook are in force.
func (d *demo) domainReady(ctx context.Context) error {
	plan, policy, playbook := &v1alpha1.ResponsePlan{}, &v1alpha1.ClassificationPolicy{}, &v1alpha1.ResponsePlaybook{}
	for _, wanted := range []struct {
		name       string
		object     client.Object
		conditions *[]metav1.Condition
		types      []string
	}{
		{v1alpha1.ResponsePlanName, plan, &plan.Status.Conditions, []string{v1alpha1.ConditionReady, v1alpha1.ConditionGuarded}},
		{"runtime", policy, &policy.Status.Conditions, []string{v1alpha1.ConditionReady}},
		{"contain", playbook, &playbook.Status.Conditions, []string{v1alpha1.ConditionReady}},
	} {
		kind, err := d.GroupVersionKindFor(wanted.object)
		if err != nil {
			return err
		}
		is := kind.Kind + " " + wanted.name + " is " + strings.Join(wanted.types, " and ")
		err = d.await(ctx, is, func() (bool, string, error) {
			if err := d.get(ctx, domain, wanted.name, wanted.object); err != nil {
				return false, "nothing", client.IgnoreNotFound(err)
			}
			return allTrue(*wanted.conditions, wanted.object.GetGeneration(), wanted.types)
		})
		if err != nil {
			return err
		}
		d.good("%s", is)
		if guarded := meta.FindStatusCondition(*wanted.conditions, v1alpha1.ConditionGuarded); guarded != nil {
			d.detail("Guarded: %s", guarded.Message)
		}
	}
	stopped := meta.FindStatusCondition(plan.Status.Conditions, v1alpha1.ConditionAutomationStopped)
	if stopped != nil && stopped.Status == metav1.ConditionTrue {
		return fmt.Errorf("the automation must run, but was stopped (%s): `%s` lets it go on", stopped.Message, d.jane.line("resume"))
	}
	return nil
}

// allTrue says whether conditions of the generation are true, and else what they are.
func allTrue(conditions []metav1.Condition, generation int64, types []string) (bool, string, error) {
	for _, kind := range types {
		condition := meta.FindStatusCondition(conditions, kind)
		if condition == nil {
			return false, kind + " is not known yet", nil
		}
		if condition.Status != metav1.ConditionTrue || condition.ObservedGeneration < generation {
			return false, fmt.Sprintf("%s is %s (%s): %s", kind, condition.Status, condition.Reason, condition.Message), nil
		}
	}
	return true, "", nil
}

// clean ends what an interrupted demo has left: its incident would take in the next alert.
func (d *demo) clean(ctx context.Context) error {
	incidents := &v1alpha1.IncidentList{}
	if err := d.List(ctx, incidents, client.InNamespace(domain)); err != nil {
		return err
	}
	for i := range incidents.Items {
		incident := &incidents.Items[i]
		if incident.Status.Phase == v1alpha1.PhaseClosed || incident.Spec.Rule != "runtime/shell-in-container" {
			continue
		}
		d.line("incident %s was left open by an earlier demo: %s closes it", incident.Name, d.jane.name)
		if err := d.types(ctx, d.jane, "close", incident.Name, "--resolution", "FalsePositive", "--reason", "left by an earlier demo"); err != nil {
			return err
		}
		err := d.await(ctx, "incident "+incident.Name+" is closed", func() (bool, string, error) {
			if err := d.get(ctx, domain, incident.Name, incident); err != nil {
				return false, "", err
			}
			return incident.Status.Phase == v1alpha1.PhaseClosed, d.state(incident), nil
		})
		if err != nil {
			return err
		}
	}
	return d.deleteStrays(ctx)
}

// deleteStrays deletes pods that were isolated and never deleted: no workload wants them back.
func (d *demo) deleteStrays(ctx context.Context) error {
	pods := &corev1.PodList{}
	if err := d.List(ctx, pods, client.InNamespace(shop)); err != nil {
		return err
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if metav1.GetControllerOf(pod) != nil {
			continue
		}
		if err := d.Delete(ctx, pod, client.Preconditions{UID: &pod.UID}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		d.line("pod %s/%s was left by an earlier demo and is deleted", shop, pod.Name)
	}
	return nil
}

func (d *demo) shopReady(ctx context.Context) error {
	deployment := &appsv1.Deployment{}
	return d.await(ctx, "Deployment shop/cart has all its replicas ready", func() (bool, string, error) {
		if err := d.get(ctx, shop, "cart", deployment); err != nil {
			return false, "no Deployment", client.IgnoreNotFound(err)
		}
		return rolledOut(deployment)
	})
}

func rolledOut(deployment *appsv1.Deployment) (bool, string, error) {
	wanted := int32(1)
	if deployment.Spec.Replicas != nil {
		wanted = *deployment.Spec.Replicas
	}
	status := &deployment.Status
	done := status.ObservedGeneration >= deployment.Generation && status.ReadyReplicas == wanted && status.Replicas == wanted && status.UpdatedReplicas == wanted
	return done, fmt.Sprintf("%d of %d ready", status.ReadyReplicas, wanted), nil
}

// choosePod takes a ready pod of the shop that no incident knows.
func (d *demo) choosePod(ctx context.Context) error {
	err := d.await(ctx, "a ready pod of shop/cart", func() (bool, string, error) {
		pods, err := d.cartPods(ctx)
		if err != nil || len(pods) == 0 {
			return false, "none", err
		}
		d.pod = pods[0].DeepCopy()
		return true, "", nil
	})
	if err != nil {
		return err
	}
	d.good("Deployment shop/cart has 3 of 3 pods ready; one will be intruded: %s", strong(d.pod.Name))
	d.detail("labels: %s", labelText(d.pod.Labels))
	policies, err := d.selecting(ctx, d.pod)
	if err != nil {
		return err
	}
	for _, policy := range policies {
		d.detail("NetworkPolicy %s selects it by %s: %s", policy.Name, metav1.FormatLabelSelector(&policy.Spec.PodSelector), effect(policy))
	}
	d.command("kubectl get deployments,pods,services,networkpolicies -n %s --show-labels", shop)
	return nil
}

// cartPods are the pods that belong to the shop's Deployment and are ready, by name.
func (d *demo) cartPods(ctx context.Context) ([]corev1.Pod, error) {
	pods := &corev1.PodList{}
	if err := d.list(ctx, shop, pods); err != nil {
		return nil, err
	}
	found := slices.DeleteFunc(pods.Items, func(pod corev1.Pod) bool {
		ready := slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})
		return !ready || pod.DeletionTimestamp != nil || metav1.GetControllerOf(&pod) == nil || pod.Labels["app"] != "cart"
	})
	slices.SortFunc(found, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}
