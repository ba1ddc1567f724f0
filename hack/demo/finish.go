package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const eradicateText = "The pod is deleted with its UID as a precondition: one that came back under the same name would not be touched."

// eradicate waits until the intruded pod is gone.
func (d *demo) eradicate(ctx context.Context) error {
	_, step, err := d.awaitStep(ctx, "delete-pod")
	if err != nil {
		return err
	}
	pod := &corev1.Pod{}
	err = d.await(ctx, "pod "+d.pod.Name+" is gone", func() (bool, string, error) {
		switch err := d.get(ctx, shop, d.pod.Name, pod); {
		case apierrors.IsNotFound(err):
			return true, "", nil
		case err != nil:
			return false, "", err
		}
		return pod.UID != d.pod.UID, "it is still there", nil
	})
	if err != nil {
		return err
	}
	d.good("pod %s is gone", strong(d.pod.Name))
	d.detail("%s", step.Message)
	pods, err := d.cartPods(ctx)
	if err != nil {
		return err
	}
	rows := [][]string{{"POD", "NODE", "CREATED"}}
	for i := range pods {
		created := "before the alert"
		if pods[i].CreationTimestamp.After(d.pod.CreationTimestamp.Time) && !pods[i].CreationTimestamp.Time.Before(d.alerted.Truncate(time.Second)) {
			created = "in place of the intruded one"
		}
		rows = append(rows, []string{pods[i].Name, pods[i].Spec.NodeName, created})
	}
	d.table(rows)
	d.command("kubectl get pods -n %s", shop)
	return nil
}

const recoverText = "Everything reversible was recorded before it was done; release undoes it by that record. Then the shop must hold for three seconds " +
	"(in earnest it would be minutes): only what was verified counts as recovered."

// recover waits until the isolation is undone and recovery verified.
func (d *demo) recover(ctx context.Context) error {
	_, step, err := d.awaitStep(ctx, "release")
	if err != nil {
		return err
	}
	d.good("release: %s", step.Message)
	policies := &networkingv1.NetworkPolicyList{}
	err = d.await(ctx, "no NetworkPolicy of Firebreak is left in the shop", func() (bool, string, error) {
		if err := d.list(ctx, shop, policies); err != nil {
			return false, "", err
		}
		var left []string
		for _, policy := range policies.Items {
			if policy.Name != "allow-cart" {
				left = append(left, policy.Name)
			}
		}
		return len(left) == 0 && len(policies.Items) == 1, strings.Join(left, ", "), nil
	})
	if err != nil {
		return err
	}
	d.good("the shop's own NetworkPolicy allow-cart is the only one left, as it was")
	if _, step, err = d.awaitStep(ctx, "healthy"); err != nil {
		return err
	}
	d.good("healthy: %s", step.Message)
	d.command("kubectl get networkpolicies,deployments -n %s", shop)
	return nil
}

const closeText = "A lesson is drafted with what the system knows; people fill in why it could happen. An incident closes only when nothing is left to do, " +
	"and only by a person."

// close has jane look at the lesson and close the incident.
func (d *demo) close(ctx context.Context) error {
	incident, err := d.awaitIncident(ctx, "waits to be closed", func(i *v1alpha1.Incident) bool { return awaitingOf(i, v1alpha1.AwaitingClose) != nil })
	if err != nil {
		return err
	}
	lesson := &v1alpha1.LessonLearned{}
	err = d.await(ctx, "a LessonLearned about "+d.incident+" with its measures", func() (bool, string, error) {
		lessons := &v1alpha1.LessonLearnedList{}
		if err := d.list(ctx, domain, lessons); err != nil {
			return false, "", err
		}
		for i := range lessons.Items {
			if slices.ContainsFunc(lessons.Items[i].Spec.IncidentRefs, func(r v1alpha1.IncidentReference) bool { return r.Name == d.incident }) {
				lesson = &lessons.Items[i]
			}
		}
		return lesson.Name != "" && lesson.Status.Measures.TimeToRecover != nil, "lesson '" + lesson.Name + "'", nil
	})
	if err != nil {
		return err
	}
	d.good("LessonLearned %s is drafted", strong(lesson.Name))
	d.detail("%s", lesson.Spec.Summary)
	d.command("kubectl edit lessonlearned %s -n %s", lesson.Name, domain)
	d.good("the incident awaits: %s", awaitingOf(incident, v1alpha1.AwaitingClose).Message)
	if err := d.types(ctx, d.jane, "close", d.incident, "--resolution", "Resolved", "--reason", "pod replaced, shop verified"); err != nil {
		return err
	}
	_, err = d.awaitIncident(ctx, "is closed", func(i *v1alpha1.Incident) bool { return i.Status.Phase == v1alpha1.PhaseClosed })
	return err
}

const recordText = "Each transition and its entry in the timeline were one write; the entries are chained by hashes, and repeated as Kubernetes Events."

// record shows what is left for an auditor.
func (d *demo) record(ctx context.Context) error {
	if err := d.shows(ctx, d.jane, "show", d.incident); err != nil {
		return err
	}
	fmt.Fprintln(d.out)
	if err := d.types(ctx, d.jane, "verify", d.incident); err != nil {
		return err
	}
	if err := d.showEvents(ctx); err != nil {
		return err
	}
	evidence, err := d.evidence(ctx)
	if err != nil {
		return err
	}
	d.good("%d pieces of evidence, each with its digest: kubectl get evidence -n %s", len(evidence), domain)
	d.farewell()
	return nil
}

// maxNote is how much of an Event's note is shown.
const maxNote = 80

// showEvents waits until every entry of the timeline is an Event.
func (d *demo) showEvents(ctx context.Context) error {
	incident, err := d.awaitIncident(ctx, "has published its timeline as Events", func(i *v1alpha1.Incident) bool {
		return i.Status.Audit.Sequence > 0 && i.Status.Audit.ProjectedSequence == i.Status.Audit.Sequence
	})
	if err != nil {
		return err
	}
	list := &eventsv1.EventList{}
	if err := d.List(ctx, list, client.InNamespace(domain)); err != nil {
		return err
	}
	mine := slices.DeleteFunc(list.Items, func(e eventsv1.Event) bool { return e.Regarding.UID != incident.UID })
	if int64(len(mine)) != incident.Status.Audit.Sequence {
		return &unmetError{expected: fmt.Sprintf("%d Kubernetes Events about %s, one for each entry", incident.Status.Audit.Sequence, d.incident), found: fmt.Sprint(len(mine))}
	}
	d.good("%d Kubernetes Events, one for each entry of the timeline; the last:", len(mine))
	slices.SortFunc(mine, func(a, b eventsv1.Event) int { return sequenceOf(a) - sequenceOf(b) })
	var rows [][]string
	for _, event := range append([]eventsv1.Event{{Type: "TYPE", Reason: "REASON", Note: "NOTE"}}, mine[max(len(mine)-3, 0):]...) {
		note := []rune(event.Note)
		if len(note) > maxNote {
			note = append(note[:maxNote-1], '…')
		}
		rows = append(rows, []string{event.Type, event.Reason, string(note)})
	}
	d.table(rows)
	d.command("kubectl events -n %s --for incident/%s", domain, d.incident)
	return nil
}

// sequenceOf is the place in the timeline of the entry that an Event repeats.
func sequenceOf(event eventsv1.Event) int {
	var sequence int
	_, _ = fmt.Sscanf(event.Note, "#%d ", &sequence)
	return sequence
}

func (d *demo) farewell() {
	fmt.Fprintf(d.out, "\n%s\n", d.paint("1;32", "Done: from an alert to a closed incident"))
	rows := [][]string{{"FROM THE ALERT UNTIL", "TOOK"}}
	for _, stage := range []string{isolated, contained, recovered, closed} {
		at := d.reached(d.incident, stage)
		if stage == isolated {
			at = d.reached(d.pod.Name, stage)
		}
		rows = append(rows, []string{stage, span(at.Sub(d.alerted))})
	}
	d.table(rows)
	fmt.Fprintln(d.out, "\nEverything is still running. To look around:")
	d.command("export KUBECONFIG=%s PATH=%s:%s:$PATH", here(d.kubeconfig()), here(d.bin), here(filepath.Join(d.bin, "k8s")))
	d.command("kubectl firebreak show %s -n %s", d.incident, domain)
	d.command("kubectl get firebreak -n %s", domain)
	d.command("kubectl explain responseplaybook.spec --recursive")
	fmt.Fprintf(d.out, "As jane, who may decide: KUBECONFIG=%s\nThe logs are in %s. Again: make demo. To stop it all: make dev-down.\n",
		here(d.jane.kubeconfig), filepath.Join(d.dir, "logs"))
}

// here is a path to type in a line that must work in any directory.
func here(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return "$PWD/" + path
}
