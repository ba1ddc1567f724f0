package action

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Question is whether a ServiceAccount may do one thing. An empty namespace is
// all of them, or the cluster.
type Question struct{ Namespace, Group, Resource, Subresource, Name, Verb string }

// Lack is a right that a playbook needs and its ServiceAccount does not have.
type Lack struct {
	// Place says in words where it is missing, and Namespace in which one; empty is everywhere,
	// or in none.
	Place, Namespace string
	// Right says in words what.
	Right string
	// Who says in words which steps need it.
	Who []string
	// Steps are the names of these steps; empty when it is needed for finding the targets, or
	// for `adHoc`.
	Steps []string
}

// Review is what came of asking for all rights of a playbook.
type Review struct {
	// Missing are the rights that it lacks, in an order of their own.
	Missing []Lack
	// Notes are what else is worth knowing, in words.
	Notes []string
}

// ReviewRights asks for every right that steps of a playbook need, each once, in every
// namespace of the playbook's scope.
func ReviewRights(ctx context.Context, playbook *v1alpha1.ResponsePlaybook, needs []StepRights, ask func(context.Context, Question) (bool, error)) (Review, error) {
	asking := &rightsReview{askOne: ask, playbook: playbook, answers: map[Question]bool{}, missing: map[lackKey]*Lack{}}
	for _, step := range needs {
		if err := asking.step(ctx, step); err != nil {
			return Review{}, err
		}
	}
	review := Review{Notes: asking.notes}
	for _, lack := range asking.missing {
		review.Missing = append(review.Missing, *lack)
	}
	slices.SortFunc(review.Missing, func(a, b Lack) int {
		return cmp.Or(cmp.Compare(a.Place, b.Place), cmp.Compare(a.Right, b.Right))
	})
	return review, nil
}

// rightsReview asks for rights, each once, and keeps what is missing.
type rightsReview struct {
	askOne   func(context.Context, Question) (bool, error)
	playbook *v1alpha1.ResponsePlaybook
	answers  map[Question]bool
	missing  map[lackKey]*Lack
	notes    []string
}

// location is where a right is needed, in words and by its namespace.
type location struct{ words, namespace string }

type lackKey struct {
	place location
	right string
}

func (a *rightsReview) step(ctx context.Context, step StepRights) error {
	alternatives := map[alternative]*choice{}
	for _, right := range step.Rights {
		if right.Unknown != "" {
			a.notes = append(a.notes, "not asked for: "+right.String())
			continue
		}
		if right.Need == Useful {
			continue
		}
		for _, namespace := range right.Places(a.playbook) {
			lacks, err := a.lacks(ctx, right, namespace)
			if err != nil {
				return err
			}
			place := location{placeInWords(right, namespace), namespace}
			if right.Need == OneOf {
				alternativeOf(alternatives, place, right).add(right, len(lacks) == 0)
			} else if len(lacks) > 0 {
				right.Verbs = lacks
				a.miss(place, right.String(), step)
			}
		}
	}
	a.choose(step, alternatives)
	return nil
}

// alternative is one thing a step does to several kinds, in one place.
type alternative struct {
	place              location
	verbs, subresource string
}

// choice is on which kinds it may do that.
type choice struct {
	met   bool
	unmet []string
}

func alternativeOf(all map[alternative]*choice, place location, right Right) *choice {
	_, subresource, _ := strings.Cut(right.Resource, "/")
	key := alternative{place, strings.Join(right.Verbs, ","), subresource}
	if all[key] == nil {
		all[key] = &choice{}
	}
	return all[key]
}

func (c *choice) add(right Right, allowed bool) {
	if allowed {
		c.met = true
	} else {
		c.unmet = append(c.unmet, right.String())
	}
}

// choose says what is missing where a step may act on none of the kinds that it may meet.
func (a *rightsReview) choose(step StepRights, alternatives map[alternative]*choice) {
	keys := slices.SortedFunc(maps.Keys(alternatives), func(x, y alternative) int {
		return cmp.Or(cmp.Compare(x.place.words, y.place.words), cmp.Compare(x.verbs, y.verbs), cmp.Compare(x.subresource, y.subresource))
	})
	for _, key := range keys {
		switch one := alternatives[key]; {
		case !one.met:
			a.miss(key.place, "at least one of ["+strings.Join(one.unmet, "; ")+"]", step)
		case step.Step != "" && len(one.unmet) > 0:
			a.notes = append(a.notes, fmt.Sprintf("%s %s cannot act where it takes %s", stepInWords(step), key.place.words, strings.Join(one.unmet, "; ")))
		}
	}
}

func (a *rightsReview) miss(place location, right string, step StepRights) {
	key := lackKey{place, right}
	if a.missing[key] == nil {
		a.missing[key] = &Lack{Place: place.words, Namespace: place.namespace, Right: right}
	}
	lack := a.missing[key]
	if who := stepInWords(step); !slices.Contains(lack.Who, who) {
		lack.Who = append(lack.Who, who)
	}
	if step.Step != "" && !step.AdHoc && !slices.Contains(lack.Steps, step.Step) {
		lack.Steps = append(lack.Steps, step.Step)
	}
}

func stepInWords(step StepRights) string {
	switch {
	case step.AdHoc:
		return "`adHoc` '" + step.Step + "'"
	case step.Step == "":
		return "finding the targets"
	default:
		return "step '" + step.Step + "'"
	}
}

func placeInWords(right Right, namespace string) string {
	switch {
	case right.Place == InCluster:
		return "in the cluster"
	case namespace == "":
		return "in all namespaces"
	default:
		return "in namespace '" + namespace + "'"
	}
}

// lacks gives the verbs of a right that are not allowed.
func (a *rightsReview) lacks(ctx context.Context, right Right, namespace string) ([]string, error) {
	names := right.Names
	if len(names) == 0 {
		names = []string{""}
	}
	resource, subresource, _ := strings.Cut(right.Resource, "/")
	var lacks []string
	for _, verb := range right.Verbs {
		for _, name := range names {
			allowed, err := a.ask(ctx, Question{namespace, right.Group, resource, subresource, name, verb})
			if err != nil {
				return nil, err
			}
			if !allowed && !slices.Contains(lacks, verb) {
				lacks = append(lacks, verb)
			}
		}
	}
	return lacks, nil
}

func (a *rightsReview) ask(ctx context.Context, q Question) (bool, error) {
	if known, ok := a.answers[q]; ok {
		return known, nil
	}
	allowed, err := a.askOne(ctx, q)
	if err == nil {
		a.answers[q] = allowed
	}
	return allowed, err
}
