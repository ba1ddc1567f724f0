package lint

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/expression"
)

var (
	stepProblem = regexp.MustCompile("^(containment|eradication|recovery) step \"([^\"]*)\": (?:`([^`]+)`)?")
	namedStep   = regexp.MustCompile(`step '([^']*)'`)
)

func (r *run) checkPlaybook(ctx context.Context, p *playbook) error {
	for _, problem := range each(expression.CheckPlaybook(&p.spec.Spec)) {
		reason := ReasonExpression
		var reference *expression.ReferenceError
		if errors.As(problem, &reference) {
			reason = ReasonReference
		}
		r.add(site{p.Object, problemPath(problem.Error())}, Error, reason, "%v", problem)
	}
	for reason, err := range map[string]error{
		ReasonEvidenceLoss: action.CheckEvidence(&p.spec.Spec), ReasonTarget: action.CheckTargets(&p.spec.Spec),
	} {
		if err != nil {
			r.add(site{p.Object, p.stepNamed(err.Error())}, Error, reason, "%v", err)
		}
	}
	for _, name := range action.Unreverted(&p.spec.Spec) {
		r.add(site{p.Object, p.step(name)}, Warning, ReasonNotReverted,
			"no later `revert` undoes step '%s': its effect stays until a person undoes it. A `revert` step in `recovery` would", name)
	}
	for _, plan := range r.given.plans {
		if plan.Namespace != p.Namespace {
			continue
		}
		if err := action.CheckChannels(&p.spec.Spec, &plan.spec); err != nil {
			r.add(site{p.Object, p.stepNamed(err.Error())}, Error, ReasonReference, "%v", err)
		}
	}
	r.refersToAccount(p.Object, p.spec.Spec.ServiceAccountName)
	p.eachStep(func(path string, step *v1alpha1.PlaybookStep) {
		r.checkTexts(site{p.Object, path + ".when"}, expression.Incident, step.When)
		if step.Approve != nil {
			r.refersToRole(p.Object, path+".approve.role", step.Approve.Role)
		}
		if step.Task != nil {
			r.refersToRole(p.Object, path+".task.role", step.Task.Role)
		}
	})
	return r.checkRights(ctx, p)
}

// checkRights asks for every right of the playbook's ServiceAccount.
func (r *run) checkRights(ctx context.Context, p *playbook) error {
	return r.review(ctx, p, action.PlaybookRights(&p.spec.Spec), holder{
		account: p.spec.Spec.ServiceAccountName, named: site{p.Object, accountField},
		print: fmt.Sprintf("'kubectl firebreak rbac -f %s' prints those that it needs", p.Start().File),
	})
}

// problemPath is the field that a problem of a playbook is about.
func problemPath(problem string) string {
	if found := stepProblem.FindStringSubmatch(problem); found != nil {
		path := fmt.Sprintf("spec.%s.steps[%s]", found[1], found[2])
		if found[3] != "" {
			path += "." + found[3]
		}
		return path
	}
	if found := quotedField.FindStringSubmatch(problem); found != nil {
		return "spec." + found[1]
	}
	return "spec"
}

// stepNamed is the path of the first step that a problem names.
func (p *playbook) stepNamed(problem string) string {
	if found := namedStep.FindStringSubmatch(problem); found != nil {
		return p.step(found[1])
	}
	return "spec"
}

// step is the path of the step of that name.
func (p *playbook) step(name string) string {
	found := "spec"
	p.eachStep(func(path string, step *v1alpha1.PlaybookStep) {
		if step.Name == name && found == "spec" {
			found = path
		}
	})
	return found
}

func (p *playbook) eachStep(do func(path string, step *v1alpha1.PlaybookStep)) {
	spec := &p.spec.Spec
	for _, phase := range []struct {
		name  string
		steps []v1alpha1.PlaybookStep
	}{{"containment", spec.Containment.Steps}, {"eradication", spec.Eradication.Steps}, {"recovery", spec.Recovery.Steps}} {
		for i := range phase.steps {
			do(fmt.Sprintf("spec.%s.steps[%d]", phase.name, i), &phase.steps[i])
		}
	}
}
