package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const containText = "Two steps run at once, as the ServiceAccount contain-intrusion. NetworkPolicies add up, so one that denies would do nothing beside " +
	"allow-cart: isolate adds a policy for this pod alone, and takes away the label by which allow-cart selects it. The Deployment selects by that " +
	"label too: it loses the pod and starts a clean one, while the intruded pod stays for forensics."

// contain waits for evidence and isolation, and looks for itself whether they are real.
func (d *demo) contain(ctx context.Context) error {
	_, step, err := d.awaitStep(ctx, "isolate")
	if err != nil {
		return err
	}
	d.good("isolate: %s", strong(v1alpha1.StepSucceeded))
	for i := range step.Targets {
		d.detail("%s (proof: %s)", step.Targets[i].Message, step.Targets[i].Proof)
	}
	if err := d.proveIsolation(ctx); err != nil {
		return err
	}
	if err := d.replaced(ctx); err != nil {
		return err
	}
	if _, _, err = d.awaitStep(ctx, "preserve"); err != nil {
		return err
	}
	if err := d.showEvidence(ctx); err != nil {
		return err
	}
	incident, err := d.awaitIncident(ctx, "is contained", func(i *v1alpha1.Incident) bool {
		return meta.IsStatusConditionTrue(i.Status.Conditions, v1alpha1.ConditionContained)
	})
	if err != nil {
		return err
	}
	d.good("Contained is True; phase %s", strong(incident.Status.Phase))
	return nil
}

// proveIsolation looks at the objects, not at what Firebreak says of them.
func (d *demo) proveIsolation(ctx context.Context) error {
	pod := &corev1.Pod{}
	err := d.await(ctx, "only policies that deny select pod "+d.pod.Name+", and no Service sends it traffic", func() (bool, string, error) {
		if err := d.get(ctx, shop, d.pod.Name, pod); err != nil {
			return false, "no pod", client.IgnoreNotFound(err)
		}
		policies, err := d.selecting(ctx, pod)
		if err != nil {
			return false, "", err
		}
		served, err := d.served(ctx, pod)
		found := fmt.Sprintf("labels %s; in the Service's endpoints: %t", labelText(pod.Labels), served)
		for _, policy := range policies {
			if allows(policy) {
				return false, found + "; NetworkPolicy " + policy.Name + " " + effect(policy), nil
			}
		}
		return len(policies) > 0 && !served && pod.UID == d.pod.UID, found, err
	})
	if err != nil {
		return err
	}
	policies, err := d.selecting(ctx, pod)
	if err != nil {
		return err
	}
	d.good("seen in the objects, %s after the alert was sent:", strong(span(d.reached(d.pod.Name, isolated).Sub(d.alerted))))
	d.detail("labels taken away: %s", labelText(difference(d.pod.Labels, pod.Labels)))
	d.detail("label added:       %s", labelText(difference(pod.Labels, d.pod.Labels)))
	for _, policy := range policies {
		d.detail("NetworkPolicy that selects it now: %s (%s)", policy.Name, effect(policy))
	}
	d.detail("Service cart does not send it traffic any more")
	d.command("kubectl get pod %s -n %s --show-labels; kubectl describe networkpolicies -n %[2]s", d.pod.Name, shop)
	return nil
}

// replaced waits until the Deployment has a clean pod in place of the intruded one.
func (d *demo) replaced(ctx context.Context) error {
	deployment := &appsv1.Deployment{}
	err := d.await(ctx, "Deployment shop/cart has 3 ready pods, none of them "+d.pod.Name, func() (bool, string, error) {
		if err := d.get(ctx, shop, "cart", deployment); err != nil {
			return false, "", err
		}
		pods, err := d.cartPods(ctx)
		if err != nil || slices.ContainsFunc(pods, func(pod corev1.Pod) bool { return pod.UID == d.pod.UID }) {
			return false, "the pod still belongs to it", err
		}
		return rolledOut(deployment)
	})
	if err != nil {
		return err
	}
	pods, err := d.cartPods(ctx)
	if err != nil {
		return err
	}
	newest := slices.MaxFunc(pods, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	d.good("the shop goes on: Deployment cart has 3 of 3 pods ready, %s is new", newest.Name)
	return nil
}

// showEvidence lists what was kept, and reads the bytes to see whether they are it.
func (d *demo) showEvidence(ctx context.Context) error {
	evidence, err := d.evidence(ctx)
	if err != nil {
		return err
	}
	if len(evidence) == 0 {
		return &unmetError{expected: "evidence of step preserve", found: "none"}
	}
	rows := [][]string{{"EVIDENCE", "TYPE", "OF", "BYTES", "DIGEST"}}
	for i := range evidence {
		item := &evidence[i]
		if err := d.checkBytes(item); err != nil {
			return err
		}
		of, bytes := "", ""
		if item.Spec.Resource != nil {
			of = item.Spec.Resource.Kind + " " + item.Spec.Resource.Name
		}
		if item.Spec.SizeBytes != nil {
			bytes = strconv.FormatInt(*item.Spec.SizeBytes, 10)
		}
		rows = append(rows, []string{item.Name, string(item.Spec.Type), of, bytes, shortDigest(item.Spec.Digest)})
	}
	d.good("evidence is kept: %d pieces, and the bytes in the store have the digests that stand in the objects", len(evidence))
	d.table(rows)
	d.command("kubectl get evidence -n %s -o wide", domain)
	return nil
}

func (d *demo) evidence(ctx context.Context) ([]v1alpha1.Evidence, error) {
	list := &v1alpha1.EvidenceList{}
	var mine []v1alpha1.Evidence
	err := d.await(ctx, "all evidence of "+d.incident+" is stored", func() (bool, string, error) {
		if err := d.list(ctx, domain, list); err != nil {
			return false, "", err
		}
		mine = slices.DeleteFunc(list.Items, func(e v1alpha1.Evidence) bool { return e.Spec.IncidentRef.Name != d.incident })
		for i := range mine {
			if !meta.IsStatusConditionTrue(mine[i].Status.Conditions, v1alpha1.ConditionStored) {
				return false, mine[i].Name + " is not", nil
			}
		}
		return true, "", nil
	})
	slices.SortFunc(mine, func(a, b v1alpha1.Evidence) int {
		return strings.Compare(string(a.Spec.Type)+a.Name, string(b.Spec.Type)+b.Name)
	})
	return mine, err
}

// checkBytes reads what is in the store under an Evidence's location.
func (d *demo) checkBytes(item *v1alpha1.Evidence) error {
	content, err := os.ReadFile(filepath.Join(d.dir, "evidence", filepath.FromSlash(item.Status.Location)))
	if err != nil {
		return fmt.Errorf("the bytes of evidence %s must be in the store: %w", item.Name, err)
	}
	sum := sha256.Sum256(content)
	if digest := "sha256:" + hex.EncodeToString(sum[:]); digest != item.Spec.Digest {
		return &unmetError{expected: "the bytes of evidence " + item.Name + " have the digest " + item.Spec.Digest, found: digest}
	}
	return nil
}

const approveText = "Deleting cannot be undone, so the playbook asks first. People decide by creating a Decision, with kubectl or the plugin. Admission makes " +
	"sure that it is they who do, that they hold the verb, and that they approve what they were shown: the digest binds it to these targets."

// approve has jane take the incident on and approve the step, or leaves it to the
// person at the terminal.
func (d *demo) approve(ctx context.Context) error {
	incident, err := d.awaitIncident(ctx, "awaits an approval", func(i *v1alpha1.Incident) bool { return awaitingOf(i, v1alpha1.AwaitingApproval) != nil })
	if err != nil {
		return err
	}
	awaiting := awaitingOf(incident, v1alpha1.AwaitingApproval)
	d.good("the incident awaits an %s of step %s, by somebody in the role %s", awaiting.Type, strong(awaiting.Step), awaiting.Role)
	d.detail("%s", awaiting.Message)
	d.detail("digest:  %s", awaiting.Digest)
	d.detail("to type: %s", awaiting.Command)
	if err := d.forge(ctx, awaiting); err != nil {
		return err
	}
	if err := d.types(ctx, d.jane, "acknowledge", d.incident, "--reason", "on call, looking at it"); err != nil {
		return err
	}
	words := []string{"approve", d.incident, awaiting.Step, "--reason", "evidence is complete"}
	given, err := d.leaveIt(ctx, awaiting.Step, words)
	if err != nil {
		return err
	}
	if !given {
		if err := d.types(ctx, d.jane, words...); err != nil {
			return err
		}
	}
	_, step, err := d.awaitStep(ctx, awaiting.Step)
	if err != nil {
		return err
	}
	for _, approver := range step.Approvers {
		d.good("approved by %s, recorded as Decision %s", strong(approver.By), approver.DecisionRef.Name)
	}
	return nil
}

func awaitingOf(incident *v1alpha1.Incident, kind v1alpha1.AwaitingType) *v1alpha1.Awaiting {
	for i := range incident.Status.Awaiting {
		if incident.Status.Awaiting[i].Type == kind {
			return &incident.Status.Awaiting[i]
		}
	}
	return nil
}

// forge tries, as the cluster's administrator, to approve in jane's name.
func (d *demo) forge(ctx context.Context, awaiting *v1alpha1.Awaiting) error {
	forged := &v1alpha1.Decision{}
	forged.Namespace, forged.GenerateName = domain, "forged-"
	forged.Spec = v1alpha1.DecisionSpec{
		Subject: v1alpha1.DecisionSubject{Kind: v1alpha1.SubjectIncident, Name: d.incident},
		Type:    v1alpha1.DecisionApprove, By: d.jane.name, Groups: []string{d.jane.group}, Role: awaiting.Role,
		Step: awaiting.Step, Digest: awaiting.Digest, Reason: "forged",
	}
	err := d.Create(ctx, forged)
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return errors.New("the API server must refuse a Decision in another's name, but took it: the admission policies do not stand")
	case !apierrors.IsForbidden(err) || !errors.As(err, &status):
		return fmt.Errorf("trying to forge a Decision: %w", err)
	}
	d.good("not even the cluster's administrator can approve in jane's name. The API server says:")
	d.detail("%s", status.Status().Message)
	return nil
}

// leaveIt waits for the person at the terminal: for ENTER, upon which the demo
// approves for them, or until they have approved elsewhere.
func (d *demo) leaveIt(ctx context.Context, step string, words []string) (given bool, err error) {
	if d.yes {
		d.line("there is nobody at a terminal to ask: jane approves by herself")
		return false, nil
	}
	d.line("Now it is your turn. Press %s to approve as jane, or type this in another terminal, in this directory:", strong("ENTER"))
	d.command("%s", d.jane.line(words...))
	pressed := make(chan error, 1)
	go func() {
		one := make([]byte, 1)
		for {
			if _, err := os.Stdin.Read(one); err != nil {
				pressed <- fmt.Errorf("waiting for ENTER: %w", err)
				return
			}
			if one[0] == '\n' {
				pressed <- nil
				return
			}
		}
	}()
	decided := make(chan error, 1)
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, err := d.awaitIncident(waiting, "awaits no approval", func(i *v1alpha1.Incident) bool {
			s := stepOf(i, step)
			return s != nil && s.State != v1alpha1.StepAwaitingApproval
		})
		decided <- err
	}()
	select {
	case err := <-pressed:
		return false, err
	case err := <-decided:
		return true, err
	}
}
