package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// resolveAgainAfter is how soon the objects of a step are looked for again.
	resolveAgainAfter = 5 * time.Second
	// kindIncident is the kind of the one target of an action that acts on no object.
	kindIncident = "Incident"
)

// Resolves says whether what a step acts on must be looked for: it is more than the
// incident's own objects.
func Resolves(text *v1alpha1.PlaybookStep) bool {
	switch text.Target {
	case v1alpha1.TargetNodes, v1alpha1.TargetNamespaces, v1alpha1.TargetServiceAccounts, v1alpha1.TargetImages:
		return true
	default:
		return text.Targets != ""
	}
}

// onIncident says that a step acts, and on no object: its one target is the incident.
func onIncident(text *v1alpha1.PlaybookStep) bool {
	return text.Target == "" && text.Targets == "" && TraitOf(ActionOf(text)).Acts
}

// IsIncident says that a target is the incident itself or whom a step tells, which stand for
// no object: they are in no protected namespace and count for no limit of objects.
func IsIncident(target *v1alpha1.StepTarget, incident *v1alpha1.Incident) bool {
	return target.Kind == kindIncident && string(target.UID) == string(incident.UID) || IsChannel(target) || isRole(target)
}

func (m *machine) incidentTarget() v1alpha1.StepTarget {
	target := v1alpha1.StepTarget{
		APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: kindIncident, Namespace: m.incident.Namespace, Name: m.incident.Name,
		UID: v1alpha1.ObjectUID(m.incident.UID), State: v1alpha1.TargetPending,
	}
	m.hold(&target, m.status.Playbook.Hold)
	return target
}

// hold holds a target for a reason, unless a person has approved actions on it.
func (m *machine) hold(target *v1alpha1.StepTarget, why string) {
	if target.ApprovedBy = m.approvedBy(target.UID); why != "" && target.ApprovedBy == "" {
		target.State, target.Message = v1alpha1.TargetHeld, Cut(why, 1024)
	}
}

// approvedBy is who has approved actions on an object that was held in any step.
func (m *machine) approvedBy(uid v1alpha1.ObjectUID) string {
	for i := range m.status.Steps {
		if target := findTarget(m.status.Steps[i].Targets, uid); target != nil && target.ApprovedBy != "" {
			return target.ApprovedBy
		}
	}
	return ""
}

// present is how many resources of the incident can be acted on.
func (m *machine) present() int32 {
	var count int32
	for i := range m.status.Resources {
		if m.status.Resources[i].State == v1alpha1.ResourcePresent {
			count++
		}
	}
	return count
}

// behind says that resources have joined since a step's targets were looked up.
func (m *machine) behind(step *v1alpha1.IncidentStep, text *v1alpha1.PlaybookStep) bool {
	return Resolves(text) && step.ResolvedResources != nil && *step.ResolvedResources < m.present() && !waivedForAll(step)
}

// runResolve looks for what a step acts on.
func (m *machine) runResolve(index int, text *v1alpha1.PlaybookStep) {
	step := &m.status.Steps[index]
	switch {
	case m.late(step):
		m.fail(step, text, joinWords(fmt.Sprintf("what it acts on was not found within %s", limitOf(text)), step.Message))
	case step.NextTime != nil && m.Now.Before(step.NextTime.Time):
		m.wake(step.NextTime.Time)
	default:
		m.out.Plans = append(m.out.Plans, Work{VerbResolve, index, WholeStep})
	}
}

// resolveFurther looks for further objects of steps that have looked before resources joined.
func (m *machine) resolveFurther() {
	if m.Playbook == nil || m.Problem != nil || m.paused || m.status.Resolution != "" || m.waitsForOriginal() || len(m.out.Look) > 0 || m.status.Phase.Rank() >= v1alpha1.PhaseReview.Rank() {
		return
	}
	for i := range m.status.Steps {
		step := &m.status.Steps[i]
		text := m.textOf(step)
		if text == nil || step.State == v1alpha1.StepPending || step.StartTime == nil || !m.behind(step, text) {
			continue
		}
		if step.NextTime != nil && m.Now.Before(step.NextTime.Time) {
			m.wake(step.NextTime.Time)
			continue
		}
		m.out.Plans = append(m.out.Plans, Work{VerbResolve, i, WholeStep})
	}
}

// recordResolve takes down what a step acts on. What was known stays as it is.
func (m *machine) recordResolve(step *v1alpha1.IncidentStep, text *v1alpha1.PlaybookStep, result Result) {
	if !Resolves(text) || stepDone(step) && step.ResolvedResources == nil {
		return // it was decided otherwise since
	}
	if neverBegan(step) {
		m.recordShown(step, result)
		return
	}
	problem := result.Message
	if result.State == v1alpha1.TargetSucceeded {
		problem = unusable(result.Targets)
		result.Permanent = problem != ""
	}
	if problem == "" && result.State == v1alpha1.TargetSucceeded {
		m.resolved(step, text, result.Targets)
		return
	}
	if !result.Permanent && (step.State == v1alpha1.StepRunning || m.Now.Sub(m.lastNews()) < lookWithin) {
		next := metav1.NewTime(m.Now.Add(orDefault(result.After, resolveAgainAfter)))
		step.NextTime = &next
		if step.ResolvedResources == nil {
			step.Message = Cut(problem, 1024)
		}
		return
	}
	// A person is asked. RetryStep looks for all of them anew.
	step.ResolvedResources = nil
	m.fail(step, text, joinWords("what it acts on could not be found", problem))
}

// unusable says why objects cannot be acted on.
func unusable(targets []v1alpha1.StepTarget) string {
	if len(targets) > maxResources {
		return fmt.Sprintf("they are %d objects: it must be at most %d", len(targets), maxResources)
	}
	for i := range targets {
		if target := &targets[i]; target.UID == "" || target.Kind == "" || target.Name == "" || target.APIVersion == "" {
			return fmt.Sprintf("%s must have `apiVersion`, `kind`, `name` and a UID", objectName(target.Kind, target.Namespace, target.Name))
		}
	}
	return ""
}

func (m *machine) resolved(step *v1alpha1.IncidentStep, text *v1alpha1.PlaybookStep, found []v1alpha1.StepTarget) {
	first := step.ResolvedResources == nil
	count := m.present()
	step.ResolvedResources, step.NextTime = &count, nil
	switch {
	case first:
		if !m.fit(step, text, found) {
			return
		}
	case !m.fitLater(step, text, found):
		if step.State == v1alpha1.StepRunning {
			step.Message = Cut(m.noRoom(unknown(step, found)), 1024)
		}
		return // what has begun is carried on
	}
	before := len(step.Targets)
	for i := range found {
		known := findTarget(step.Targets, found[i].UID)
		switch {
		case known != nil && known.State == v1alpha1.TargetShown:
			*known = m.resolvedTarget(step, text, &found[i])
		case known == nil && len(step.Targets) < maxResources:
			step.Targets = append(step.Targets, m.resolvedTarget(step, text, &found[i]))
		}
	}
	for i := range step.Targets {
		if target := &step.Targets[i]; target.State == v1alpha1.TargetShown {
			target.State, target.Message = v1alpha1.TargetGone, "it was shown to those who approved, and is not found any more"
		}
	}
	switch {
	case first:
		step.Message = ""
		if len(step.Targets) == 0 {
			m.nothingToActOn(step, text)
		}
	case len(step.Targets) > before && step.State != v1alpha1.StepRunning && step.State != v1alpha1.StepAwaitingApproval:
		m.reopen(step)
		m.reopenUntargeted()
	}
}

// resolvedTarget pins one object that was found, and holds it back when it is protected,
// out of the playbook's scope or beyond a limit.
func (m *machine) resolvedTarget(step *v1alpha1.IncidentStep, text *v1alpha1.PlaybookStep, found *v1alpha1.StepTarget) v1alpha1.StepTarget {
	target := v1alpha1.StepTarget{
		APIVersion: found.APIVersion, Kind: found.Kind, Namespace: found.Namespace, Name: found.Name, UID: found.UID, State: v1alpha1.TargetPending,
	}
	if text.Verify != nil || IsIncident(&target, m.incident) {
		return target
	}
	why := m.status.Playbook.Hold
	if why == "" && found.State == v1alpha1.TargetHeld {
		why = orText(found.Message, "it is protected")
	}
	if why == "" {
		why = OutOfScope(m.Playbook, NamespaceOf(found.APIVersion, found.Kind, found.Namespace, found.Name))
	}
	if most := m.allowance(m.limits().MaxTargets); why == "" && unheld(step) >= most {
		why = fmt.Sprintf("step %s acts on %d objects already; `limits.maxTargets` of playbook %s allows %d", step.Name, unheld(step), m.status.Playbook.Name, most)
	}
	m.hold(&target, why)
	return target
}

// unheld counts the targets that nobody had to approve.
func unheld(step *v1alpha1.IncidentStep) int32 {
	var count int32
	for i := range step.Targets {
		if target := &step.Targets[i]; target.State != v1alpha1.TargetHeld && target.State != v1alpha1.TargetShown && target.ApprovedBy == "" {
			count++
		}
	}
	return count
}

// nothingToActOn ends a step that has no targets, as its onNoTargets says.
func (m *machine) nothingToActOn(step *v1alpha1.IncidentStep, text *v1alpha1.PlaybookStep) {
	message := "there is nothing to act on: " + m.whyNoTargets(text)
	if text.OnNoTargets == v1alpha1.OnNoTargetsSkip {
		m.end(step, v1alpha1.StepSkipped, message)
		return
	}
	m.fail(step, text, message)
}

func (m *machine) whyNoTargets(text *v1alpha1.PlaybookStep) string {
	if text.Targets != "" {
		return fmt.Sprintf("`targets` yields nothing: %s", text.Targets)
	}
	var found []string
	for i := range m.status.Resources {
		resource := &m.status.Resources[i]
		word := string(resource.State)
		if resource.Message != "" {
			word += " (" + resource.Message + ")"
		}
		found = append(found, resourceName(&resource.ResourceReference)+": "+word)
	}
	if len(found) == 0 {
		return "the incident names no object of the cluster"
	}
	return fmt.Sprintf("no %s among %s", text.Target, strings.Join(found, "; "))
}

// hasObjects says whether any step of a phase that can reach its goal acts on objects.
func (m *machine) hasObjects(goal goal) bool {
	return slices.ContainsFunc(m.stepsOf(goal.phase), func(step *v1alpha1.IncidentStep) bool {
		text := m.textOf(step)
		return m.matters(goal, step) && text != nil && (text.Target != "" || text.Targets != "")
	})
}

// lastNews is when the incident last heard of anything.
func (m *machine) lastNews() time.Time {
	if last := m.status.LastEventTime; last != nil && last.After(m.incident.CreationTimestamp.Time) {
		return last.Time
	}
	return m.incident.CreationTimestamp.Time
}
