package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/impersonation"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// gather reads everything a decision depends on.
func (run *incidentRun) gather(ctx context.Context) (lifecycle.Input, error) {
	incident := run.incident
	in := lifecycle.Input{
		Incident: incident, Conditions: run.Expressions, Manager: run.Manager, Now: run.Clock.Now(), Answered: map[string]bool{},
		Stirred: run.verifies.stirred(incident),
	}
	if err := run.gatherPlan(ctx, &in); err != nil {
		return in, err
	}
	if incident.Status.Phase == v1alpha1.PhaseClosed {
		return in, run.gatherDecisions(ctx, &in)
	}
	if err := run.gatherEvents(ctx, &in); err != nil {
		return in, err
	}
	if err := run.gatherPlaybook(ctx, &in); err != nil {
		return in, err
	}
	if err := run.gatherDecisions(ctx, &in); err != nil {
		return in, err
	}
	if err := run.gatherPromoters(ctx, &in); err != nil {
		return in, err
	}
	if err := run.gatherOffers(ctx, &in); err != nil {
		return in, err
	}
	if err := run.gatherDuplicates(ctx, &in); err != nil {
		return in, err
	}
	lesson := &v1alpha1.LessonLearned{}
	key := types.NamespacedName{Namespace: incident.Namespace, Name: lifecycle.LessonName(incident.Name)}
	err := run.Client.Get(ctx, key, lesson)
	if apierrors.IsNotFound(err) && meta.IsStatusConditionTrue(incident.Status.Conditions, v1alpha1.ConditionReviewed) {
		// It was drafted: the cache has not shown it yet, or somebody has purged it.
		err = run.Live.Get(ctx, key, lesson)
	}
	in.LessonDrafted = err == nil || run.lessonMade
	in.LessonProblem = run.lessonProblem
	return in, client.IgnoreNotFound(err)
}

func (run *incidentRun) gatherPlan(ctx context.Context, in *lifecycle.Input) error {
	plan, err := planOf(ctx, run.Client, run.incident.Namespace)
	if err != nil {
		return err
	}
	in.Plan = plan
	decisions, err := decisionsAbout(ctx, run.Client, run.incident.Namespace, v1alpha1.SubjectResponsePlan, v1alpha1.ResponsePlanName)
	if err != nil {
		return err
	}
	in.Automation = lifecycle.AutomationOf(plan, decisions)
	return nil
}

func (run *incidentRun) gatherEvents(ctx context.Context, in *lifecycle.Input) error {
	list := &v1alpha1.SecurityEventList{}
	if err := run.Client.List(ctx, list, client.InNamespace(run.incident.Namespace), client.MatchingFields{indexEventIncident: run.incident.Name}); err != nil {
		return fmt.Errorf("listing the incident's events: %w", err)
	}
	in.Events = list.Items
	if err := run.gatherOpeners(ctx, in); err != nil {
		return err
	}
	// In the order in which they came, so that it does not depend on chance which of
	// them a limit holds.
	slices.SortFunc(in.Events, func(a, b v1alpha1.SecurityEvent) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for i := range list.Items {
		in.Promoters = append(in.Promoters, broughtBy(&list.Items[i].Status)...)
	}
	return nil
}

// broughtBy names the people by whom an event belongs to its incident. Where that went on
// with a duplicate, those too by whom it belonged to the duplicate.
func broughtBy(event *v1alpha1.SecurityEventStatus) []string {
	var people []string
	for at, assessment := len(event.EarlierAssessments), &event.Assessment; ; assessment = &event.EarlierAssessments[at] {
		if assessment.DecisionRef.Name != "" {
			people = append(people, assessment.By)
		}
		if at--; at < 0 || assessment.Reason != v1alpha1.ReasonDuplicate {
			return people
		}
	}
}

// gatherOpeners adds the events that opened the incident and do not say so yet; and those of the
// other mode that it names, wherever they belong, so that they are refused and not only missing.
func (run *incidentRun) gatherOpeners(ctx context.Context, in *lifecycle.Input) error {
	for _, reference := range run.incident.Spec.EventRefs {
		if slices.ContainsFunc(in.Events, func(event v1alpha1.SecurityEvent) bool { return event.Name == reference.Name }) {
			continue
		}
		event := v1alpha1.SecurityEvent{}
		err := run.Client.Get(ctx, types.NamespacedName{Namespace: run.incident.Namespace, Name: reference.Name}, &event)
		if client.IgnoreNotFound(err) != nil {
			return err
		}
		if err == nil && (event.Status.IncidentRef.Name == "" || event.Spec.Mode.OrLive() != run.incident.Spec.Mode.OrLive()) {
			in.Events = append(in.Events, event)
		}
	}
	return nil
}

// gatherDecisions reads what people have decided. Of what was created while the admission
// policies did not stand, nobody can tell by whom, and it does not count.
func (run *incidentRun) gatherDecisions(ctx context.Context, in *lifecycle.Input) error {
	decisions, err := decisionsAbout(ctx, run.Client, run.incident.Namespace, v1alpha1.SubjectIncident, run.incident.Name)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for i := range decisions {
		uid := string(decisions[i].UID)
		there[uid] = true
		if meta.FindStatusCondition(decisions[i].Status.Conditions, v1alpha1.ConditionAccepted) != nil {
			in.Answered[uid] = true
		} else {
			in.Decisions = append(in.Decisions, decisions[i])
		}
	}
	for _, answer := range run.incident.Status.Answers {
		if !there[string(answer.UID)] {
			in.Answered[string(answer.UID)] = run.isGone(ctx, answer.Name)
		}
	}
	if len(in.Decisions) == 0 {
		return nil
	}
	verdict := run.Guard.Trust(ctx, run.incident.Namespace, in.Decisions)
	if verdict.Trust == TrustUnknown {
		in.Decisions = nil
		run.waiting = guardRetry
		return nil
	}
	in.Unguarded = map[string]string{}
	for i := range in.Decisions {
		if why := verdict.Refused(&in.Decisions[i]); why != "" {
			in.Unguarded[string(in.Decisions[i].UID)] = why
		}
	}
	lifecycle.SortDecisions(in.Decisions)
	return nil
}

// isGone says whether a Decision is not there, and not just not in the cache yet.
func (run *incidentRun) isGone(ctx context.Context, name string) bool {
	err := run.Live.Get(ctx, types.NamespacedName{Namespace: run.incident.Namespace, Name: name}, &v1alpha1.Decision{})
	return apierrors.IsNotFound(err)
}

// gatherPlaybook finds the pinned text, or pins the playbook's.
func (run *incidentRun) gatherPlaybook(ctx context.Context, in *lifecycle.Input) error {
	incident := run.incident
	if incident.Status.Playbook.Revision != "" {
		playbook, err := run.pinnedText(ctx, incident)
		if err != nil {
			return err
		}
		in.Playbook = playbook
		if playbook == nil {
			in.Problem = &lifecycle.PlaybookProblem{Reason: v1alpha1.ReasonPlaybookNotFound, Message: fmt.Sprintf(
				"the pinned text of playbook '%s', ControllerRevision '%s', is gone or was changed: respond by hand, and close", incident.Status.Playbook.Name, incident.Status.Playbook.Revision)}
			return nil
		}
		if err := run.gatherIdentity(ctx, in, incident.Status.Playbook.ServiceAccountName); err != nil {
			return err
		}
		return run.gatherRuns(ctx, in)
	}
	if incident.Spec.PlaybookRef.Name == "" || incident.Status.Resolution != "" || incident.Status.DuplicateOf.Name != "" {
		return nil
	}
	playbook, problem, err := run.findPlaybook(ctx, incident, incident.Spec.PlaybookRef.Name)
	if err != nil || problem != nil {
		in.Problem = problem
		return err
	}
	if err := run.gatherIdentity(ctx, in, playbook.Spec.ServiceAccountName); err != nil || in.Problem != nil {
		return err
	}
	pin, err := run.pin(ctx, incident, playbook)
	if err != nil {
		return err
	}
	in.Pin, in.Playbook = pin, playbook.Spec.DeepCopy()
	return run.gatherRuns(ctx, in)
}

// gatherIdentity finds out whether the namespace lets the manager act for the playbook. That
// it could not be found out is an error, and no person's to mend.
func (run *incidentRun) gatherIdentity(ctx context.Context, in *lifecycle.Input, serviceAccount string) error {
	_, err := run.Identities.For(ctx, run.incident.Namespace, serviceAccount)
	if notAllowed := (*impersonation.NotAllowedError)(nil); errors.As(err, &notAllowed) {
		in.Problem = &lifecycle.PlaybookProblem{Reason: v1alpha1.ReasonCannotImpersonate, Message: err.Error()}
		run.waiting = identityRetry
		return nil
	}
	return err
}

// identityRetry is how soon a missing right to impersonate is asked for again.
const identityRetry = 10 * time.Second

// gatherRuns counts for how many incidents of the same submitter and rule the playbook
// ran within the hour before this one had its turn.
func (run *incidentRun) gatherRuns(ctx context.Context, in *lifecycle.Input) error {
	unseen := false
	for i := range run.incident.Status.Resources {
		unseen = unseen || run.incident.Status.Resources[i].State == ""
	}
	if !unseen && run.incident.Status.Phase != "" && run.incident.Status.Playbook.Revision != "" {
		return nil
	}
	return run.countRuns(ctx, in)
}

func (run *incidentRun) countRuns(ctx context.Context, in *lifecycle.Input) error {
	list := &v1alpha1.IncidentList{}
	err := run.Client.List(ctx, list, client.InNamespace(run.incident.Namespace),
		client.MatchingFields{indexIncidentRun: runKey(run.incident)})
	if err != nil {
		return fmt.Errorf("counting the playbook's runs: %w", err)
	}
	in.RecentRuns = run.runs.turn(runKey(run.incident), run.incident, list.Items)
	return nil
}
