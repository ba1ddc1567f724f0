package fault

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
	"github.com/firebreak-dev/firebreak/internal/evidence"
)

// outcome is what an incident leaves behind, but for names, UIDs and times.
type outcome struct {
	Phase      v1alpha1.Phase
	Resolution v1alpha1.Resolution
	Conditions []string
	Steps      []string
	Resources  []string
	// Timeline are its entries, sorted: when a person decides is up to them.
	Timeline  []string
	Evidence  []string
	Decisions []string
	Events    []string
	Lessons   int
	Revisions int
	// Policies, Removed, Added and Labels are a history.
	Policies, Removed, Added, Labels []string
	// Things are what became of each object that the actions act on, Jobs those that are
	// left, and Calls the requests that were sent; two with different keys are two.
	Things map[string][]string
	Jobs   []string
	Calls  []string
}

// outcomeOf reads what is left, and holds it to what must be true whatever happened.
func (w *world) outcomeOf(t *testing.T, store *evidence.Store, seen history) outcome {
	t.Helper()
	var incidents v1alpha1.IncidentList
	w.list(t, &incidents)
	if len(incidents.Items) != 1 {
		t.Fatalf("there are %d incidents, want 1", len(incidents.Items))
	}
	incident := &incidents.Items[0]
	same := strings.NewReplacer(w.Namespace, "SECURITY", w.Target, "SHOP", incident.Name, "INCIDENT")
	o := outcome{
		Phase: incident.Status.Phase, Resolution: incident.Status.Resolution,
		Policies: shortened(seen.policies, incident.Name), Removed: seen.removed, Added: seen.added, Labels: seen.labels,
	}
	for _, c := range incident.Status.Conditions {
		o.Conditions = append(o.Conditions, fmt.Sprintf("%s %s %s", c.Type, c.Status, c.Reason))
	}
	for _, step := range incident.Status.Steps {
		o.Steps = append(o.Steps, same.Replace(describeStep(&step)))
	}
	for _, r := range incident.Status.Resources {
		o.Resources = append(o.Resources, fmt.Sprintf("%s %s %s gone=%t", r.Kind, r.Name, r.State, r.GoneTime != nil))
	}
	entries := w.entriesOf(t, store, incident)
	for _, e := range entries {
		o.Timeline = append(o.Timeline, same.Replace(fmt.Sprintf("%s %s step=%s resource=%s by=%s", e.Action, e.Outcome, e.Step, e.Resource, e.Actor)))
	}
	o.Evidence = w.evidenceOf(t, store)
	o.Decisions = w.decisionsOf(t)
	o.Events = w.eventsOf(t)
	o.Lessons = w.lessonsOf(t, incident)
	o.Revisions = w.revisionsOf(t)
	for _, list := range [][]string{o.Conditions, o.Timeline, o.Evidence, o.Decisions, o.Events} {
		slices.Sort(list)
	}
	w.checkRecord(t, incident, entries)
	if o.Things = w.things; w.hook != nil {
		o.Jobs = w.jobsOf(t)
		var calls []string
		if calls, w.repeated = w.hook.callsOf(t, w.Namespace); len(calls) != len(callers) {
			t.Errorf("%d keys were sent, want %d: one by each of the steps %v", len(calls), len(callers), callers)
		}
		for _, call := range calls {
			o.Calls = append(o.Calls, same.Replace(call))
		}
	}
	return o
}

// callers are the steps of testdata/all-actions.yaml that send something.
var callers = []string{"tell", "notify"}

// jobsOf describes the Jobs that were created: they stay as long as the incident.
func (w *world) jobsOf(t *testing.T) []string {
	t.Helper()
	var list batchv1.JobList
	w.list(t, &list)
	var jobs []string
	for _, one := range list.Items {
		container := one.Spec.Template.Spec.Containers[0]
		jobs = append(jobs, fmt.Sprintf("%s %v succeeded=%d", container.Name, container.Command, one.Status.Succeeded))
	}
	return jobs
}

func (w *world) list(t *testing.T, list client.ObjectList) {
	t.Helper()
	if err := w.Client.List(t.Context(), list, client.InNamespace(w.Namespace)); err != nil {
		t.Fatal(err)
	}
}

// shortened leaves out what is different in each incident.
func shortened(policies []string, incident string) []string {
	short := make([]string, 0, len(policies))
	for _, name := range policies {
		if at := strings.Index(name, incident); at >= 0 {
			name = name[:at] + "INCIDENT"
		}
		short = append(short, name)
	}
	return short
}

func describeStep(step *v1alpha1.IncidentStep) string {
	text := fmt.Sprintf("%s %s attempts=%d approvers=%d", step.Name, step.State, step.Attempts, len(step.Approvers))
	for _, target := range step.Targets {
		text += fmt.Sprintf(" [%s %s %s proof=%s]", target.Kind, target.Name, target.State, target.Proof)
	}
	return text
}

// evidenceOf says what was kept, and holds the bytes to be what each piece says.
func (w *world) evidenceOf(t *testing.T, store *evidence.Store) []string {
	t.Helper()
	var list v1alpha1.EvidenceList
	w.list(t, &list)
	var kept []string
	for _, piece := range list.Items {
		if piece.Spec.Type == v1alpha1.EvidenceJournal {
			continue // how many entries are sealed at once depends on when
		}
		kept = append(kept, fmt.Sprintf("%s %s of %s %s stored=%t", piece.Spec.Step, piece.Spec.Type, piece.Spec.Resource.Kind, piece.Spec.Resource.Name,
			meta.IsStatusConditionTrue(piece.Status.Conditions, v1alpha1.ConditionStored)))
		if err := store.Check(t.Context(), piece.Status.Location, piece.Spec.Digest); err != nil {
			t.Errorf("the bytes of the evidence %s: %v", piece.Name, err)
		}
	}
	return kept
}

func (w *world) decisionsOf(t *testing.T) []string {
	t.Helper()
	var list v1alpha1.DecisionList
	w.list(t, &list)
	var decided []string
	for _, d := range list.Items {
		decided = append(decided, fmt.Sprintf("%s %s accepted=%t", d.Spec.Type, d.Spec.Step, meta.IsStatusConditionTrue(d.Status.Conditions, v1alpha1.ConditionAccepted)))
	}
	return decided
}

func (w *world) eventsOf(t *testing.T) []string {
	t.Helper()
	var list v1alpha1.SecurityEventList
	w.list(t, &list)
	var events []string
	for _, e := range list.Items {
		events = append(events, fmt.Sprintf("%s seen=%d earlier=%d incident=%t", e.Status.Assessment.Outcome, e.Status.Occurrences,
			len(e.Status.EarlierAssessments), e.Status.IncidentRef.Name != ""))
	}
	return events
}

func (w *world) lessonsOf(t *testing.T, incident *v1alpha1.Incident) int {
	t.Helper()
	var list v1alpha1.LessonLearnedList
	w.list(t, &list)
	for _, lesson := range list.Items {
		if len(lesson.Spec.IncidentRefs) != 1 || lesson.Spec.IncidentRefs[0].Name != incident.Name {
			t.Errorf("the lesson is about %v, want %s", lesson.Spec.IncidentRefs, incident.Name)
		}
	}
	return len(list.Items)
}

// revisionsOf counts the pinned playbooks; the kept texts of policies are none.
func (w *world) revisionsOf(t *testing.T) int {
	t.Helper()
	var list appsv1.ControllerRevisionList
	w.list(t, &list)
	count := 0
	for i := range list.Items {
		if owner := metav1.GetControllerOf(&list.Items[i]); owner != nil && owner.Kind == "Incident" {
			count++
		}
	}
	return count
}

// checkRecord holds the chain to be whole, and each entry to have its Event.
func (w *world) checkRecord(t *testing.T, incident *v1alpha1.Incident, entries []v1alpha1.TimelineEntry) {
	t.Helper()
	if err := audit.Verify(&incident.Status); err != nil {
		t.Errorf("the timeline must verify: %v", err)
	}
	if err := audit.VerifyEntries(entries, audit.Origin, 0); err != nil {
		t.Errorf("the whole record must verify: %v", err)
	}
	var events eventsv1.EventList
	w.list(t, &events)
	byName := func(a, b eventsv1.Event) int { return cmp.Compare(a.Name, b.Name) }
	slices.SortFunc(events.Items, byName)
	said := map[string]bool{}
	for _, entry := range entries {
		want := audit.EventOf(incident, entry)
		said[want.Name] = true
		at, found := slices.BinarySearchFunc(events.Items, *want, byName)
		if !found || events.Items[at].Note != want.Note {
			t.Errorf("the entry %d (%s) has no Event that says it", entry.Sequence, entry.Action)
		}
	}
	for i := range events.Items {
		if event := &events.Items[i]; !said[event.Name] {
			t.Errorf("the Event %s of %s (%s %s) says what no entry says: %s",
				event.Name, event.EventTime.UTC().Format(time.RFC3339Nano), event.Regarding.Kind, event.Reason, event.Note)
		}
	}
}

// entriesOf is the whole record: the entries that were sealed, and those that are left.
func (w *world) entriesOf(t *testing.T, store *evidence.Store, incident *v1alpha1.Incident) []v1alpha1.TimelineEntry {
	t.Helper()
	var list v1alpha1.EvidenceList
	w.list(t, &list)
	var sealed []v1alpha1.TimelineEntry
	for _, piece := range list.Items {
		if piece.Spec.Type != v1alpha1.EvidenceJournal {
			continue
		}
		content, err := store.Open(t.Context(), piece.Status.Location)
		if err != nil {
			t.Fatal(err)
		}
		entries, err := evidence.ReadJournal(content)
		if err = errors.Join(err, content.Close()); err != nil {
			t.Fatalf("the journal %s: %v", piece.Name, err)
		}
		sealed = append(sealed, entries...)
	}
	slices.SortFunc(sealed, func(a, b v1alpha1.TimelineEntry) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return append(sealed, incident.Status.Timeline...)
}
