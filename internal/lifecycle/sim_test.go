package lifecycle

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	manager  = "system:serviceaccount:firebreak-system:firebreak-manager"
	maxTurns = 400
)

var began = time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC)

// reporter is what *testing.T and *rapid.T have in common.
type reporter interface {
	Helper()
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

// conditions evaluates `when`: 'true', 'false', anything else is an error; 'critical'
// says whether the severity is.
type conditions struct{}

func (conditions) When(expression string, incident *v1alpha1.Incident) (bool, error) {
	switch expression {
	case "true":
		return true, nil
	case "false":
		return false, nil
	case "critical":
		return incident.Status.Severity == v1alpha1.SeverityCritical, nil
	default:
		return false, errors.New("no such key")
	}
}

// sim drives the decisions as the controller does: a stored incident, a clock, and
// executors with scripted results. It checks after every decision what must always hold.
type sim struct {
	t      reporter
	now    time.Time
	stored *v1alpha1.Incident
	// playbook is what can be pinned; pinned is the text that is.
	playbook *v1alpha1.ResponsePlaybookSpec
	pinned   *v1alpha1.ResponsePlaybookSpec
	// offered are the playbooks that UsePlaybook can name.
	offered    map[string]*v1alpha1.ResponsePlaybookSpec
	problem    *PlaybookProblem
	plan       *v1alpha1.ResponsePlan
	automation Automation
	recentRuns int32
	events     []v1alpha1.SecurityEvent
	decisions  []v1alpha1.Decision
	promoters  []string
	// originals and duplicates are the incidents that this one may be a duplicate of, and
	// those that are to become its duplicates.
	originals  map[string]*v1alpha1.Incident
	duplicates []v1alpha1.Incident
	lesson     bool
	answers    bool // Decisions are told their answers

	// script gives the result of work; nil or a Result without a state means success.
	script func(work Work, step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) Result
	// sightings gives what is found, by the name of the object; nothing means that it is there.
	sightings map[string]Sighting

	// lookEvery is how often effects that must stand are looked at; zero means as often as
	// without a wish of the action.
	lookEvery time.Duration

	// nodes are what is found beside what the incident's pods run on.
	nodes []string
	// unseen are objects that cannot be looked at just now.
	unseen map[string]bool
	// kill, when set, may panic before and after each work.
	kill func()

	entries []v1alpha1.TimelineEntry
	done    []string // what was executed, as 'Apply isolate pod-a'
	effects map[string]bool
	last    Output
	writes  int
	// boundsEvery is with every how many writes the bounds of the API are checked; zero means each.
	boundsEvery int
	// shownTo are the objects that were known when an approve step was approved or waived.
	shownTo map[string]map[v1alpha1.ObjectUID]bool
	// counted are the Decisions that have an answer.
	counted map[string]bool
}

func newSim(t reporter, playbook *v1alpha1.ResponsePlaybookSpec, pods ...string) *sim {
	s := &sim{
		t: t, now: began, playbook: playbook, answers: true, counted: map[string]bool{},
		sightings: map[string]Sighting{}, effects: map[string]bool{}, shownTo: map[string]map[v1alpha1.ObjectUID]bool{},
		stored: &v1alpha1.Incident{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "security", Name: "inc-20261121-k7f2a", UID: "incident-uid", Generation: 1, CreationTimestamp: metav1.NewTime(began),
			},
			Spec: v1alpha1.IncidentSpec{
				Title: "Shell in shop/cart", Severity: v1alpha1.SeverityHigh, Category: v1alpha1.CategoryIntrusion, TLP: v1alpha1.TLPAmber,
				SubmittedBy: "falco", Rule: "runtime/shell",
			},
		},
	}
	if playbook != nil {
		s.stored.Spec.PlaybookRef.Name = "contain"
	}
	for _, pod := range pods {
		s.stored.Spec.Resources = append(s.stored.Spec.Resources, podReference(pod))
	}
	return s
}

func podReference(name string) v1alpha1.ResourceReference {
	return v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: name}
}

// event makes an event that belongs to the incident, about pods.
func (s *sim) event(name string, pods ...string) {
	event := v1alpha1.SecurityEvent{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(s.now)}}
	event.Spec.SubmittedBy, event.Spec.Mode = "falco", s.stored.Spec.Mode
	event.Status.Occurrences = 1
	event.Status.Assessment.Policy.Name, event.Status.Assessment.Rule = "runtime", "shell"
	for _, pod := range pods {
		event.Spec.Resources = append(event.Spec.Resources, podReference(pod))
	}
	s.events = append(s.events, event)
}

func (s *sim) input(incident *v1alpha1.Incident) Input {
	in := Input{
		Incident: incident, Plan: s.plan, Automation: s.automation, RecentRuns: s.recentRuns, Events: s.events, Promoters: s.promoters,
		Originals: s.originals, Duplicates: s.duplicates,
		Problem: s.problem, LessonDrafted: s.lesson, Conditions: conditions{}, Manager: manager, Now: s.now, Answered: map[string]bool{},
	}
	for _, decision := range s.decisions {
		if meta.FindStatusCondition(decision.Status.Conditions, v1alpha1.ConditionAccepted) != nil {
			in.Answered[string(decision.UID)] = true
		} else {
			in.Decisions = append(in.Decisions, *decision.DeepCopy())
		}
		s.offer(&in, &decision)
	}
	SortDecisions(in.Decisions)
	switch {
	case incident.Status.Playbook.Revision != "":
		if text := s.offered[incident.Status.Playbook.Name]; text != nil {
			s.pinned = text
		}
		in.Playbook = s.pinned
	case s.playbook != nil && s.problem == nil && incident.Status.Resolution == "":
		in.Pin = &v1alpha1.PinnedPlaybook{Name: "contain", Generation: 3, Revision: "inc-20261121-k7f2a-1", ServiceAccountName: "contain"}
		in.Playbook, s.pinned = s.playbook, s.playbook
	}
	return in
}

// offer gives what a Decision refers to.
func (s *sim) offer(in *Input, decision *v1alpha1.Decision) {
	if in.Offers == nil {
		in.Offers, in.Actions = map[string]Offer{}, map[string]AdHoc{}
	}
	switch name := decision.Spec.PlaybookRef.Name; {
	case decision.Spec.Type == v1alpha1.DecisionUsePlaybook && s.offered[name] != nil:
		in.Offers[string(decision.UID)] = Offer{Playbook: s.offered[name],
			Pin: &v1alpha1.PinnedPlaybook{Name: name, Generation: 1, Revision: "revision-" + name, ServiceAccountName: "contain"}}
	case decision.Spec.Type == v1alpha1.DecisionRunAction && decision.Spec.Action != nil:
		step := &v1alpha1.PlaybookStep{}
		if err := json.Unmarshal(decision.Spec.Action.Raw, step); err != nil {
			in.Actions[string(decision.UID)] = AdHoc{Problem: err.Error()}
			return
		}
		in.Actions[string(decision.UID)] = AdHoc{Step: step}
	}
}

// run carries the incident on until nothing is left to do now.
func (s *sim) run() {
	s.t.Helper()
	incident := s.stored.DeepCopy()
	unseen := map[int]string{}
	for turn := 0; ; turn++ {
		if turn > maxTurns {
			s.t.Fatalf("it does not come to rest: %v\n%s", s.last.Work, s)
		}
		in := s.input(incident)
		in.Unseen = unseen
		out := Advance(in)
		s.check(in, out)
		s.last = out
		s.take(incident, out)
		switch {
		case len(out.Look) > 0:
			for _, index := range out.Look {
				if s.unseen[incident.Status.Resources[index].Name] {
					unseen[index] = "no answer in time"
				}
			}
			s.take(incident, s.checked(s.input(incident), Sight(s.input(incident), s.look(incident, out.Look))))
			continue
		case len(out.Plans) > 0:
			s.take(incident, s.checked(s.input(incident), Record(s.input(incident), s.execute(incident, out.Plans))))
			continue
		}
		incident = s.write(incident)
		s.tellDecisions(incident)
		switch {
		case out.DraftLesson:
			s.lesson = true
		case len(out.Work) > 0:
			s.intended(out.Work)
			s.take(incident, s.checked(s.input(incident), Record(s.input(incident), s.execute(incident, out.Work))))
		case !out.Next.IsZero() && !out.Next.After(s.now):
		default:
			s.atRest(in, out)
			return
		}
	}
}

func (s *sim) take(incident *v1alpha1.Incident, out Output) {
	incident.Status = out.Status
	s.entries = append(s.entries, out.Entries...)
	timeline := &incident.Status.Timeline
	for _, entry := range out.Entries {
		entry.Sequence, entry.Previous, entry.Hash = int64(len(s.entries)), noHash, noHash
		*timeline = append(*timeline, entry)
	}
	if len(*timeline) > 48 {
		*timeline = slices.Clone((*timeline)[len(*timeline)-48:])
	}
}

// noHash stands for what package audit fills in.
var noHash = strings.Repeat("0", 64)

// write stores the incident as the API server would: as JSON, within its bounds.
func (s *sim) write(incident *v1alpha1.Incident) *v1alpha1.Incident {
	if equality.Semantic.DeepEqual(withoutNext(s.stored), withoutNext(incident)) {
		return incident
	}
	raw, err := json.Marshal(incident)
	if err != nil {
		s.t.Fatalf("marshalling the incident: %v", err)
	}
	if s.writes%max(s.boundsEvery, 1) == 0 {
		checkBounds(s.t, raw)
	}
	read := &v1alpha1.Incident{}
	if err := json.Unmarshal(raw, read); err != nil {
		s.t.Fatalf("unmarshalling the incident: %v", err)
	}
	s.stored = read
	s.writes++
	return read.DeepCopy()
}

func withoutNext(incident *v1alpha1.Incident) *v1alpha1.IncidentStatus {
	status := incident.Status.DeepCopy()
	for i := range status.Steps {
		status.Steps[i].NextTime = nil
		for j := range status.Steps[i].Targets {
			status.Steps[i].Targets[j].NextTime = nil
		}
	}
	return status
}

// tellDecisions tells Decisions their answers, once.
func (s *sim) tellDecisions(incident *v1alpha1.Incident) {
	for _, answer := range incident.Status.Answers {
		for i := range s.decisions {
			decision := &s.decisions[i]
			if string(decision.UID) != string(answer.UID) || decision.Status.Conditions != nil {
				continue
			}
			if !s.counted[decision.Name] && answer.Status == metav1.ConditionTrue {
				s.show(incident, decision)
			}
			s.counted[decision.Name] = true
			if s.answers {
				decision.Status.Conditions = []metav1.Condition{{
					Type: v1alpha1.ConditionAccepted, Status: answer.Status, Reason: answer.Reason, Message: answer.Message,
				}}
			}
		}
	}
}

// show keeps what was known when an approve step was approved or waived.
func (s *sim) show(incident *v1alpha1.Incident, decision *v1alpha1.Decision) {
	step := s.step(decision.Spec.Step)
	binds := decision.Spec.Type == v1alpha1.DecisionApprove || decision.Spec.Type == v1alpha1.DecisionSkipStep
	if binds && step != nil && step.Action == "approve" {
		s.shownTo[step.Name] = present(incident)
		for _, guarded := range (&machine{Input: s.input(incident), status: &incident.Status}).guardedBy(step) {
			for i := range guarded.Targets {
				s.shownTo[step.Name][guarded.Targets[i].UID] = true
			}
		}
	}
}

func present(incident *v1alpha1.Incident) map[v1alpha1.ObjectUID]bool {
	uids := map[v1alpha1.ObjectUID]bool{}
	for _, resource := range incident.Status.Resources {
		if resource.State == v1alpha1.ResourcePresent {
			uids[resource.UID], uids[resource.Workload.UID] = true, true
		}
	}
	return uids
}

func (s *sim) look(incident *v1alpha1.Incident, indexes []int) []Sighting {
	var sightings []Sighting
	for _, index := range indexes {
		name := incident.Status.Resources[index].Name
		if s.unseen[name] {
			continue
		}
		sighting, scripted := s.sightings[name]
		if !scripted || sighting.State == "" {
			sighting.State = v1alpha1.ResourcePresent
			sighting.UID = v1alpha1.ObjectUID("uid-" + Cut(name, 20))
			sighting.Workload = v1alpha1.WorkloadReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "cart", UID: "uid-cart"}
		}
		sighting.Index = index
		sightings = append(sightings, sighting)
	}
	return sightings
}

// execute gives the scripted results, and keeps which effects stand.
func (s *sim) execute(incident *v1alpha1.Incident, work []Work) []Result {
	kill := s.kill
	if kill == nil {
		kill = func() {}
	}
	var results []Result
	for _, one := range work {
		kill()
		step := &incident.Status.Steps[one.Step]
		var target *v1alpha1.StepTarget
		name := step.Name
		if one.Target != WholeStep {
			target = &step.Targets[one.Target]
			name += " " + target.Name
		}
		var result Result
		if s.script != nil {
			result = s.script(one, step, target)
		}
		if result.State == "" {
			result = success(one, step)
		}
		if one.Verb == VerbResolve && result.State == v1alpha1.TargetSucceeded && result.Targets == nil {
			result.Targets = nodesOf(incident)
			for _, name := range s.nodes {
				result.Targets = append(result.Targets, nodeTarget(name))
			}
		}
		result.Work = one
		s.done = append(s.done, string(one.Verb)+" "+name)
		switch one.Verb {
		case VerbApply:
			s.guarded(step, target)
			if in := s.input(incident); DryRun(in) && !TraitOf(step.Action).Reads {
				break
			} else if in.Playbook.Mode == v1alpha1.PlaybookConfirm && !TraitOf(step.Action).Reads && !TraitOf(step.Action).Tells && target.ConfirmedBy == "" {
				s.t.Fatalf("%s of %s, which nobody has confirmed\n%s", step.Action, target.Name, s)
			}
			s.sentAlike(step, target)
			// Even what has failed may have taken effect.
			s.effects[name] = true
		case VerbUndo:
			if DryRun(s.input(incident)) {
				s.t.Fatalf("undone in a dry run: %s\n%s", name, s)
			}
			if result.State == v1alpha1.TargetReverted {
				delete(s.effects, name)
			}
		}
		if one.Verb == VerbObserve && result.After == 0 {
			result.After = s.lookEvery
		}
		results = append(results, result)
		kill()
	}
	return results
}

func success(work Work, step *v1alpha1.IncidentStep) Result {
	result := Result{Work: work, State: v1alpha1.TargetSucceeded, Message: strings.ToLower(string(work.Verb)) + " done"}
	switch work.Verb {
	case VerbPlan:
		result.State = v1alpha1.TargetActing
		switch {
		case TraitOf(step.Action).Undoable:
			result.Undo = `{"policy":"firebreak"}`
		case TraitOf(step.Action).Sends:
			result.Undo = fmt.Sprintf(`{"sentAs":"attempt %d"}`, step.Attempts)
		}
	case VerbUndo:
		result.State = v1alpha1.TargetReverted
	}
	return result
}

func failure(message string) Result {
	return Result{State: v1alpha1.TargetFailed, Message: message}
}

func permanent(message string) Result {
	return Result{State: v1alpha1.TargetFailed, Message: message, Permanent: true}
}

// decide creates a Decision, lets it count, and gives its answer.
func (s *sim) decide(decision v1alpha1.DecisionSpec) metav1.Condition {
	s.t.Helper()
	index := s.submit(decision)
	s.run()
	return s.answerOf(index)
}

func (s *sim) submit(decision v1alpha1.DecisionSpec) int {
	decision.Subject = v1alpha1.DecisionSubject{Kind: v1alpha1.SubjectIncident, Name: s.stored.Name}
	if decision.Type == v1alpha1.DecisionApprove && decision.Digest == "" {
		if step := s.step(decision.Step); step != nil {
			decision.Digest = step.Digest
		}
	}
	name := fmt.Sprintf("dec-%03d", len(s.decisions))
	s.decisions = append(s.decisions, v1alpha1.Decision{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(s.now)}, Spec: decision,
	})
	return len(s.decisions) - 1
}

func (s *sim) answerOf(index int) metav1.Condition {
	if found := meta.FindStatusCondition(s.decisions[index].Status.Conditions, v1alpha1.ConditionAccepted); found != nil {
		return *found
	}
	return metav1.Condition{}
}

// must decides and fails unless the Decision is accepted.
func (s *sim) must(decision v1alpha1.DecisionSpec) {
	s.t.Helper()
	if answer := s.decide(decision); answer.Status != metav1.ConditionTrue {
		s.t.Fatalf("%s %s of %s was refused: %s %s\n%s", decision.Type, decision.Step, decision.By, answer.Reason, answer.Message, s)
	}
}

// refused decides and fails unless the Decision is refused for the reason.
func (s *sim) refused(decision v1alpha1.DecisionSpec, reason string) {
	s.t.Helper()
	if answer := s.decide(decision); answer.Status != metav1.ConditionFalse || answer.Reason != reason {
		s.t.Fatalf("%s %s of %s: got %s %s (%s), want refusal %s\n%s", decision.Type, decision.Step, decision.By, answer.Status, answer.Reason, answer.Message, reason, s)
	}
}

func by(kind v1alpha1.DecisionType, step, person string) v1alpha1.DecisionSpec {
	return v1alpha1.DecisionSpec{Type: kind, Step: step, By: person, Reason: "because"}
}

func closing(resolution v1alpha1.Resolution) v1alpha1.DecisionSpec {
	return v1alpha1.DecisionSpec{Type: v1alpha1.DecisionClose, By: "jane", Reason: "done", Resolution: resolution}
}

// pass lets time pass, waking up whenever a decision has asked for it.
func (s *sim) pass(duration time.Duration) {
	s.t.Helper()
	until := s.now.Add(duration)
	for range maxTurns {
		next := s.last.Next
		if next.IsZero() || next.After(until) {
			break
		}
		s.now = next
		s.run()
	}
	s.now = until
	s.run()
}
