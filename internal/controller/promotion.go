package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/keymutex"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
)

// promotionAttempts is how often the incidents of a correlation are looked up anew
// after somebody else has opened one in between.
const promotionAttempts = 5

// aroundMidnight is how near to midnight (UTC) an event is taken for one whose incident
// another event may have opened under the name of the other day.
const aroundMidnight = 10 * time.Minute

// errStale says that what was read is out of date, so that nothing may be done by it.
var errStale = errors.New("what was read has changed since")

// incidentRefusedError says that an incident may not be created as things are; that may change.
type incidentRefusedError struct {
	name string
	why  error
}

func (e *incidentRefusedError) Error() string {
	if e.name == "" {
		return fmt.Sprintf("the event's incident cannot be opened: %v", e.why)
	}
	return fmt.Sprintf("the event's incident %q cannot be opened: %v", e.name, e.why)
}

func (e *incidentRefusedError) Unwrap() error { return e.why }

// promotion is an event about to become, or become part of, an incident.
type promotion struct {
	event       *v1alpha1.SecurityEvent
	incident    *v1alpha1.IncidentSpec
	correlation classify.Correlation
	// current says whether the event is as it was read, when that was asked already.
	current func() error
}

// promoter opens incidents, exactly one for each correlation at a time.
type promoter struct {
	client   client.Client
	uncached client.Reader
	clock    clock.PassiveClock
	known    *knownIncidents
	// keys serialises the events of one correlation: two first events of one incident,
	// observed on either side of midnight, would give it two names.
	keys keymutex.KeyMutex
}

func newPromoter(cached client.Client, uncached client.Reader, clock clock.PassiveClock, workers int) *promoter {
	return &promoter{
		client:   cached,
		uncached: uncached,
		clock:    clock,
		known:    &knownIncidents{cached: cached, uncached: uncached, clock: clock},
		keys:     keymutex.NewHashed(4 * workers),
	}
}

// openOrJoin gives the incident an event belongs to: the one it has opened in an
// earlier try, the open one of its correlation, or a new one.
func (p *promoter) openOrJoin(ctx context.Context, in promotion) (name string, joined bool, err error) {
	label := in.correlation.Label()
	key := in.event.Namespace + "/" + label
	p.keys.LockKey(key)
	defer func() { _ = p.keys.UnlockKey(key) }()

	opened, err := p.known.opened(ctx, in.event)
	if err != nil {
		return "", false, err
	}
	// What a person decides opens an incident of its own.
	if opened != nil && (in.correlation.Rule != "" || opened.Labels[v1alpha1.LabelCorrelation] == label) {
		return opened.Name, false, nil
	}
	sure := !p.nameMayDiffer(in.event)
	for range promotionAttempts {
		incidents, err := p.known.of(ctx, in.event.Namespace, label)
		if err != nil {
			return "", false, err
		}
		name, joined, err := p.belonging(ctx, in, incidents)
		if err != nil || name != "" {
			return name, joined, err
		}
		if !sure {
			// Its name would not collide with the one that another manager has just opened.
			found, err := p.known.look(ctx, in.event.Namespace, label, incidents)
			if err != nil {
				return "", false, err
			}
			if sure = true; found {
				continue
			}
		}
		var latest *v1alpha1.Incident
		if len(incidents) > 0 {
			latest = incidents[0]
		}
		name, err = p.open(ctx, in, latest)
		if err != nil || name != "" {
			return name, false, err
		}
		in.current = nil // it was asked before others came in between
	}
	return "", false, fmt.Errorf("open incident for event %q: others keep opening incidents of the same correlation", in.event.Name)
}

// belonging finds the incident of its correlation that an event belongs to: the one that it
// has opened itself, or the latest, or the one that goes on with that. Empty when there is none.
func (p *promoter) belonging(ctx context.Context, in promotion, incidents []*v1alpha1.Incident) (name string, joined bool, err error) {
	for i, incident := range incidents {
		if openedBy(incident, in.event) && (i == 0 && unfinished(incident, in.event) || !everPromoted(in.event)) {
			return incident.Name, false, nil
		}
	}
	if len(incidents) == 0 {
		return "", false, nil
	}
	latest := incidents[0]
	if movesOn(latest) && p.inTime(latest, in.correlation) {
		original, err := originalOf(ctx, p.uncached, latest)
		if err != nil {
			return "", false, err
		}
		if original != nil && !over(original) {
			return original.Name, true, nil
		}
	}
	if p.joinable(latest, in.correlation) {
		return latest.Name, true, nil
	}
	return "", false, nil
}

// nameMayDiffer says whether another first event of the same incident may well bear another
// date, and so open it under another name: this one was seen around midnight, or it is not
// of today.
func (p *promoter) nameMayDiffer(event *v1alpha1.SecurityEvent) bool {
	const day = 24 * time.Hour
	seen, now := event.Spec.ObservedTime.UTC(), p.clock.Now().UTC()
	today := now.Truncate(day)
	for _, at := range []time.Time{seen, now} {
		if at.Add(-aroundMidnight).Before(today) || !at.Add(aroundMidnight).Before(today.Add(day)) {
			return true
		}
	}
	return false
}

// openedBy says whether an event has opened the incident, before a crash. What is older
// than the event was not opened by it, whatever the event's name.
func openedBy(incident *v1alpha1.Incident, event *v1alpha1.SecurityEvent) bool {
	return incident.Spec.Mode.OrLive() == event.Spec.Mode.OrLive() && !incident.CreationTimestamp.Before(&event.CreationTimestamp) &&
		slices.Contains(incident.Spec.EventRefs, v1alpha1.EventReference{Name: event.Name})
}

// unfinished says whether an incident that the event has opened is one that it is still
// to be written to, and not one of its earlier ones.
func unfinished(incident *v1alpha1.Incident, event *v1alpha1.SecurityEvent) bool {
	return incident.Name != event.Status.IncidentRef.Name && !over(incident)
}

// everPromoted says whether the event has belonged to an incident.
func everPromoted(event *v1alpha1.SecurityEvent) bool {
	for _, assessment := range append(event.Status.EarlierAssessments, event.Status.Assessment) {
		if assessment.Outcome == v1alpha1.OutcomePromoted || assessment.Outcome == v1alpha1.OutcomeJoined {
			return true
		}
	}
	return false
}

// joinable says whether events still join an incident: from Review on, and when it is
// on its way out, a new one opens.
func (p *promoter) joinable(incident *v1alpha1.Incident, correlation classify.Correlation) bool {
	return !over(incident) && p.inTime(incident, correlation)
}

func (p *promoter) inTime(incident *v1alpha1.Incident, correlation classify.Correlation) bool {
	return p.clock.Since(incident.CreationTimestamp.Time) < correlation.Within
}

// open creates the next incident of the correlation. An empty name without an error
// says that somebody else has created it.
func (p *promoter) open(ctx context.Context, in promotion, latest *v1alpha1.Incident) (string, error) {
	if in.current == nil {
		in.current = func() error { return p.current(ctx, in.event) }
	}
	if err := in.current(); err != nil {
		return "", err
	}
	spec := in.incident.DeepCopy()
	spec.RelatedTo = in.event.Status.IncidentRef
	sequence := 1
	if latest != nil {
		sequence = sequenceOf(latest) + 1
		if latest.Status.Resolution != "" || latest.Status.Phase.Rank() > v1alpha1.PhaseContainment.Rank() {
			spec.RelatedTo = v1alpha1.IncidentReference{Name: latest.Name}
		}
	}
	labels := map[string]string{
		v1alpha1.LabelCorrelation:         in.correlation.Label(),
		v1alpha1.LabelCorrelationSequence: classify.SequenceLabel(sequence),
	}
	for attempt := 0; ; attempt++ {
		name, ok := in.correlation.IncidentName(in.event.Spec.ObservedTime.Time, sequence, attempt)
		if !ok {
			return "", &incidentRefusedError{why: errors.New("all its names are taken by other incidents")}
		}
		incident := &v1alpha1.Incident{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: in.event.Namespace, Labels: labels},
			Spec:       *spec.DeepCopy(),
		}
		err := p.client.Create(ctx, incident, creating(incident.Spec.Mode)...)
		if err == nil {
			p.known.add(incident)
			return name, nil
		}
		if apierrors.IsForbidden(err) {
			return "", &incidentRefusedError{name, err}
		}
		if !apierrors.IsAlreadyExists(err) {
			return "", fmt.Errorf("open incident %q for event %q: %w", name, in.event.Name, err)
		}
		same, err := p.sameCorrelation(ctx, incident)
		if err != nil || same {
			return "", err
		}
	}
}

// current makes sure that the event is as it was read: by a stale one, an incident
// could be opened for an event that belongs to another already.
func (p *promoter) current(ctx context.Context, event *v1alpha1.SecurityEvent) error {
	now := &metav1.PartialObjectMetadata{}
	now.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("SecurityEvent"))
	if err := p.uncached.Get(ctx, client.ObjectKeyFromObject(event), now); err != nil {
		if apierrors.IsNotFound(err) {
			return errStale
		}
		return fmt.Errorf("read event %q: %w", event.Name, err)
	}
	if now.UID != event.UID || now.ResourceVersion != event.ResourceVersion {
		return errStale
	}
	return nil
}

// workloadOf gives the workload that was known when an event has opened its incident, before
// the event could say so; empty when it has opened none, or none is known.
func (p *promoter) workloadOf(ctx context.Context, event *v1alpha1.SecurityEvent) (string, error) {
	if knownWorkload(event) != "" || len(event.Spec.Resources) == 0 {
		return "", nil
	}
	opened, err := p.known.opened(ctx, event)
	if err != nil || opened == nil {
		return "", err
	}
	for i := range opened.Status.Resources {
		if known := &opened.Status.Resources[i]; sameObject(&known.ResourceReference, &event.Spec.Resources[0]) {
			return known.Workload.Name, nil
		}
	}
	return "", nil
}

// ask begins to ask whether the event is current, so that what is read besides need not wait for it.
func (p *promoter) ask(ctx context.Context, event *v1alpha1.SecurityEvent) func() error {
	answer := make(chan error, 1)
	read := event.DeepCopy()
	go func() { answer <- p.current(ctx, read) }()
	return sync.OnceValue(func() error { return <-answer })
}

// sameCorrelation says whether the incident that has the name already is the one that
// was to be created.
func (p *promoter) sameCorrelation(ctx context.Context, wanted *v1alpha1.Incident) (bool, error) {
	there := &v1alpha1.Incident{}
	err := p.uncached.Get(ctx, client.ObjectKeyFromObject(wanted), there)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read incident %q: %w", wanted.Name, err)
	}
	if there.Labels[v1alpha1.LabelCorrelation] != wanted.Labels[v1alpha1.LabelCorrelation] ||
		there.Labels[v1alpha1.LabelCorrelationSequence] != wanted.Labels[v1alpha1.LabelCorrelationSequence] {
		return false, nil
	}
	p.known.add(there)
	return true, nil
}
