package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/gowebpki/jcs"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Removal is what was on record about one object that is deleted because its time is over. The
// removals of a domain are one chain of hashes, as the entries of a timeline are.
type Removal struct {
	// Sequence counts the removals of the domain, from 1.
	Sequence int64 `json:"sequence"`
	// Time is when this was written down: the object is deleted right after.
	Time metav1.Time `json:"time"`
	// Because names the plan's field by which it goes, and what that said.
	Because string `json:"because"`
	// Kind, Name and UID say what is deleted, and ResourceVersion in which state: should it
	// change before it is deleted, it stays, and is written down anew when it goes.
	Kind            string    `json:"kind"`
	Name            string    `json:"name"`
	UID             types.UID `json:"uid"`
	ResourceVersion string    `json:"resourceVersion"`
	// CreationTime is when it was created.
	CreationTime metav1.Time `json:"creationTime"`
	// With names the incident of which it is a part, and with which it is deleted: right after it
	// where both are in one journal. Empty when it goes by itself.
	With string `json:"with,omitempty"`
	// Event is what was known of a SecurityEvent.
	Event *RemovedEvent `json:"event,omitempty"`
	// Incident is what was known of an Incident.
	Incident *RemovedIncident `json:"incident,omitempty"`
	// Evidence is the spec of Evidence, and Location where its bytes were: they go with it, but
	// where other Evidence has the same.
	Evidence *v1alpha1.EvidenceSpec `json:"evidence,omitempty"`
	Location string                 `json:"location,omitempty"`
	// Decision is the spec of a Decision, and Answer what became of it.
	Decision *v1alpha1.DecisionSpec `json:"decision,omitempty"`
	Answer   *metav1.Condition      `json:"answer,omitempty"`
	// Previous is the hash of the removal before it, Hash that of this one.
	Previous string `json:"previous"`
	Hash     string `json:"hash,omitempty"`
}

// RemovedEvent is what was known of an event, so that its assessment can be accounted for.
type RemovedEvent struct {
	Title string `json:"title"`
	// Mode is 'Drill' for an exercise, and absent for the real thing.
	Mode         v1alpha1.Mode        `json:"mode,omitempty"`
	Severity     v1alpha1.Severity    `json:"severity"`
	Source       v1alpha1.EventSource `json:"source"`
	SubmittedBy  string               `json:"submittedBy"`
	ObservedTime metav1.Time          `json:"observedTime"`
	Fingerprint  string               `json:"fingerprint,omitempty"`
	RawDataHash  string               `json:"rawDataHash,omitempty"`
	// Resources are the objects it was about, Assets what it was about outside the cluster.
	Resources []v1alpha1.ResourceReference `json:"resources,omitempty"`
	Assets    []v1alpha1.Asset             `json:"assets,omitempty"`
	// Occurrences is how often it was seen; text, because JSON's numbers are not exact.
	Occurrences int64 `json:"occurrences,string"`
	// Assessment is the decision that was in force, EarlierAssessments those before it.
	Assessment         v1alpha1.Assessment   `json:"assessment"`
	EarlierAssessments []v1alpha1.Assessment `json:"earlierAssessments,omitempty"`
}

// RemovalOfEvent takes down an event.
func RemovalOfEvent(event *v1alpha1.SecurityEvent) Removal {
	removal := removalOf("SecurityEvent", &event.ObjectMeta)
	removal.Event = &RemovedEvent{
		Title: event.Spec.Title, Severity: event.Spec.Severity, Source: event.Spec.Source, SubmittedBy: event.Spec.SubmittedBy,
		ObservedTime: event.Spec.ObservedTime, Fingerprint: event.Spec.Fingerprint, RawDataHash: event.Spec.RawDataHash,
		Resources: event.Spec.Resources, Assets: event.Spec.Assets, Occurrences: event.Status.Occurrences,
		Assessment: event.Status.Assessment, EarlierAssessments: event.Status.EarlierAssessments,
	}
	if event.Spec.Mode == v1alpha1.ModeDrill {
		removal.Event.Mode = event.Spec.Mode
	}
	return removal
}

// RemovalOfDecision takes down a Decision.
func RemovalOfDecision(decision *v1alpha1.Decision) Removal {
	removal := removalOf("Decision", &decision.ObjectMeta)
	removal.Decision = &decision.Spec
	for i := range decision.Status.Conditions {
		if decision.Status.Conditions[i].Type == v1alpha1.ConditionAccepted {
			removal.Answer = &decision.Status.Conditions[i]
		}
	}
	return removal
}

// RemovalOfEvidence takes down a piece of evidence.
func RemovalOfEvidence(piece *v1alpha1.Evidence) Removal {
	removal := removalOf("Evidence", &piece.ObjectMeta)
	removal.Evidence, removal.Location = &piece.Spec, piece.Status.Location
	return removal
}

func removalOf(kind string, object *metav1.ObjectMeta) Removal {
	return Removal{Kind: kind, Name: object.Name, UID: object.UID, ResourceVersion: object.ResourceVersion, CreationTime: object.CreationTimestamp}
}

// ChainRemovals fills in sequence, previous and hash of removals that follow the one of a
// sequence and a hash, and gives them as lines of canonical JSON (RFC 8785).
func ChainRemovals(removals []Removal, sequence int64, previous string) ([]byte, error) {
	var lines bytes.Buffer
	for i := range removals {
		removal := &removals[i]
		sequence++
		removal.Sequence, removal.Previous = sequence, previous
		hash, err := hashRemoval(*removal)
		if err != nil {
			return nil, err
		}
		removal.Hash, previous = hash, hash
		line, err := canonical(removal)
		if err != nil {
			return nil, fmt.Errorf("removal %d: %w", sequence, err)
		}
		lines.Write(line)
		lines.WriteByte('\n')
	}
	return lines.Bytes(), nil
}

func hashRemoval(removal Removal) (string, error) {
	removal.Hash = ""
	hash, err := hashOf(&removal)
	if err != nil {
		return "", fmt.Errorf("removal %d: %w", removal.Sequence, err)
	}
	return hash, nil
}

// hashLine is the hash of a removal or a timeline entry by its text: of all that is in it but the
// hash itself, also of what this version does not know or calls otherwise. Of what was written as
// it is today it is the same as by its type.
func hashLine(line []byte) (string, error) {
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(line, &members); err != nil {
		return "", err
	}
	delete(members, "hash")
	return hashOf(members)
}

func hashOf(value any) (string, error) {
	text, err := canonical(value)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

func canonical(value any) ([]byte, error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return jcs.Transform(raw)
}
