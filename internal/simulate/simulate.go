// Package simulate says what Firebreak would do about an event by given manifests, without
// a cluster: which rule decides, which incident it opens, and what each step would do.
package simulate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
	"github.com/firebreak-dev/firebreak/internal/manifest"
)

// Domain is what the manifests say about one namespace.
type Domain struct {
	// Namespace is the domain's.
	Namespace string
	// Plan is its plan; nil when there is none.
	Plan *v1alpha1.ResponsePlan
	// Policies are those that would be in force, and those that do not compile.
	Policies []*classify.Policy
	// Playbooks are by their names.
	Playbooks map[string]*v1alpha1.ResponsePlaybook
	// Protected are the namespaces that are labelled so.
	Protected map[string]bool
}

// Input is what is simulated.
type Input struct {
	// Domain is where.
	Domain *Domain
	// Event is the event. Its namespace is the domain's.
	Event *v1alpha1.SecurityEvent
	// Workload is the top owner of its first resource, which takes a cluster to know.
	// Empty means the resource's own name, which Firebreak takes where it may not look.
	Workload string
	// Occurrences is how often it is seen, all at once. Zero means once.
	Occurrences int64
	// Same are other events, of which those of the same thing count for thresholds.
	Same []v1alpha1.SecurityEvent
	// Open are the incidents that events before it have opened.
	Open []Opened
	// Now is when it is assessed.
	Now time.Time
}

// Opened is an incident that an event has opened.
type Opened struct {
	// Key names the correlation, Name the incident.
	Key, Name string
	// Until is how long events join it.
	Until time.Time
}

// Incident is the incident that would be opened.
type Incident struct {
	// Name is the name of the next of its key.
	Name     string            `json:"name"`
	Title    string            `json:"title"`
	Severity v1alpha1.Severity `json:"severity"`
	Priority v1alpha1.Priority `json:"priority"`
	Category v1alpha1.Category `json:"category"`
	TLP      v1alpha1.TLP      `json:"tlp"`
	Impact   v1alpha1.Impact   `json:"impact"`
	// Confirm says whether a person must confirm it, and Determinations what a person must
	// determine.
	Confirm        v1alpha1.Confirmation    `json:"confirm,omitempty"`
	Determinations []v1alpha1.Determination `json:"determinations,omitempty"`
	// Key are the values by which later events join it, and Within for how long.
	Key    []string `json:"key,omitempty"`
	Within string   `json:"within,omitempty"`
}

// Result is what would happen.
type Result struct {
	// Event is the event's name, with its title, submitter and workload as rules see them.
	Event string `json:"event"`
	Title string `json:"title"`
	// Mode is 'Drill' for an exercise, and absent for the real thing.
	Mode        v1alpha1.Mode `json:"mode,omitempty"`
	SubmittedBy string        `json:"submittedBy"`
	Workload    string        `json:"workload,omitempty"`
	// Asked are the rules that are asked, in their order.
	Asked []classify.Asked `json:"asked"`
	// Outcome is Promoted, Joined, Dismissed or Deferred.
	Outcome v1alpha1.AssessmentOutcome `json:"outcome"`
	Reason  string                     `json:"reason"`
	Message string                     `json:"message"`
	// Incident and Playbook are there when it is promoted.
	Incident *Incident `json:"incident,omitempty"`
	Playbook *Playbook `json:"playbook,omitempty"`
	// Joins is the incident that it becomes part of, when it is joined.
	Joins string `json:"joins,omitempty"`
	// Notes are what cannot be known without a cluster.
	Notes []string `json:"notes,omitempty"`

	opened Opened
}

// DomainOf makes a domain of manifests. What says no namespace is in it. The error names
// what the API server would refuse.
func DomainOf(ctx context.Context, set *manifest.Set, namespace string) (*Domain, error) {
	for _, problem := range set.Problems {
		return nil, fmt.Errorf("%s: %s", problem.At, problem.Message)
	}
	domain := &Domain{Namespace: namespace, Playbooks: map[string]*v1alpha1.ResponsePlaybook{}, Protected: map[string]bool{}}
	for _, object := range set.Objects {
		if object.APIVersion == "v1" && object.Kind == "Namespace" {
			if err := domain.addNamespace(object); err != nil {
				return nil, fmt.Errorf("%s: %w", object.Start(), err)
			}
		}
		if !object.IsFirebreak() || object.Namespace != "" && object.Namespace != namespace {
			continue
		}
		faults, err := object.Validate(ctx)
		if err != nil {
			return nil, err
		}
		if len(faults) > 0 {
			return nil, fmt.Errorf("%s: %s '%s' would be refused: %s", object.At(faults[0].Path), object.Kind, object.Name, faults[0].Message)
		}
		if err := domain.add(object); err != nil {
			return nil, fmt.Errorf("%s: %w", object.Start(), err)
		}
	}
	return domain, nil
}

func (d *Domain) add(object *manifest.Object) error {
	switch object.Kind {
	case "ClassificationPolicy":
		source := &v1alpha1.ClassificationPolicy{}
		if err := object.Decode(source); err != nil {
			return err
		}
		policy, err := classify.Compile(source)
		if err != nil {
			policy = classify.Unusable(source, err)
		}
		d.Policies = append(d.Policies, policy)
	case "ResponsePlaybook":
		playbook := &v1alpha1.ResponsePlaybook{}
		if err := object.Decode(playbook); err != nil {
			return err
		}
		playbook.Namespace = d.Namespace
		d.Playbooks[playbook.Name] = playbook
	case "ResponsePlan":
		d.Plan = &v1alpha1.ResponsePlan{}
		return object.Decode(d.Plan)
	}
	return nil
}

func (d *Domain) addNamespace(object *manifest.Object) error {
	namespace := &corev1.Namespace{}
	if err := object.Decode(namespace); err != nil {
		return err
	}
	d.Protected[namespace.Name] = namespace.Labels[v1alpha1.LabelProtected] == "true"
	return nil
}

// RunAll says what would happen when events come one after the other.
func RunAll(ctx context.Context, in Input, events []v1alpha1.SecurityEvent) ([]*Result, error) {
	results := make([]*Result, 0, len(events))
	for i := range events {
		in.Event, in.Now = &events[i], events[i].Spec.ObservedTime.Time
		in.Same = slices.Concat(events[:i], events[i+1:])
		result, err := Run(ctx, in)
		if err != nil {
			return nil, err
		}
		if result.opened.Name != "" {
			in.Open = append(in.Open, result.opened)
		}
		results = append(results, result)
	}
	return results, nil
}

// Run says what would happen.
func Run(ctx context.Context, in Input) (*Result, error) {
	event := in.Event.DeepCopy()
	event.Namespace = in.Domain.Namespace
	repeat(event, in.Occurrences)
	result := &Result{Event: event.Name, Title: event.Spec.Title, SubmittedBy: event.Spec.SubmittedBy, Workload: in.Workload, Asked: []classify.Asked{}}
	if event.Spec.Mode == v1alpha1.ModeDrill {
		result.Mode = event.Spec.Mode
	}
	if in.Workload == "" && len(event.Spec.Resources) > 0 {
		result.Workload = event.Spec.Resources[0].Name
		if event.Spec.Resources[0].Kind == "Pod" {
			result.Notes = append(result.Notes, fmt.Sprintf(
				"`event.workload` is taken to be the pod '%s' itself: its top owner is looked up in the cluster, as the plan's ServiceAccount; --workload says it", result.Workload))
		}
	}
	ask := classify.Input{Event: event, Workload: result.Workload, Policies: in.Domain.Policies, By: "simulation", Now: in.Now, Same: sameAs(event, in.Same)}
	asked, err := classify.Trace(ctx, ask)
	if err != nil {
		return nil, err
	}
	result.Asked = append(result.Asked, asked...)
	assessed, err := classify.Assess(ctx, ask)
	if err != nil {
		return nil, err
	}
	if !assessed.Until.IsZero() {
		result.Notes = append(result.Notes, fmt.Sprintf("the event waits until %s for more of its kind before that; --occurrences says how often it is seen", assessed.Until.UTC().Format(time.RFC3339)))
		ask.Now = assessed.Until
		if assessed, err = classify.Assess(ctx, ask); err != nil {
			return nil, err
		}
	}
	result.take(ctx, in, event, &assessed)
	return result, nil
}

// take takes down what was decided.
func (r *Result) take(ctx context.Context, in Input, event *v1alpha1.SecurityEvent, assessed *classify.Assessment) {
	record := &assessed.Record
	r.Outcome, r.Reason, r.Message = record.Outcome, record.Reason, record.Message
	if last := len(r.Asked) - 1; last >= 0 && len(record.Asked) > 0 {
		r.Asked[last].Settle(record.Asked[len(record.Asked)-1].Answer, record)
	}
	if assessed.Incident == nil {
		return
	}
	key, sequence := assessed.Correlation.Label(), 1
	for _, open := range in.Open {
		if open.Key != key {
			continue
		}
		sequence++
		if event.Spec.ObservedTime.Time.Before(open.Until) {
			r.Outcome, r.Joins = v1alpha1.OutcomeJoined, open.Name
			r.Message += "; incident " + open.Name + " is open for the same key: what the event names besides is a new target of its playbook"
			return
		}
	}
	r.Incident = incidentOf(event, assessed, sequence)
	r.Notes = append(r.Notes, "an open incident of the same key would be joined instead, and no other opened")
	r.Playbook = playbookOf(ctx, in.Domain, opened(event, r.Incident, assessed.Incident))
	r.opened = Opened{Key: key, Name: r.Incident.Name, Until: event.Spec.ObservedTime.Add(assessed.Correlation.Within)}
}

// repeat has the receiver count an event that was seen so often.
func repeat(event *v1alpha1.SecurityEvent, occurrences int64) {
	if occurrences > 1 {
		event.Status.Counters = append(event.Status.Counters, v1alpha1.EventCounter{Spool: "simulation", Count: occurrences - 1, Recent: []v1alpha1.EventMinute{
			{MinuteTime: metav1.NewTime(event.Spec.ObservedTime.Truncate(time.Minute)), Count: occurrences - 1},
		}})
	}
}

// sameAs are the events of the same thing.
func sameAs(event *v1alpha1.SecurityEvent, others []v1alpha1.SecurityEvent) []v1alpha1.SecurityEvent {
	var same []v1alpha1.SecurityEvent
	key := classify.SameThing(event)
	for i := range others {
		if key != "" && classify.SameThing(&others[i]) == key {
			same = append(same, others[i])
		}
	}
	return same
}

func incidentOf(event *v1alpha1.SecurityEvent, assessed *classify.Assessment, sequence int) *Incident {
	spec := assessed.Incident
	name, _ := assessed.Correlation.IncidentName(event.Spec.ObservedTime.Time, sequence, 0)
	incident := &Incident{
		Name: name, Title: spec.Title, Severity: spec.Severity, Priority: lifecycle.PriorityOf(spec.Severity, spec.Impact),
		Category: spec.Category, TLP: spec.TLP, Impact: spec.Impact,
		Confirm: spec.Confirm, Determinations: spec.Determinations,
	}
	if assessed.Correlation.Within > 0 {
		incident.Key, incident.Within = assessed.Correlation.Key, short(assessed.Correlation.Within)
	}
	return incident
}

// opened is the incident as its playbook would see it first.
func opened(event *v1alpha1.SecurityEvent, made *Incident, spec *v1alpha1.IncidentSpec) *v1alpha1.Incident {
	incident := &v1alpha1.Incident{Spec: *spec.DeepCopy()}
	incident.Namespace, incident.Name = event.Namespace, made.Name
	incident.Status.Priority, incident.Status.EventCount = made.Priority, 1
	incident.Status.Phase = v1alpha1.PhaseContainment
	for i := range spec.Resources {
		incident.Status.Resources = append(incident.Status.Resources, v1alpha1.IncidentResource{ResourceReference: spec.Resources[i]})
	}
	for i := range spec.Assets {
		incident.Status.Assets = append(incident.Status.Assets, v1alpha1.IncidentAsset{Asset: spec.Assets[i]})
	}
	return incident
}

// short writes a duration without the zeros at its end.
func short(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}
