package lifecycle

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// maxEntries is how many timeline entries one call may give: the timeline keeps 64, and
// the oldest are sealed at 48.
const maxEntries = 14

// incidentSchema is what the API server holds an incident to.
var incidentSchema = sync.OnceValues(func() (validation.SchemaValidator, error) {
	raw, err := os.ReadFile("../../config/crd/bases/firebreak.dev_incidents.yaml")
	if err != nil {
		return nil, err
	}
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal(raw, crd); err != nil {
		return nil, err
	}
	schema := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(crd.Spec.Versions[0].Schema.OpenAPIV3Schema, schema, nil); err != nil {
		return nil, err
	}
	validator, _, err := validation.NewSchemaValidator(schema)
	return validator, err
})

// checkBounds checks an incident against the schema of its CRD.
func checkBounds(t reporter, raw []byte) {
	t.Helper()
	validator, err := incidentSchema()
	if err != nil {
		t.Fatalf("the schema of incidents: %v", err)
	}
	var incident map[string]any
	if err := json.Unmarshal(raw, &incident); err != nil {
		t.Fatalf("unmarshalling the incident: %v", err)
	}
	// The chain is filled in by package audit.
	delete(incident["status"].(map[string]any), "audit")
	if problems := validation.ValidateCustomResource(nil, incident, validator); len(problems) > 0 {
		t.Fatalf("the API server would refuse the incident: %v", problems.ToAggregate())
	}
}

// check checks what must hold after every Advance.
func (s *sim) check(in Input, out Output) {
	s.t.Helper()
	s.checked(in, out)
	s.checkIdempotent(in, out)
	status := &out.Status
	if status.Phase == v1alpha1.PhaseClosed {
		if len(out.Look)+len(out.Plans)+len(out.Work)+len(status.Awaiting) > 0 || out.DraftLesson {
			s.t.Fatalf("closed, but there is more to do: %+v\n%s", out, s)
		}
	}
	for _, one := range out.Plans {
		switch one.Verb {
		case VerbResolve:
		case VerbObserve: // a look whether an effect still stands
			s.wantTarget(status, one, v1alpha1.TargetSucceeded)
		default:
			s.wantTarget(status, one, v1alpha1.TargetPending)
		}
	}
	s.checkConfirmed(in, out)
	s.checkHeld(out)
	if in.Automation.Stopped || status.PausedBy != "" {
		if len(out.Look)+len(out.Plans)+len(out.Work) > 0 {
			s.t.Fatalf("paused, but there is work: %+v\n%s", out, s)
		}
	}
}

// checkConfirmed checks that no step of the playbook runs beyond containment before a
// person has confirmed the incident, where one must.
func (s *sim) checkConfirmed(in Input, out Output) {
	s.t.Helper()
	confirmed := findCondition(out.Status.Conditions, v1alpha1.ConditionConfirmed)
	if in.Incident.Spec.Confirm != v1alpha1.ConfirmRequired || confirmed != nil && confirmed.Status == metav1.ConditionTrue || out.Status.Resolution != "" {
		return
	}
	for _, one := range out.Work {
		if step := &out.Status.Steps[one.Step]; step.Phase != v1alpha1.PhaseContainment && step.Definition == "" {
			s.t.Fatalf("%s of step %s in %s, which nobody has confirmed\n%s", one.Verb, step.Name, step.Phase, s)
		}
	}
	if out.Status.Phase.Rank() > v1alpha1.PhaseEradication.Rank() {
		s.t.Fatalf("it is in %s although nobody has confirmed it\n%s", out.Status.Phase, s)
	}
}

// checked checks what must hold after every call.
func (s *sim) checked(in Input, out Output) Output {
	s.t.Helper()
	before, after := &in.Incident.Status, &out.Status
	if after.Phase.Rank() < before.Phase.Rank() {
		s.t.Fatalf("the phase went back from %s to %s\n%s", before.Phase, after.Phase, s)
	}
	if len(out.Entries) > maxEntries {
		s.t.Fatalf("%d entries in one call, must be at most %d: %+v\n%s", len(out.Entries), maxEntries, out.Entries, s)
	}
	for _, entry := range out.Entries {
		s.checkEntry(entry)
	}
	for _, awaiting := range after.Awaiting {
		if awaiting.DueTime == nil {
			s.t.Fatalf("%s %s is awaited without a time by which it is late\n%s", awaiting.Type, awaiting.Step, s)
		}
	}
	times := func(t *v1alpha1.IncidentTimes) []*metav1.Time {
		return []*metav1.Time{t.OccurredTime, t.DetectedTime, t.AwareTime, t.AcknowledgedTime, t.ClassifiedTime, t.ContainedTime, t.EradicatedTime, t.RecoveredTime, t.ClosedTime}
	}
	now := times(&after.Times)
	for i, was := range times(&before.Times) {
		if was != nil && (now[i] == nil || !now[i].Equal(was)) {
			s.t.Fatalf("first-entry time %d moved from %v to %v\n%s", i, was, now[i], s)
		}
	}
	s.checkTargets(before, after)
	s.checkDrill(in, out)
	return out
}

// checkDrill checks that a drill has no effect and reaches no goal.
func (s *sim) checkDrill(in Input, out Output) {
	s.t.Helper()
	if !IsDrill(in.Incident) {
		return
	}
	for effect := range s.effects {
		if step := s.step(strings.Fields(effect)[0]); step != nil && !TraitOf(step.Action).Reads {
			s.t.Fatalf("a drill has made %s\n%s", effect, s)
		}
	}
	for _, goal := range goals {
		if found := findCondition(out.Status.Conditions, goal.condition); found != nil && found.Status == metav1.ConditionTrue {
			s.t.Fatalf("a drill says %s: %s %s\n%s", goal.condition, found.Reason, found.Message, s)
		}
	}
}

// checkTargets checks that no record of how to undo is lost.
func (s *sim) checkTargets(before, after *v1alpha1.IncidentStatus) {
	s.t.Helper()
	detached := len(after.DetachedEvents) > len(before.DetachedEvents)
	replaced := before.Playbook.Revision != "" && before.Playbook.Revision != after.Playbook.Revision
	for i := range before.Steps {
		for j := range before.Steps[i].Targets {
			if replaced && (before.Steps[i].Targets[j].Undo == "" || TraitOf(before.Steps[i].Action).Tells) {
				continue
			}
			if replaced {
				s.t.Fatalf("a playbook that has acted was replaced\n%s", s)
			}
			was := &before.Steps[i].Targets[j]
			sent := TraitOf(before.Steps[i].Action).Sends
			is := findTarget(after.Steps[i].Targets, was.UID)
			if neverBegan(&before.Steps[i]) && was.Undo == "" {
				continue // it was only shown to those who approve
			}
			if is == nil && detached && was.Undo == "" && (was.State == v1alpha1.TargetPending || was.State == v1alpha1.TargetHeld) {
				continue
			}
			if is == nil || !detached && after.Steps[i].Targets[j].UID != was.UID {
				s.t.Fatalf("the target was lost: %+v\n%s", was, s)
			}
			if was.Undo != "" && is.Undo == "" && was.Mode == "" && (!sent || is.State == v1alpha1.TargetActing) {
				s.t.Fatalf("the undo record was lost: %+v became %+v\n%s", was, is, s)
			}
			if was.Undo != "" && was.State == v1alpha1.TargetReverted && is.State != v1alpha1.TargetReverted {
				s.t.Fatalf("what was undone is acted on again: %+v became %+v\n%s", was, is, s)
			}
		}
	}
}

// sentAlike checks that what is sent in one attempt is what was kept for it.
func (s *sim) sentAlike(step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) {
	s.t.Helper()
	want := fmt.Sprintf(`{"sentAs":"attempt %d"}`, step.Attempts)
	if TraitOf(step.Action).Sends && step.Attempts < maxAttempts && target.Undo != want {
		s.t.Fatalf("%s sends to %s what is on record as %q, want %q\n%s", step.Name, target.Name, target.Undo, want, s)
	}
}

// checkEntry holds an entry to the bounds of the API, before package audit chains it.
func (s *sim) checkEntry(entry v1alpha1.TimelineEntry) {
	s.t.Helper()
	within := func(field, text string, least, most int) {
		if n := len([]rune(text)); n < least || n > most {
			s.t.Fatalf("`%s` of a timeline entry has %d characters, must have %d to %d: %+v", field, n, least, most, entry)
		}
	}
	within("actor", entry.Actor, 1, 253)
	within("action", entry.Action, 1, 63)
	within("outcome", entry.Outcome, 0, 63)
	within("step", entry.Step, 0, 63)
	within("resource", entry.Resource, 0, 400)
	within("message", entry.Message, 0, 1024)
}

// checkIdempotent checks that deciding again on what was decided changes nothing.
func (s *sim) checkIdempotent(in Input, out Output) {
	s.t.Helper()
	if !out.Next.IsZero() && !out.Next.After(in.Now) {
		return // it has said itself that there is more
	}
	again := in
	again.Incident = in.Incident.DeepCopy()
	again.Incident.Status = *out.Status.DeepCopy()
	second := Advance(again)
	if !equality.Semantic.DeepEqual(out.Status, second.Status) {
		s.t.Fatalf("deciding again changes the status (-first +second):\n%s\n%s", cmp.Diff(out.Status, second.Status), s)
	}
	if len(second.Entries) > 0 {
		s.t.Fatalf("deciding again takes down more: %+v\n%s", second.Entries, s)
	}
	if diff := cmp.Diff([]any{out.Look, out.Plans, out.Work, out.DraftLesson, out.Next}, []any{second.Look, second.Plans, second.Work, second.DraftLesson, second.Next}, cmpopts.EquateEmpty()); diff != "" {
		s.t.Fatalf("deciding again gives other work (-first +second):\n%s\n%s", diff, s)
	}
}

// intended checks that what is about to be done is on record as it is stored.
func (s *sim) intended(work []Work) {
	s.t.Helper()
	for _, one := range work {
		switch one.Verb {
		case VerbApply:
			s.wantTarget(&s.stored.Status, one, v1alpha1.TargetActing)
		case VerbObserve:
			s.wantTarget(&s.stored.Status, one, v1alpha1.TargetApplied)
		case VerbUndo:
			s.wantTarget(&s.stored.Status, one, v1alpha1.TargetReverting)
		case VerbPlan:
			s.t.Fatalf("a plan is given as work\n%s", s)
		}
	}
}

func (s *sim) wantTarget(status *v1alpha1.IncidentStatus, work Work, want v1alpha1.TargetState) {
	s.t.Helper()
	if target := &status.Steps[work.Step].Targets[work.Target]; target.State != want {
		s.t.Fatalf("%s of a target that is %s, must be %s\n%s", work.Verb, target.State, want, s)
	}
}

// guarded checks that nothing is done to an object behind an approval that was given,
// or waived, when the object was not known, or not found by the step.
func (s *sim) guarded(step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) {
	s.t.Helper()
	for i := range s.stored.Status.Steps {
		before := &s.stored.Status.Steps[i]
		if before.Name == step.Name {
			return
		}
		text := TextOf(s.pinned, before)
		if step.Definition != "" || before.Phase != step.Phase || text.Approve == nil || text.Parallel != "" || IsIncident(target, s.stored) {
			continue
		}
		// What is looked up is shown by the approval that guards the step; an earlier one guards others.
		if guardian := (&machine{status: &s.stored.Status}).guardianOf(step); target.Kind != "Pod" && guardian.Name != before.Name {
			continue
		}
		if !stepDone(before) {
			s.t.Fatalf("%s of %s although %s is %s\n%s", step.Action, target.Name, before.Name, before.State, s)
		}
		if !strings.HasPrefix(before.Message, "`when` is false") && !s.shownTo[before.Name][target.UID] {
			s.t.Fatalf("%s of %s, which nobody was shown who approved %s\n%s", step.Action, target.Name, before.Name, s)
		}
	}
}

// atRest checks that an incident that rests waits for a time or a person.
func (s *sim) atRest(in Input, out Output) {
	s.t.Helper()
	if out.Status.Phase == v1alpha1.PhaseClosed {
		return
	}
	if out.Next.IsZero() && len(out.Status.Awaiting) == 0 {
		s.t.Fatalf("it hangs: neither a time nor a person is waited for\n%s", s)
	}
	if in.Incident.Status.Phase.Rank() >= v1alpha1.PhaseReview.Rank() {
		return
	}
	for i := range out.Status.Resources {
		if out.Status.Resources[i].State == "" && s.problem == nil && out.Status.Playbook.Revision != "" && out.Status.PausedBy == "" &&
			!s.automation.Stopped && out.Status.Resolution == "" && out.Status.DuplicateOf.Name == "" && in.Unseen[i] == "" {
			s.t.Fatalf("nobody has looked at %s\n%s", out.Status.Resources[i].Name, s)
		}
	}
}
