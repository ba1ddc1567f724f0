package lifecycle

import "github.com/firebreak-dev/firebreak/api/v1alpha1"

// Trait is what the lifecycle must know of an action. How it is done lies in package action.
type Trait struct {
	// Name is the action's field in a playbook step.
	Name string
	// Acts says that an executor does it to each target; the others are decided here.
	// A step of an acting action without `target` and `targets` has one target, the
	// incident itself; one that tells people has a target for each channel.
	Acts bool
	// Reads says that it changes nothing.
	Reads bool
	// Contains says that it can contain an incident.
	Contains bool
	// Undoable says that `revert` can undo it.
	Undoable bool
	// Held says that its effect is looked at until it is undone, and made again when
	// something takes it away.
	Held bool
	// Tells says that it changes nothing in the cluster, and tells people: it waits for no
	// confirmation, and never keeps what contains waiting.
	Tells bool
	// Sends says that what it keeps before it acts is what it sends, so that a repetition is
	// the same: it is nothing that could be undone, and goes when there is an answer.
	Sends bool
	// Destroys says that evidence may be lost by it.
	Destroys bool

	of func(*v1alpha1.PlaybookStep) bool
}

// Actions are all actions, in the order of the API.
var Actions = []Trait{
	{Name: "collect", Acts: true, Reads: true, of: func(s *v1alpha1.PlaybookStep) bool { return s.Collect != nil }},
	{Name: "isolate", Acts: true, Contains: true, Undoable: true, Held: true, of: func(s *v1alpha1.PlaybookStep) bool { return s.Isolate != nil }},
	{Name: "quarantine", Acts: true, Contains: true, Undoable: true, Held: true, of: func(s *v1alpha1.PlaybookStep) bool { return s.Quarantine != nil }},
	{Name: "scale", Acts: true, Contains: true, Undoable: true, Held: true, Destroys: true, of: func(s *v1alpha1.PlaybookStep) bool { return s.Scale != nil }},
	{Name: "suspend", Acts: true, Contains: true, Undoable: true, Held: true, Destroys: true, of: func(s *v1alpha1.PlaybookStep) bool { return s.Suspend != nil }},
	{Name: "cordon", Acts: true, Contains: true, Undoable: true, Held: true, of: func(s *v1alpha1.PlaybookStep) bool { return s.Cordon != nil }},
	{Name: "drain", Acts: true, Contains: true, Undoable: true, Destroys: true, of: func(s *v1alpha1.PlaybookStep) bool { return s.Drain != nil }},
	{Name: "taint", Acts: true, Contains: true, Undoable: true, Held: true, Destroys: true, of: func(s *v1alpha1.PlaybookStep) bool { return s.Taint != nil }},
	{Name: "revokeAccess", Acts: true, Contains: true, Undoable: true, Held: true, of: func(s *v1alpha1.PlaybookStep) bool { return s.RevokeAccess != nil }},
	{Name: "blockImage", Acts: true, Contains: true, Undoable: true, Held: true, of: func(s *v1alpha1.PlaybookStep) bool { return s.BlockImage != nil }},
	{Name: "patch", Acts: true, Contains: true, Undoable: true, Held: true, of: func(s *v1alpha1.PlaybookStep) bool { return s.Patch != nil }},
	{Name: "apply", Acts: true, Contains: true, Undoable: true, Held: true, of: func(s *v1alpha1.PlaybookStep) bool { return s.Apply != nil }},
	{Name: "delete", Acts: true, Contains: true, Destroys: true, of: func(s *v1alpha1.PlaybookStep) bool { return s.Delete != nil }},
	{Name: "evict", Acts: true, Contains: true, Destroys: true, of: func(s *v1alpha1.PlaybookStep) bool { return s.Evict != nil }},
	{Name: "restart", Acts: true, Contains: true, Destroys: true, of: func(s *v1alpha1.PlaybookStep) bool { return s.Restart != nil }},
	{Name: "rollback", Acts: true, Contains: true, Undoable: true, Destroys: true, of: func(s *v1alpha1.PlaybookStep) bool { return s.Rollback != nil }},
	{Name: "job", Acts: true, Contains: true, of: func(s *v1alpha1.PlaybookStep) bool { return s.Job != nil }},
	{Name: "http", Acts: true, Contains: true, Sends: true, of: func(s *v1alpha1.PlaybookStep) bool { return s.HTTP != nil }},
	{Name: "notify", Acts: true, Tells: true, Sends: true, of: func(s *v1alpha1.PlaybookStep) bool { return s.Notify != nil }},
	{Name: "approve", of: func(s *v1alpha1.PlaybookStep) bool { return s.Approve != nil }},
	{Name: "task", Contains: true, of: func(s *v1alpha1.PlaybookStep) bool { return s.Task != nil }},
	{Name: "verify", Reads: true, of: func(s *v1alpha1.PlaybookStep) bool { return s.Verify != nil }},
	{Name: "wait", of: func(s *v1alpha1.PlaybookStep) bool { return s.Wait != nil }},
	{Name: "revert", of: func(s *v1alpha1.PlaybookStep) bool { return s.Revert != nil }},
}

// TraitOf finds an action by its name; one that is not known has no traits.
func TraitOf(name string) Trait {
	for _, trait := range Actions {
		if trait.Name == name {
			return trait
		}
	}
	return Trait{Name: name}
}

// ActionOf names the one action of a step.
func ActionOf(step *v1alpha1.PlaybookStep) string {
	for _, trait := range Actions {
		if trait.of(step) {
			return trait.Name
		}
	}
	return "unknown"
}
