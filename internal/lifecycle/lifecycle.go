// Package lifecycle decides what happens next to an incident. It is a pure function of
// the incident, the pinned playbook, the plan, the people's Decisions and the time: it
// reads nothing and writes nothing. Executors do the Work it gives and record the
// Results; the caller writes the status before any Work that has an effect is begun.
package lifecycle

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Conditions evaluates the `when` expressions of a playbook.
type Conditions interface {
	// When says whether a step is to be done; an error says why it cannot be told.
	When(expression string, incident *v1alpha1.Incident) (bool, error)
}

// Automation says whether playbooks run in the domain.
type Automation struct {
	// Stopped says that they do not.
	Stopped bool
	// By is who has stopped them: a person, or 'the plan'.
	By string
	// Why is the reason they gave.
	Why string
}

// PlaybookProblem says why an incident's playbook cannot be pinned.
type PlaybookProblem struct {
	// Reason is a condition reason, such as PlaybookNotFound.
	Reason string
	// Message says it in words, and what to do.
	Message string
}

// Input is everything a decision depends on.
type Input struct {
	// Incident is the incident as it was last read or written. It is not changed.
	Incident *v1alpha1.Incident
	// Pin is the playbook to pin when none is pinned yet; nil when there is none to pin.
	Pin *v1alpha1.PinnedPlaybook
	// Playbook is the text of the pinned playbook, or of Pin; nil when there is none.
	Playbook *v1alpha1.ResponsePlaybookSpec
	// Problem says why there is none although the incident names one.
	Problem *PlaybookProblem
	// Plan is the domain's plan; nil when there is none.
	Plan *v1alpha1.ResponsePlan
	// Automation says whether playbooks run.
	Automation Automation
	// RecentRuns is for how many earlier incidents of the same submitter and rule the
	// playbook ran within the hour before this one was opened.
	RecentRuns int32
	// Events are the events that belong to the incident.
	Events []v1alpha1.SecurityEvent
	// Decisions are the Decisions about the incident that have no answer yet, in the
	// order in which they count.
	Decisions []v1alpha1.Decision
	// Offers are the playbooks that UsePlaybook Decisions name, by the Decision's UID.
	Offers map[string]Offer
	// Actions are what RunAction Decisions ask for, by the Decision's UID.
	Actions map[string]AdHoc
	// Unguarded says why Decisions cannot be trusted, by their UIDs; those that can are
	// not in it.
	Unguarded map[string]string
	// Originals are the incidents that a MarkDuplicate names or that this one is a duplicate of,
	// and those that they are duplicates of in turn, by name. One that is missing is not there.
	Originals map[string]*v1alpha1.Incident
	// Duplicates are incidents that say that they are duplicates of this one, and that it has
	// not taken up, the oldest first.
	Duplicates []v1alpha1.Incident
	// Promoters are the people who promoted or joined any event by hand that belongs to the
	// incident, or has before it was detached. They are needed where somebody approves.
	Promoters []string
	// Answered are the UIDs of Decisions that say themselves that they were answered, or are gone.
	Answered map[string]bool
	// LessonDrafted says that the incident's LessonLearned is there.
	LessonDrafted bool
	// LessonProblem says why it could not be drafted just now; empty when that was not tried.
	LessonProblem string
	// Conditions evaluates `when`.
	Conditions Conditions
	// Unseen are the indexes of resources that could not be looked at just now, and why.
	Unseen map[int]string
	// Stirred are the names of verify steps whose objects have changed since they were
	// looked at: they are looked at now.
	Stirred map[string]bool
	// Manager is the user name of the manager.
	Manager string
	// Now is the time.
	Now time.Time
}

// Output is what is decided.
type Output struct {
	// Status is the incident's status from here on, but for the timeline.
	Status v1alpha1.IncidentStatus
	// Entries are to be chained to the timeline in the same write.
	Entries []v1alpha1.TimelineEntry
	// Look are the indexes of resources in the status that nobody has looked at.
	Look []int
	// Plans are reads that need no write before them.
	Plans []Work
	// Work is to be done after the status was written.
	Work []Work
	// DraftLesson says that the LessonLearned is to be created.
	DraftLesson bool
	// Next is when to decide again although nothing happens; zero means never.
	Next time.Time
}

// machine is one decision under way.
type machine struct {
	Input
	incident *v1alpha1.Incident
	status   *v1alpha1.IncidentStatus
	now      metav1.Time
	paused   bool
	// dryRun says that nothing may take effect.
	dryRun bool
	// foreign are events of the other mode, which the incident is not about.
	foreign []string
	// omitted and omittedAssets are the objects and assets that there is no room for, by name.
	omitted       map[string]bool
	omittedAssets map[string]bool
	unseen        bool
	// repinned says that another playbook was pinned: all else waits for the next decision.
	repinned bool
	// ran are the indexes of the steps whose turn it was.
	ran map[int]bool
	// recount is when further events are counted; zero when all are.
	recount time.Time
	out     Output
}

const (
	// entriesEach is up to how many alike entries are each taken down by themselves; more
	// share one.
	entriesEach = 4
	// entriesMost is with how many entries a decision stops to take in more; the rest
	// follows with the next write, so that none overflows the timeline.
	entriesMost = 6
)

func newMachine(in Input) *machine {
	incident := in.Incident.DeepCopy()
	var foreign []string
	in.Events, foreign = ownMode(in.Incident, in.Events)
	return &machine{
		Input:         in,
		incident:      incident,
		status:        &incident.Status,
		foreign:       foreign,
		omitted:       map[string]bool{},
		omittedAssets: map[string]bool{},
		ran:           map[int]bool{},
		dryRun:        DryRun(in),
		now:           metav1.NewTime(in.Now.UTC().Truncate(time.Second)),
	}
}

// Advance decides what happens next.
func Advance(in Input) Output {
	m := newMachine(in)
	m.open()
	m.pin()
	m.absorb()
	m.forgetAnswers()
	m.decide()
	m.takeUpDuplicates()
	m.followOriginal()
	m.pause()
	m.mode()
	switch {
	case m.closed():
	case m.repinned:
		m.wake(m.Now)
	default:
		m.lookAtResources()
		m.syncTargets()
		m.runSteps()
		m.resolveFurther()
		m.holdEffects()
		m.conclude()
	}
	if !m.closed() {
		m.wake(m.recount)
	}
	m.shorten()
	m.await()
	m.out.Status = *m.status
	return m.out
}

// Record takes down what became of work. The Output has the status and the entries.
func Record(in Input, results []Result) Output {
	m := newMachine(in)
	m.record(results)
	m.condense(0) // many effects may be lost at once
	m.shorten()
	m.out.Status = *m.status
	return m.out
}

func (m *machine) closed() bool { return m.status.Phase == v1alpha1.PhaseClosed }

// log adds a timeline entry.
func (m *machine) log(entry v1alpha1.TimelineEntry) {
	entry.Time = m.now
	if entry.Actor == "" {
		entry.Actor = m.Manager
	}
	entry.Actor = Cut(entry.Actor, 253)
	entry.Message = Cut(entry.Message, 1024)
	entry.Resource = Cut(entry.Resource, 400)
	m.out.Entries = append(m.out.Entries, entry)
}

// full says that this decision has taken down enough: it asks for another at once.
func (m *machine) full() bool {
	if len(m.out.Entries) < entriesMost {
		return false
	}
	m.wake(m.Now)
	return true
}

// condense makes one of alike entries when there are many of them since the first ones.
func (m *machine) condense(first int) {
	added := m.out.Entries[first:]
	if len(added) <= entriesEach {
		return
	}
	var order []v1alpha1.TimelineEntry
	of := map[v1alpha1.TimelineEntry][]v1alpha1.TimelineEntry{}
	for _, entry := range added {
		alike := v1alpha1.TimelineEntry{Actor: entry.Actor, Action: entry.Action, Outcome: entry.Outcome}
		if of[alike] == nil {
			order = append(order, alike)
		}
		of[alike] = append(of[alike], entry)
	}
	m.out.Entries = m.out.Entries[:first:first]
	for _, alike := range order {
		if all := of[alike]; len(all) == 1 {
			m.log(all[0])
		} else {
			m.log(together(alike, all))
		}
	}
}

// together makes one entry of several that are alike. They name their step when it is the
// step of all.
func together(alike v1alpha1.TimelineEntry, all []v1alpha1.TimelineEntry) v1alpha1.TimelineEntry {
	texts := make([]string, len(all))
	alike.Step = all[0].Step
	for i, entry := range all {
		texts[i] = joinWords(entry.Resource, entry.Message)
		if entry.Step != alike.Step {
			alike.Step = ""
		}
	}
	alike.Message = fmt.Sprintf("%d objects: %s", len(all), strings.Join(texts, "; "))
	return alike
}

// wake asks for another decision at a time.
func (m *machine) wake(at time.Time) {
	if at.IsZero() {
		return
	}
	if m.out.Next.IsZero() || at.Before(m.out.Next) {
		m.out.Next = at
	}
}

// once gives the first time something happened: what was recorded stays.
func (m *machine) once(at **metav1.Time) {
	if *at == nil {
		*at = m.now.DeepCopy()
	}
}

// actingAs is the user name under which the pinned playbook acts.
func (m *machine) actingAs() string {
	if m.status.Playbook.ServiceAccountName == "" {
		return m.Manager
	}
	return "system:serviceaccount:" + m.incident.Namespace + ":" + m.status.Playbook.ServiceAccountName
}

// Cut shortens text to a number of runes and says so with an ellipsis.
func Cut(text string, runes int) string {
	if len(text) <= runes {
		return text
	}
	all := []rune(text)
	if len(all) <= runes {
		return text
	}
	return string(all[:runes-1]) + "…"
}
