package simulate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/expression"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// Playbook is the playbook that would run.
type Playbook struct {
	// Name is its name; empty when the rule chooses none.
	Name string `json:"name,omitempty"`
	// ServiceAccount is whose rights it has.
	ServiceAccount string `json:"serviceAccount,omitempty"`
	// Problem says why it cannot run.
	Problem string `json:"problem,omitempty"`
	// Notes are what holds for all of its steps.
	Notes []string `json:"notes,omitempty"`
	// Steps are in the order in which they run.
	Steps []Step `json:"steps,omitempty"`
}

// Step is what one step would do.
type Step struct {
	Phase  string `json:"phase"`
	Name   string `json:"name"`
	Action string `json:"action"`
	// Parallel names the group whose steps run at the same time.
	Parallel string `json:"parallel,omitempty"`
	// Skipped says why it would be skipped.
	Skipped string `json:"skipped,omitempty"`
	// Does says what the action does, and Settings how.
	Does     string `json:"does"`
	Settings string `json:"settings,omitempty"`
	// Targets are what it acts on, as far as the event tells.
	Targets []string `json:"targets,omitempty"`
	// Notes are what must be looked up in the cluster, and what would hold it up.
	Notes []string `json:"notes,omitempty"`
}

// playbookOf says what the incident's playbook would do.
func playbookOf(ctx context.Context, domain *Domain, incident *v1alpha1.Incident) *Playbook {
	name := incident.Spec.PlaybookRef.Name
	if name == "" {
		return &Playbook{Problem: "the rule chooses no playbook: people respond by hand"}
	}
	found, ok := domain.Playbooks[name]
	if !ok {
		return &Playbook{Name: name, Problem: fmt.Sprintf("ResponsePlaybook '%s' is not among the manifests: what it would do is not known", name)}
	}
	result := &Playbook{Name: name, ServiceAccount: found.Spec.ServiceAccountName}
	if err := firstOf(expression.CheckPlaybook(&found.Spec), action.CheckTargets(&found.Spec), action.CheckEvidence(&found.Spec)); err != nil {
		result.Problem = "it would not be Ready: " + err.Error()
		return result
	}
	result.Notes = modeNotes(domain.Plan, incident, &found.Spec)
	known := &simulation{
		domain: domain, playbook: found, incident: incident, values: (&expression.Cache{}).Values(&found.Spec),
		dry: lifecycle.DryRun(lifecycle.Input{Incident: incident, Plan: domain.Plan, Playbook: &found.Spec}),
	}
	for _, phase := range []struct {
		name  string
		steps []v1alpha1.PlaybookStep
	}{{"Containment", found.Spec.Containment.Steps}, {"Eradication", found.Spec.Eradication.Steps}, {"Recovery", found.Spec.Recovery.Steps}} {
		for i := range phase.steps {
			result.Steps = append(result.Steps, known.step(ctx, phase.name, &phase.steps[i]))
		}
	}
	return result
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func modeNotes(plan *v1alpha1.ResponsePlan, incident *v1alpha1.Incident, playbook *v1alpha1.ResponsePlaybookSpec) []string {
	var notes []string
	switch {
	case plan != nil && plan.Spec.Response == v1alpha1.ResponsePaused:
		notes = append(notes, "the plan says `response: Paused`: no step runs until that is over")
	case lifecycle.IsDrill(incident):
		notes = append(notes, "a drill: every write is only tried, and nothing is sent; people are asked as they would be")
	case plan != nil && plan.Spec.Response == v1alpha1.ResponseDryRun:
		notes = append(notes, "the plan says `response: DryRun`: every write is only tried")
	case playbook.Mode == v1alpha1.PlaybookDryRun:
		notes = append(notes, "`mode: DryRun`: every write is only tried")
	case playbook.Mode == v1alpha1.PlaybookConfirm:
		notes = append(notes, "`mode: Confirm`: each step that writes waits for an approval")
	}
	if incident.Spec.Confirm == v1alpha1.ConfirmRequired && len(playbook.Eradication.Steps)+len(playbook.Recovery.Steps) > 0 {
		notes = append(notes, "`confirm: Required`: eradication and recovery wait until a person has confirmed that it is an incident (a Decision 'Confirm'); containment does not")
	}
	return notes
}

// simulation is what is known while steps are described.
type simulation struct {
	domain   *Domain
	playbook *v1alpha1.ResponsePlaybook
	incident *v1alpha1.Incident
	values   *expression.Values
	dry      bool
}

func (k *simulation) step(ctx context.Context, phase string, step *v1alpha1.PlaybookStep) Step {
	trait := lifecycle.TraitOf(lifecycle.ActionOf(step))
	about, _ := action.DescriptionOf(trait.Name)
	result := Step{
		Phase: phase, Name: step.Name, Action: trait.Name, Parallel: step.Parallel,
		Does: firstSentence(about.Does), Settings: settings(step, trait.Name),
	}
	if step.When != "" {
		k.when(ctx, step, &result)
		if result.Skipped != "" {
			return result
		}
	}
	if k.dry && (step.Verify != nil || step.Revert != nil) {
		result.Skipped = "after a dry run there is no effect to look at or undo"
		return result
	}
	var named []v1alpha1.ResourceReference
	if trait.Acts || step.Target != "" || step.Targets != "" {
		named = k.targets(ctx, step, &result)
	}
	if len(result.Targets) == 0 && len(result.Notes) == 0 && (step.Target != "" || step.Targets != "") {
		result.Notes = append(result.Notes, noTargets(step))
	}
	if !trait.Reads && trait.Acts {
		k.held(named, &result)
	}
	return result
}

// when evaluates a condition on the incident as it is opened.
func (k *simulation) when(ctx context.Context, step *v1alpha1.PlaybookStep, result *Step) {
	program, err := expression.CompileBool(expression.Incident, step.When)
	if err != nil {
		result.Notes = append(result.Notes, "`when` "+err.Error())
		return
	}
	variables, err := expression.IncidentVariables(k.incident)
	if err != nil {
		result.Notes = append(result.Notes, err.Error())
		return
	}
	right, err := program.Bool(ctx, variables)
	switch {
	case err != nil:
		result.Notes = append(result.Notes, "`when` cannot be told: "+err.Error())
	case !right:
		result.Skipped = fmt.Sprintf("`when: %s` is false, as the incident is opened", step.When)
	default:
		result.Notes = append(result.Notes, fmt.Sprintf("`when: %s` is true, as the incident is opened", step.When))
	}
}

func noTargets(step *v1alpha1.PlaybookStep) string {
	if step.OnNoTargets == v1alpha1.OnNoTargetsSkip {
		return "the event names nothing to act on: the step is skipped (`onNoTargets: Skip`)"
	}
	return "the event names nothing to act on: the step fails (`onNoTargets: Fail`)"
}

// settings is what the action says, as JSON; empty when it says nothing.
func settings(step *v1alpha1.PlaybookStep, name string) string {
	text := &bytes.Buffer{}
	encoder := json.NewEncoder(text)
	encoder.SetEscapeHTML(false) // it is for people to read
	if err := encoder.Encode(step); err != nil {
		return ""
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(text.Bytes(), &fields); err != nil || string(fields[name]) == "{}" {
		return ""
	}
	return string(fields[name])
}

// firstSentence is what is before the first full stop that ends a sentence.
func firstSentence(text string) string {
	if at := strings.Index(text, ". "); at > 0 {
		return text[:at+1]
	}
	return text
}
