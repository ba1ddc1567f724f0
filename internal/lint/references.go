package lint

import (
	"fmt"
	"slices"

	"github.com/firebreak-dev/firebreak/internal/classify"
	"github.com/firebreak-dev/firebreak/internal/expression"
	"github.com/firebreak-dev/firebreak/internal/manifest"
)

func newGiven() *given {
	return &given{all: map[string]map[key]*manifest.Object{}, accounts: map[key]bool{}}
}

// first gives the object of that kind and name that was there before.
func (g *given) first(object *manifest.Object) *manifest.Object {
	if object.Name == "" {
		return nil
	}
	return g.all[object.Kind][key{object.Namespace, object.Name}]
}

// broken notes that an object is there, though it is not right. What has no name yet is named
// by nothing.
func (g *given) broken(object *manifest.Object) {
	if object.Name == "" {
		return
	}
	if g.all[object.Kind] == nil {
		g.all[object.Kind] = map[key]*manifest.Object{}
	}
	g.all[object.Kind][key{object.Namespace, object.Name}] = object
}

// keep keeps an object that is right.
func (g *given) keep(object *manifest.Object) error {
	g.broken(object)
	switch object.Kind {
	case "ClassificationPolicy":
		one := &policy{Object: object}
		g.policies = append(g.policies, one)
		return object.Decode(&one.spec)
	case "ResponsePlaybook":
		one := &playbook{Object: object}
		g.playbooks = append(g.playbooks, one)
		if err := object.Decode(&one.spec); err != nil {
			return err
		}
		one.spec.Namespace = object.Namespace
	case "ResponsePlan":
		one := &plan{Object: object}
		g.plans = append(g.plans, one)
		return object.Decode(&one.spec)
	case "Incident":
		one := &incident{Object: object}
		g.incidents = append(g.incidents, one)
		return object.Decode(&one.spec)
	}
	return nil
}

// names are the names of a kind in a namespace.
func (g *given) names(kind, namespace string) []string {
	var names []string
	for k := range g.all[kind] {
		if k.namespace == namespace {
			names = append(names, k.name)
		}
	}
	slices.Sort(names)
	return names
}

// refersToPlaybook checks that a playbook is there. Where none of its namespace is, they
// may be kept elsewhere.
func (r *run) refersToPlaybook(object *manifest.Object, path, name string) {
	names := r.given.names("ResponsePlaybook", object.Namespace)
	switch {
	case name == "" || slices.Contains(names, name):
	case len(names) == 0:
		r.add(site{object, path}, Warning, ReasonNotGiven,
			"ResponsePlaybook '%s' is not among the manifests, and no other of %s is: give its file too, or an incident may find that there is none", name, namespaceInWords(object.Namespace))
	default:
		r.add(site{object, path}, Error, ReasonReference,
			"there is no ResponsePlaybook '%s' in %s: it must be one of %q%s", name, namespaceInWords(object.Namespace), names, didYouMean(name, names))
	}
}

// refersToAccount checks that a ServiceAccount is there, in the same way. It says whether it
// may be.
func (r *run) refersToAccount(object *manifest.Object, name string) bool {
	var names []string
	for k := range r.given.accounts {
		if k.namespace == object.Namespace {
			names = append(names, k.name)
		}
	}
	slices.Sort(names)
	switch {
	case name == "" || name == "default" || slices.Contains(names, name):
	case len(names) == 0:
		r.add(site{object, "spec.serviceAccountName"}, Warning, ReasonNotGiven,
			"ServiceAccount '%s' is not among the manifests, and no other of %s is: give its file too, or make sure that it exists", name, namespaceInWords(object.Namespace))
	default:
		r.add(site{object, "spec.serviceAccountName"}, Error, ReasonReference,
			"there is no ServiceAccount '%s' in %s: it must be one of %q%s", name, namespaceInWords(object.Namespace), names, didYouMean(name, names))
		return false
	}
	return true
}

// refersToRole checks that the plan has a role: nobody can answer for one that it has not.
func (r *run) refersToRole(object *manifest.Object, path, name string) {
	if name == "" {
		return
	}
	for _, plan := range r.given.plans {
		if plan.Namespace != object.Namespace {
			continue
		}
		var names []string
		for i := range plan.spec.Spec.Roles {
			names = append(names, plan.spec.Spec.Roles[i].Name)
		}
		if !slices.Contains(names, name) {
			r.add(site{object, path}, Error, ReasonReference,
				"the plan has no role '%s', so that nobody could answer: it must be one of %q%s", name, names, didYouMean(name, names))
		}
	}
}

// checkObjectives checks the expressions of a plan's objectives.
func (r *run) checkObjectives(plan *plan) {
	for _, problem := range each(classify.CheckObjectives(plan.spec.Spec.Objectives)) {
		at := "spec"
		if field := quotedField.FindStringSubmatch(problem.Error()); field != nil {
			at += "." + field[1]
		}
		r.add(site{plan.Object, at}, Error, ReasonExpression, "%v", problem)
	}
	for i := range plan.spec.Spec.Objectives {
		r.checkTexts(site{plan.Object, fmt.Sprintf("spec.objectives[%d].when", i)}, expression.Event, plan.spec.Spec.Objectives[i].When)
	}
}

func (r *run) checkIncidents() {
	for _, incident := range r.given.incidents {
		r.refersToPlaybook(incident.Object, "spec.playbookRef", incident.spec.Spec.PlaybookRef.Name)
	}
}

func namespaceInWords(namespace string) string {
	if namespace == "" {
		return "its namespace"
	}
	return fmt.Sprintf("namespace '%s'", namespace)
}

func didYouMean(name string, known []string) string {
	if near := manifest.Nearest(name, known); near != "" {
		return fmt.Sprintf("; did you mean '%s'?", near)
	}
	return ""
}
