package lifecycle

import (
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Verb says what an executor is to do about one target of one step.
type Verb string

// The verbs, in the order in which a target meets them.
const (
	// VerbResolve finds the objects a step acts on, when more must be read for it than
	// the incident's own objects. It writes nothing.
	VerbResolve Verb = "Resolve"
	// VerbPlan reads what the effect needs and what undoing it will need. It writes nothing.
	VerbPlan Verb = "Plan"
	// VerbApply makes the effect. It may be asked again after a crash.
	VerbApply Verb = "Apply"
	// VerbObserve looks whether an applied effect stands.
	VerbObserve Verb = "Observe"
	// VerbVerify looks whether a step's condition holds now, over all its targets.
	VerbVerify Verb = "Verify"
	// VerbUndo undoes the effect by the target's undo record.
	VerbUndo Verb = "Undo"
)

// WholeStep is the Target of work that is about all targets of a step.
const WholeStep = -1

// Work is one thing for an executor to do.
type Work struct {
	// Verb says what to do.
	Verb Verb
	// Step is the index of the step in the incident's status.
	Step int
	// Target is the index of the target in the step, or WholeStep.
	Target int
}

// Result is what became of one Work.
type Result struct {
	Work

	// State is the target's state from here on. By verb:
	//   Resolve: Succeeded (with Targets), Failed.
	//   Plan:    Acting (go on), Held (a person must approve first), Gone, Failed,
	//            Succeeded (the effect is not needed).
	//   Apply:   Succeeded, Applied (look again), Gone, Failed, Pending (undoing needs a
	//            further record first: plan again; it counts as an attempt).
	//   Observe: Succeeded, Applied (look again), Failed. Of an effect that is held and had
	//            succeeded: Succeeded (it stands), Applied (look again), Gone (there is
	//            nothing left to hold), Failed (it is lost; with Unknown or Permanent it
	//            could not be found out).
	//   Verify:  Succeeded (holds now), Applied (does not hold now), Failed (cannot be evaluated).
	//   Undo:    Reverted, Failed.
	State v1alpha1.TargetState
	// Proof says how sure it is that a containment works.
	Proof v1alpha1.Proof
	// Message says what was done or why not, for a person; never a secret.
	Message string
	// Warning says what may go against the effect, such as a controller that takes it back;
	// only of Plan that ends Acting.
	Warning string
	// Undo is the record to keep before the effect is made; only of Plan.
	Undo string
	// Targets are the objects that were found; only of Resolve. Of their State only Held
	// counts: a protection holds the object, and Message says which.
	Targets []v1alpha1.StepTarget
	// Outputs are values for later steps; only of Apply and Observe that end Succeeded.
	Outputs []v1alpha1.StepOutput
	// Permanent says that trying again cannot help.
	Permanent bool
	// Unknown says that it could not be found out how things are, because the API server
	// gave no answer: an effect is not taken for lost by that.
	Unknown bool
	// After is when to look again at an Applied target. Zero means one second.
	After time.Duration
}
