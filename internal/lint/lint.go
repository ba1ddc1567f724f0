// Package lint finds in manifests, without a cluster, what would keep Firebreak from working
// by them: what the API server would refuse, what would keep a policy or a playbook from
// being Ready, and what is dangerous though it is right.
package lint

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/manifest"
)

// Severity says how bad a finding is.
type Severity string

// The severities.
const (
	// Error is what would be refused, or would not work.
	Error Severity = "Error"
	// Warning is what works, and may not be what was meant.
	Warning Severity = "Warning"
)

// Reasons of findings.
const (
	// ReasonNotReadable: a document is not YAML.
	ReasonNotReadable = "NotReadable"
	// ReasonUnknownField: there is no such field.
	ReasonUnknownField = "UnknownField"
	// ReasonInvalid: the API server would refuse it.
	ReasonInvalid = "Invalid"
	// ReasonDuplicate: the same object is there twice.
	ReasonDuplicate = "Duplicate"
	// ReasonExpression: an expression does not compile.
	ReasonExpression = "ExpressionError"
	// ReasonReference: what is named is not there, or must not be named.
	ReasonReference = "InvalidReference"
	// ReasonNotGiven: what is named is not among the manifests; it may be elsewhere.
	ReasonNotGiven = "NotGiven"
	// ReasonEvidenceLoss: evidence is destroyed before it is collected.
	ReasonEvidenceLoss = "EvidenceLoss"
	// ReasonTarget: an action cannot act on what a step names.
	ReasonTarget = "InvalidTarget"
	// ReasonNotReverted: a containment is undone by nothing.
	ReasonNotReverted = "NotReverted"
	// ReasonRightsMissing: the ServiceAccount lacks a right.
	ReasonRightsMissing = "RightsMissing"
	// ReasonAnySubmitter: a rule decides, whoever has sent the event.
	ReasonAnySubmitter = "AnySubmitter"
	// ReasonNeverAsked: a rule comes after one that matches every event.
	ReasonNeverAsked = "NeverAsked"
	// ReasonTextOrder: severities are compared by the alphabet.
	ReasonTextOrder = "TextOrder"
	// ReasonNoSuchValue: a text is none of the few that a field may be.
	ReasonNoSuchValue = "NoSuchValue"
	// ReasonStatusIgnored: a manifest has a status.
	ReasonStatusIgnored = "StatusIgnored"
)

// Finding is one thing that was found.
type Finding struct {
	manifest.Position `json:",inline"`

	// Severity is Error or Warning.
	Severity Severity `json:"severity"`
	// Reason is one word for what it is.
	Reason string `json:"reason"`
	// Kind, Namespace and Name are of the object; empty when it is about a file.
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	// Field is the path of the field.
	Field string `json:"field,omitempty"`
	// Message says what is wrong and what would be right.
	Message string `json:"message"`
}

// Report is what came of it.
type Report struct {
	// Findings are in the order of files and lines.
	Findings []Finding `json:"findings"`
	// Files is how many files were read, Objects how many objects of Firebreak were in
	// them, and Ignored how many other documents, RBAC and ServiceAccounts left out.
	Files   int `json:"files"`
	Objects int `json:"objects"`
	Ignored int `json:"ignored"`
	// Errors and Warnings are how many of each there are.
	Errors   int `json:"errors"`
	Warnings int `json:"warnings"`
}

// run is one run over manifests.
type run struct {
	report *Report
	// given are the objects that are right, by what they are.
	given *given
	rbac  *rbac
}

// Run looks at all objects of a set. What says no namespace is taken to be in that one; it
// may be empty. The error says that nothing could be looked at.
func Run(ctx context.Context, set *manifest.Set, namespace string) (*Report, error) {
	r := &run{report: &Report{Findings: []Finding{}, Files: set.Files, Ignored: set.Others}, given: newGiven(), rbac: &rbac{}}
	for _, problem := range set.Problems {
		r.report.Findings = append(r.report.Findings, Finding{Position: problem.At, Severity: Error, Reason: ReasonNotReadable, Message: problem.Message})
	}
	for _, object := range set.Objects {
		if err := r.take(ctx, object, namespace); err != nil {
			return nil, err
		}
	}
	r.checkBindings()
	for _, policy := range r.given.policies {
		r.checkPolicy(policy)
	}
	r.checkReached()
	for _, playbook := range r.given.playbooks {
		if err := r.checkPlaybook(ctx, playbook); err != nil {
			return nil, err
		}
	}
	for _, plan := range r.given.plans {
		r.checkObjectives(plan)
		if err := r.checkPlan(ctx, plan); err != nil {
			return nil, err
		}
	}
	r.checkIncidents()
	for _, object := range r.given.faulty {
		if err := r.checkFaulty(ctx, object); err != nil {
			return nil, err
		}
	}
	r.finish()
	return r.report, nil
}

func (r *run) finish() {
	slices.SortStableFunc(r.report.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message))
	})
	r.report.Findings = slices.Compact(r.report.Findings)
	for i := range r.report.Findings {
		if r.report.Findings[i].Severity == Error {
			r.report.Errors++
		} else {
			r.report.Warnings++
		}
	}
}

// take looks at one object by itself, and keeps it for the others when it is right.
func (r *run) take(ctx context.Context, object *manifest.Object, namespace string) error {
	if !object.IsFirebreak() {
		return r.takeOther(object, namespace)
	}
	r.report.Objects++
	if object.Namespace == "" {
		object.Namespace = namespace
	}
	if _, has := object.Content["status"]; has {
		r.add(site{object, "status"}, Warning, ReasonStatusIgnored, "`status` is not taken from a manifest: only Firebreak writes it, so leave it out")
	}
	if first := r.given.first(object); first != nil {
		r.add(site{object, "metadata.name"}, Error, ReasonDuplicate, "%s '%s' is there twice: it is in %s too", object.Kind, object.Name, first.Start())
		return nil
	}
	faults, err := object.Validate(ctx)
	if err != nil {
		return err
	}
	for _, fault := range faults {
		reason := ReasonInvalid
		if fault.Unknown {
			reason = ReasonUnknownField
		}
		r.add(site{object, fault.Path}, Error, reason, "%s", fault.Message)
	}
	if len(faults) > 0 {
		r.given.broken(object)
		r.given.faulty = append(r.given.faulty, object)
		return nil
	}
	if err := r.given.keep(object); err != nil {
		r.add(site{object, ""}, Error, ReasonInvalid, "%v", err)
	}
	return nil
}

// takeOther keeps what Firebreak's objects depend on.
func (r *run) takeOther(object *manifest.Object, namespace string) error {
	if object.APIVersion == "v1" && object.Kind == "ServiceAccount" {
		r.given.accounts[key{cmp.Or(object.Namespace, namespace), object.Name}] = true
		return nil
	}
	used, err := r.rbac.keep(object, namespace)
	if err != nil {
		r.add(site{object, ""}, Error, ReasonInvalid, "%s '%s' is not what it must be: %v", object.Kind, object.Name, err)
		return nil
	}
	if !used {
		r.report.Ignored++
	}
	return nil
}

// site is a field of an object; an empty path is the object.
type site struct {
	object *manifest.Object
	path   string
}

// add takes a finding down, where the field stands.
func (r *run) add(at site, severity Severity, reason, format string, args ...any) {
	r.report.Findings = append(r.report.Findings, Finding{
		Position: at.object.At(at.path), Severity: severity, Reason: reason, Field: at.path,
		Kind: at.object.Kind, Namespace: at.object.Namespace, Name: at.object.Name, Message: fmt.Sprintf(format, args...),
	})
}

// each gives the single problems of a joined error.
func each(err error) []error {
	if err == nil {
		return nil
	}
	joined, is := err.(interface{ Unwrap() []error }) // a join within another error is part of that one
	if !is {
		return []error{err}
	}
	var all []error
	for _, one := range joined.Unwrap() {
		all = append(all, each(one)...)
	}
	return all
}

// key names an object of a kind.
type key struct{ namespace, name string }

// given are the objects that were given, by their names.
type given struct {
	all       map[string]map[key]*manifest.Object // by kind; also those that are not right
	policies  []*policy
	playbooks []*playbook
	plans     []*plan
	incidents []*incident
	accounts  map[key]bool
	faulty    []*manifest.Object // what the API server would refuse
}

type policy struct {
	*manifest.Object

	spec v1alpha1.ClassificationPolicy
}

type playbook struct {
	*manifest.Object

	spec v1alpha1.ResponsePlaybook
}

type plan struct {
	*manifest.Object

	spec v1alpha1.ResponsePlan
}

type incident struct {
	*manifest.Object

	spec v1alpha1.Incident
}
