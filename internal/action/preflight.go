package action

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// EvidenceLossError says that a playbook destroys before it collects.
type EvidenceLossError struct {
	// Step is the first step that does.
	Step string

	message string
}

// Error says what is wrong and what would be right.
func (e *EvidenceLossError) Error() string { return e.message }

// TargetError says that an action cannot act on what a step names.
type TargetError struct{ message string }

// Error says what is wrong and what would be right.
func (e *TargetError) Error() string { return e.message }

// ChannelError says that a step tells channels or roles by which nobody can be told.
type ChannelError struct{ message string }

// Error says what is wrong and what would be right.
func (e *ChannelError) Error() string { return e.message }

// stepsOf are the steps of a playbook in the order in which they run.
func stepsOf(playbook *v1alpha1.ResponsePlaybookSpec) []*v1alpha1.PlaybookStep {
	var steps []*v1alpha1.PlaybookStep
	for _, phase := range []*v1alpha1.PlaybookPhase{&playbook.Containment, &playbook.Eradication, &playbook.Recovery} {
		for i := range phase.Steps {
			steps = append(steps, &phase.Steps[i])
		}
	}
	return steps
}

// CheckEvidence finds the first step that may destroy evidence without a `collect` of its
// targets before it. It gives an *EvidenceLossError, or nil when there is none or the
// playbook allows it.
func CheckEvidence(playbook *v1alpha1.ResponsePlaybookSpec) error {
	if playbook.EvidenceLoss == v1alpha1.EvidenceLossAllow {
		return nil
	}
	steps := stepsOf(playbook)
	for i, step := range steps {
		if !destroys(step) {
			continue
		}
		before := steps[:i]
		for len(before) > 0 && step.Parallel != "" && before[len(before)-1].Parallel == step.Parallel {
			before = before[:len(before)-1]
		}
		if slices.ContainsFunc(before, func(earlier *v1alpha1.PlaybookStep) bool { return preserves(earlier, step) }) {
			continue
		}
		return &EvidenceLossError{Step: step.Name, message: fmt.Sprintf(
			"step '%s' (%s) may destroy evidence, and no step before it collects it: a step with `collect` and `%s` must come before it, %s; or the playbook must say `evidenceLoss: Allow`",
			step.Name, lifecycle.ActionOf(step), collectTarget(step), whyNotCounted(steps, step))}
	}
	return nil
}

// destroys says whether evidence may be lost by a step: some actions lose it only with
// some targets or settings.
func destroys(step *v1alpha1.PlaybookStep) bool {
	switch {
	case step.Isolate != nil:
		return step.Isolate.SurvivingConnections == v1alpha1.SurvivingDeleted
	case !traitOf(step).Destroys:
		return false
	case step.Taint != nil:
		return step.Taint.Effect == v1alpha1.TaintEffect(corev1.TaintEffectNoExecute)
	case step.Suspend != nil && step.Targets != "":
		// Only a Job loses its pods by it.
		kinds := namedKinds(step.Targets)
		return len(kinds) == 0 || slices.ContainsFunc(kinds, func(kind schema.GroupVersionKind) bool { return kind.Kind == "Job" })
	default:
		return true
	}
}

// preserves says whether a step collects what another destroys. One that runs only
// under a condition counts only for a step under the same condition.
func preserves(step, destroyer *v1alpha1.PlaybookStep) bool {
	if step.Collect == nil || step.When != "" && step.When != destroyer.When {
		return false
	}
	switch {
	case step.Targets != "" || destroyer.Targets != "":
		return true
	case step.Target == v1alpha1.TargetPods:
		return true
	default:
		return step.Target == destroyer.Target
	}
}

func collectTarget(step *v1alpha1.PlaybookStep) string {
	if step.Target == "" {
		return "targets"
	}
	return "target: " + string(v1alpha1.TargetPods)
}

// whyNotCounted says why a `collect` that is there does not help.
func whyNotCounted(steps []*v1alpha1.PlaybookStep, destroyer *v1alpha1.PlaybookStep) string {
	text := "not in the same `parallel` group and not under another `when`"
	for _, step := range steps {
		switch {
		case step.Collect == nil:
		case step.Parallel != "" && step.Parallel == destroyer.Parallel:
			return text + " (step '" + step.Name + "' runs at the same time)"
		case step.When != "" && step.When != destroyer.When:
			return text + " (step '" + step.Name + "' may be skipped by its `when`)"
		}
	}
	return text
}

// CheckTargets finds steps whose `targets` name kinds that their action cannot act on. It
// gives a *TargetError, or nil.
func CheckTargets(playbook *v1alpha1.ResponsePlaybookSpec) error {
	for _, step := range stepsOf(playbook) {
		about, ok := DescriptionOf(traitOf(step).Name)
		if !ok || step.Targets == "" || len(about.Kinds) == 0 {
			continue
		}
		for _, kind := range namedKinds(step.Targets) {
			if !slices.Contains(about.Kinds, kind) {
				return &TargetError{fmt.Sprintf("step '%s': `targets` names a %s, but '%s' acts on no such object: it must be %s",
					step.Name, kindInWords(kind), traitOf(step).Name, kindsInWords(about.Kinds))}
			}
		}
	}
	return nil
}

// CheckChannels finds the steps of a playbook that tell channels or roles by which nobody
// can be told. It gives a *ChannelError that names them all, or nil.
func CheckChannels(playbook *v1alpha1.ResponsePlaybookSpec, plan *v1alpha1.ResponsePlan) error {
	var problems []string
	for _, step := range stepsOf(playbook) {
		if step.Notify == nil {
			continue
		}
		channels, mute := lifecycle.Addressees(plan, step.Notify)
		for _, name := range channels {
			if lifecycle.ChannelOf(plan, string(name)) == nil {
				problems = append(problems, fmt.Sprintf("step '%s': %v", step.Name, noChannel(plan, string(name))))
			}
		}
		for _, name := range mute {
			problems = append(problems, fmt.Sprintf("step '%s': %v", step.Name, muteRole(plan, string(name))))
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return &ChannelError{strings.Join(problems, "; ")}
}

// Unreverted names the steps that contain and could be undone, but are undone by no
// `revert` that comes after them.
func Unreverted(playbook *v1alpha1.ResponsePlaybookSpec) []string {
	steps := stepsOf(playbook)
	var names []string
	for i, step := range steps {
		trait := traitOf(step)
		if !trait.Contains || !trait.Undoable {
			continue
		}
		undone := slices.ContainsFunc(steps[i:], func(later *v1alpha1.PlaybookStep) bool {
			return later.Revert != nil && (len(later.Revert.Steps) == 0 || slices.Contains(later.Revert.Steps, v1alpha1.StepName(step.Name)))
		})
		if !undone {
			names = append(names, step.Name)
		}
	}
	return names
}

func kindInWords(kind schema.GroupVersionKind) string {
	if kind.Group == "" {
		return kind.Kind
	}
	return kind.Kind + " (" + kind.GroupVersion().String() + ")"
}

func kindsInWords(kinds []schema.GroupVersionKind) string {
	words := make([]string, 0, len(kinds))
	for _, kind := range kinds {
		words = append(words, kindInWords(kind))
	}
	return strings.Join(words, ", ")
}
