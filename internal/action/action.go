// Package action holds what playbooks can do: one file an action, behind one
// interface, in one registry. Actions borrow their rights: every read and write goes
// through a client that acts as the playbook's ServiceAccount.
package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// LogReader opens the log of a container as the playbook's ServiceAccount.
type LogReader interface {
	// OpenLog opens the log of one container of a pod. The caller closes it.
	OpenLog(ctx context.Context, namespace, pod string, options *corev1.PodLogOptions) (io.ReadCloser, error)
}

// Record is one piece of evidence to be preserved.
type Record struct {
	// Key tells pieces of one step and target apart, such as 'log/cart'. With the
	// incident, step, attempt and target it gives the Evidence's name, so that
	// doing it twice keeps one.
	Key string
	// Spec is the Evidence's spec but for incidentRef, step, tool, collectedTime,
	// collectedBy, digest and sizeBytes, which the recorder fills in.
	Spec v1alpha1.EvidenceSpec
	// Open gives the bytes.
	Open func(context.Context) (io.ReadCloser, error)
	// Complete fills in what is known of Spec only once the bytes were read, such as
	// that they were cut. It is called before the Evidence is created. Nil means nothing.
	Complete func(spec *v1alpha1.EvidenceSpec)
}

// ErrNoRoom says that the store has no room for what playbooks collect.
var ErrNoRoom = errors.New("the evidence store has no room")

// Recorder preserves evidence: first the bytes, then the Evidence that names them.
type Recorder interface {
	// Preserve stores the bytes and creates the Evidence, or finds that an earlier try did.
	// The error is ErrNoRoom when what is left is kept for the records of incidents.
	Preserve(ctx context.Context, request *Request, record Record) (*v1alpha1.Evidence, error)
	// KeepUndo keeps an undo record as Evidence, or finds that an earlier try did.
	KeepUndo(ctx context.Context, request *Request, record []byte) (UndoReference, error)
	// ReadUndo reads it back, and gives nothing but the bytes that were kept. The error is
	// ErrUndoLost when they are not there or were changed.
	ReadUndo(ctx context.Context, namespace string, reference UndoReference) ([]byte, error)
}

// Request is what an action is asked to do.
type Request struct {
	// Incident is the incident; it must not be changed.
	Incident *v1alpha1.Incident
	// Step is the playbook's step, with its defaults.
	Step *v1alpha1.PlaybookStep
	// Attempt is the step's attempt.
	Attempt int32
	// Target is the object to act on, pinned by UID, with the undo record; empty for
	// VerbVerify.
	Target v1alpha1.StepTarget
	// Targets are all targets of the step.
	Targets []v1alpha1.StepTarget
	// Client acts as the playbook's ServiceAccount and reads without a cache.
	Client client.Client
	// Logs acts as the playbook's ServiceAccount.
	Logs LogReader
	// Evidence preserves what is collected.
	Evidence Recorder
	// Values evaluates the playbook's expressions.
	Values Values
	// Egress sends requests out of the cluster. Nil means that none leaves.
	Egress *Egress
	// Plan is the domain's plan as it is now. Nil when there is none.
	Plan *v1alpha1.ResponsePlan
	// AsPlan gives a client that acts as the plan's ServiceAccount, and its user name. An
	// error says in words why there is none.
	AsPlan func(ctx context.Context) (client.Client, string, error)
	// Protected says why nothing may be written in a namespace without an approval; empty
	// when something may. Nil means that none is protected.
	Protected func(ctx context.Context, namespace string) (string, error)
	// OutOfScope says why the playbook is not meant to act in a namespace; empty when it is.
	// Nil means that it is meant to act everywhere.
	OutOfScope func(namespace string) string
	// DryRun says that the response is only tried: Client makes every write a server-side
	// dry run by itself, and what goes elsewhere is rendered and not sent.
	DryRun bool
	// ActingAs is the user name of the playbook's ServiceAccount.
	ActingAs string
	// Now is the time.
	Now time.Time
}

// Action is one thing a playbook can do to one target. Every method may be asked
// again after a crash, and may find that an earlier try has done its work.
type Action interface {
	// Plan reads what the effect needs and gives the undo record. It writes nothing.
	Plan(ctx context.Context, request *Request) lifecycle.Result
	// Apply makes the effect, with the target's UID as a precondition.
	Apply(ctx context.Context, request *Request) lifecycle.Result
	// Observe looks whether the effect stands.
	Observe(ctx context.Context, request *Request) lifecycle.Result
	// Undo undoes the effect by the target's undo record, whatever has happened to the
	// object since.
	Undo(ctx context.Context, request *Request) lifecycle.Result
}

// Lister is an action whose plan lists what stands beside its target. What it lists does not
// depend on the target, so that it can be read before the target is known to be there.
type Lister interface {
	// Beside gives the list of the target's namespace, and the options the plan asks for it with.
	Beside(namespace string) (client.ObjectList, []client.ListOption)
}

// registry holds the actions that act; approve, task, wait and revert are decided
// in package lifecycle and act on nothing.
var registry = map[string]Action{}

// register adds an action under its name in the playbook; each action's file calls it once.
func register(name string, action Action) Action {
	registry[name] = action
	return action
}

// For gives the action of that name.
func For(name string) (Action, error) {
	action, ok := registry[name]
	if !ok {
		return nil, fmt.Errorf("no action %q: it must be one of %v", name, Names())
	}
	return action, nil
}

// Names lists the actions that act, sorted.
func Names() []string {
	names := make([]string, 0, len(registry))
	for name := range registry {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
