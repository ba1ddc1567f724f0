package evidence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
)

// ToolName is the name of the tool in Evidence that Firebreak has collected.
const ToolName = "firebreak"

// maxName is how long an object's name may be.
const maxName = 253

// Recorder preserves what playbooks collect. Its identity is the manager's: a playbook's
// ServiceAccount needs no right on Evidence.
type Recorder struct {
	// Client writes Evidence, and reads it without a cache, as the manager.
	Client client.Client
	// Namespaces reads namespaces, for their UIDs; it may be a cache.
	Namespaces client.Reader
	// Store keeps the bytes.
	Store *Store
	// Clock tells when a journal was sealed.
	Clock clock.PassiveClock
	// Manager is the user name of the manager, which seals journals.
	Manager string
	// Version is the version of Firebreak.
	Version string
	// APIServerVersion is the version of the API server that evidence is read from.
	// Empty means not known.
	APIServerVersion string
}

var _ action.Recorder = (*Recorder)(nil)

// Preserve stores the bytes of a record and creates the Evidence that names them, unless the
// store has no room but what it keeps for timelines and undo records (NoRoomError). Asked again
// for the same key, step, attempt and target it gives what it has kept, without reading anything
// anew.
func (r *Recorder) Preserve(ctx context.Context, request *action.Request, record action.Record) (*v1alpha1.Evidence, error) {
	incident := request.Incident
	names := evidenceNames(request, record.Key)
	spec := record.Spec
	spec.IncidentRef = v1alpha1.IncidentReference{Name: incident.Name}
	spec.Step = request.Step.Name
	spec.Tool = r.tool()
	spec.CollectedTime = metav1.NewTime(request.Now)
	spec.CollectedBy = request.ActingAs
	spec.Origin.APIServerVersion = r.APIServerVersion
	mine := func(found *v1alpha1.EvidenceSpec) bool {
		return found.IncidentRef == spec.IncidentRef && found.Step == spec.Step && found.Type == spec.Type &&
			found.CollectedBy == spec.CollectedBy && found.Tool.Name == ToolName
	}
	name, found, err := r.find(ctx, incident.Namespace, names, mine)
	if err != nil {
		return nil, err
	}
	if found != nil {
		return found, r.markStored(ctx, found)
	}
	domain, err := r.domain(ctx, incident.Namespace)
	if err != nil {
		return nil, err
	}
	if err := r.Store.HasRoom(); err != nil {
		return nil, err
	}
	from, err := record.Open(ctx)
	if err != nil {
		return nil, err
	}
	stored, err := r.Store.Collect(ctx, domain, from)
	defer stored.Release()
	if err := errors.Join(err, from.Close()); err != nil {
		return nil, err
	}
	if record.Complete != nil {
		record.Complete(&spec)
	}
	return r.create(ctx, incident, name, spec, stored)
}

func (r *Recorder) tool() v1alpha1.EvidenceTool {
	return v1alpha1.EvidenceTool{Name: ToolName, Version: r.Version}
}

// evidenceNames are the names that Evidence of this key, step, attempt and target may
// have: the second is for when somebody has taken the first.
func evidenceNames(request *action.Request, key string) []string {
	incident := request.Incident
	names := make([]string, 0, 2)
	for _, digits := range []int{10, 32} {
		hash := action.ShortHash(digits, string(incident.UID), request.Step.Name, strconv.Itoa(int(request.Attempt)), string(request.Target.UID), key)
		names = append(names, action.NameFor(incident.Name, hash, maxName))
	}
	return names
}

// find looks for Evidence that an earlier try has made, and otherwise for a name that is
// free. What somebody else has put under a name is not taken for it.
func (r *Recorder) find(ctx context.Context, namespace string, names []string, mine func(*v1alpha1.EvidenceSpec) bool) (string, *v1alpha1.Evidence, error) {
	for _, name := range names {
		found := &v1alpha1.Evidence{}
		err := r.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, found)
		switch {
		case apierrors.IsNotFound(err):
			return name, nil, nil
		case err != nil:
			return "", nil, fmt.Errorf("evidence '%s': %w", name, err)
		case mine(&found.Spec):
			return name, found, nil
		}
	}
	return "", nil, fmt.Errorf("evidence '%s' is not what was to be kept under that name: somebody has taken it, delete it", strings.Join(names, "' and '"))
}

// put stores bytes of a record of Firebreak's own. They stay until they are released, also when
// nothing refers to them.
func (r *Recorder) put(ctx context.Context, namespace string, from io.Reader) (*Held, error) {
	domain, err := r.domain(ctx, namespace)
	if err != nil {
		return nil, err
	}
	return r.Store.PutHeld(ctx, domain, from)
}

// domain gives the UID of a namespace: one that was made anew under the same name is
// another domain, and shares no bytes with the first.
func (r *Recorder) domain(ctx context.Context, name string) (types.UID, error) {
	namespace := &corev1.Namespace{}
	if err := r.Namespaces.Get(ctx, client.ObjectKey{Name: name}, namespace); err != nil {
		return "", fmt.Errorf("the UID of namespace '%s' could not be read: %w", name, err)
	}
	return namespace.UID, nil
}

// create makes the Evidence of bytes that are stored. Another try may have been faster.
func (r *Recorder) create(ctx context.Context, incident *v1alpha1.Incident, name string, spec v1alpha1.EvidenceSpec, stored *Held) (*v1alpha1.Evidence, error) {
	spec.Digest = stored.Digest
	spec.SizeBytes = &stored.SizeBytes
	made := &v1alpha1.Evidence{Spec: spec}
	made.Namespace = incident.Namespace
	made.Name = name
	made.Labels = map[string]string{v1alpha1.LabelIncident: action.IncidentLabel(incident.Name)}
	return made, r.keep(ctx, made, stored)
}

// keep creates Evidence and says where its bytes are, once it is sure that they are there still.
func (r *Recorder) keep(ctx context.Context, made *v1alpha1.Evidence, stored *Held) error {
	if err := r.Client.Create(ctx, made); err != nil {
		return fmt.Errorf("evidence '%s': %w", made.Name, err)
	}
	if err := stored.Ensure(ctx); err != nil {
		return err
	}
	return r.say(ctx, made, stored.Location, nil)
}

// markStored makes sure that Evidence found says where its bytes are. A crash may have
// come between its creation and its status.
func (r *Recorder) markStored(ctx context.Context, found *v1alpha1.Evidence) error {
	if meta.IsStatusConditionTrue(found.Status.Conditions, v1alpha1.ConditionStored) {
		return nil
	}
	domain, err := r.domain(ctx, found.Namespace)
	if err != nil {
		return err
	}
	location := string(domain) + "/" + found.Spec.Digest[len(DigestPrefix):]
	if err := r.Store.Recover(ctx, location); err != nil {
		return err
	}
	missing := r.Store.Check(ctx, location, found.Spec.Digest)
	if missing != nil && !errors.Is(missing, ErrNotStored) && !errors.Is(missing, ErrChanged) {
		return missing
	}
	if err := r.say(ctx, found, location, missing); err != nil {
		return err
	}
	return missing
}

// say writes the status: where the bytes are, or why they are not there.
func (r *Recorder) say(ctx context.Context, evidence *v1alpha1.Evidence, location string, missing error) error {
	condition := metav1.Condition{
		Type: v1alpha1.ConditionStored, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonDigestMatches,
		Message: "the bytes were written, and read back with the digest", ObservedGeneration: evidence.Generation,
	}
	if missing != nil {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, v1alpha1.ReasonMissing, missing.Error()
	}
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		evidence.Status.ObservedGeneration = evidence.Generation
		if missing == nil {
			evidence.Status.Location = location
		}
		meta.SetStatusCondition(&evidence.Status.Conditions, condition)
		err := r.Client.Status().Update(ctx, evidence)
		if apierrors.IsConflict(err) {
			if err := r.Client.Get(ctx, client.ObjectKeyFromObject(evidence), evidence); err != nil {
				return err
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("status of evidence '%s': %w", evidence.Name, err)
	}
	return nil
}
