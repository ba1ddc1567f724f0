package lifecycle

import (
	"fmt"
	"slices"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Sighting is what was found when a resource was looked at, as the playbook's
// ServiceAccount.
type Sighting struct {
	// Index is the resource's index in the status.
	Index int
	// State says what was found.
	State v1alpha1.ResourceState
	// UID is the object's UID when it is present.
	UID v1alpha1.ObjectUID
	// Message says more about the state.
	Message string
	// Protection says why the object's namespace is protected; empty when it is not.
	Protection string
	// Workload is the top owner of a pod.
	Workload v1alpha1.WorkloadReference
}

// lookAtResources asks for a look at what nobody has looked at. Without a pinned
// playbook there is nobody to look as.
func (m *machine) lookAtResources() {
	if m.status.Playbook.Revision == "" || m.paused || m.Problem != nil || m.status.Resolution != "" || m.waitsForOriginal() {
		return
	}
	for i := range m.status.Resources {
		resource := &m.status.Resources[i]
		if resource.State != "" {
			continue
		}
		why, tried := m.Unseen[i]
		if tried && resource.UnseenTime == nil {
			resource.UnseenTime = m.now.DeepCopy()
		}
		switch {
		case !tried:
			m.out.Look = append(m.out.Look, i)
		case m.Now.Sub(resource.UnseenTime.Time) < lookWithin:
			m.unseen = true
			m.wake(m.Now.Add(lookAgainAfter))
		default:
			m.sight(Sighting{Index: i, State: v1alpha1.ResourceUnreadable, Message: why})
		}
	}
}

const (
	// lookAgainAfter is how soon a resource is looked at again that could not be read.
	lookAgainAfter = 5 * time.Second
	// lookWithin is how long that is tried before a person is asked.
	lookWithin = 2 * time.Minute
)

// nothingSeen says that the incident's resources could not be read for now, and none
// is there to act on: what is not known yet must not be taken for nothing.
func (m *machine) nothingSeen() bool {
	return m.unseen && !slices.ContainsFunc(m.status.Resources, func(resource v1alpha1.IncidentResource) bool {
		return resource.State == v1alpha1.ResourcePresent
	})
}

// unlooked lists resources that nobody has looked at.
func (m *machine) unlooked() []string {
	var names []string
	for i := range m.status.Resources {
		if resource := &m.status.Resources[i]; resource.State == "" {
			names = append(names, resourceName(&resource.ResourceReference))
		}
	}
	return names
}

// unreadable lists what a step of containment would act on, if it could be read.
func (m *machine) unreadable() []string {
	var names []string
	for i := range m.status.Resources {
		resource := &m.status.Resources[i]
		if resource.State == v1alpha1.ResourceUnreadable && m.wouldContain(resource) {
			names = append(names, joinWords(resourceName(&resource.ResourceReference)+" cannot be read", resource.Message))
		}
	}
	return names
}

// wouldContain says that some step which contains acts on objects of this kind.
func (m *machine) wouldContain(resource *v1alpha1.IncidentResource) bool {
	return slices.ContainsFunc(m.stepsOf(v1alpha1.PhaseContainment), func(step *v1alpha1.IncidentStep) bool {
		text := m.textOf(step)
		return text != nil && TraitOf(step.Action).Contains && mayBe(text.Target, resource)
	})
}

// mayBe says that an object which nobody could read may be, or lead to, a target.
func mayBe(kind v1alpha1.TargetKind, resource *v1alpha1.IncidentResource) bool {
	pod := resource.APIVersion == "v1" && resource.Kind == "Pod"
	return kind == v1alpha1.TargetPods && pod ||
		kind == v1alpha1.TargetWorkloads && (pod || isWorkload(resource.APIVersion, resource.Kind))
}

// Sight takes down what was found, and holds back what is protected, out of the playbook's
// scope or beyond a limit.
func Sight(in Input, sightings []Sighting) Output {
	m := newMachine(in)
	for _, sighting := range sightings {
		m.sight(sighting)
	}
	m.condense(0)
	m.out.Status = *m.status
	return m.out
}

func (m *machine) sight(sighting Sighting) {
	if sighting.Index < 0 || sighting.Index >= len(m.status.Resources) {
		return
	}
	resource := &m.status.Resources[sighting.Index]
	if resource.State != "" {
		return
	}
	if sighting.State == v1alpha1.ResourcePresent && m.duplicate(sighting.Index, sighting.UID) {
		// Two events named one object, one with its UID and one without: it is one resource.
		sighting.State, sighting.Message = v1alpha1.ResourceReplaced, "known already under its UID"
	}
	resource.State, resource.UnseenTime = sighting.State, nil
	resource.Message = Cut(sighting.Message, 512)
	name := resourceName(&resource.ResourceReference)
	if sighting.State != v1alpha1.ResourcePresent {
		if sighting.State != v1alpha1.ResourceUnreadable {
			resource.GoneTime = m.now.DeepCopy()
		}
		m.log(v1alpha1.TimelineEntry{Actor: m.actingAs(), Action: "ResourceLookedUp", Outcome: string(sighting.State), Resource: name, Message: sighting.Message})
		return
	}
	resource.UID = sighting.UID
	resource.Workload = sighting.Workload
	resource.Hold = Cut(m.holdFor(sighting), 512)
	if resource.Hold != "" {
		m.log(v1alpha1.TimelineEntry{Action: "ResourceHeld", Outcome: "AwaitingApproval", Resource: name, Message: resource.Hold})
	}
}

func (m *machine) duplicate(index int, uid v1alpha1.ObjectUID) bool {
	for i := range m.status.Resources {
		if i != index && m.status.Resources[i].State == v1alpha1.ResourcePresent && m.status.Resources[i].UID == uid {
			return true
		}
	}
	return false
}

// holdFor says why a resource must wait for a person, or nothing.
func (m *machine) holdFor(sighting Sighting) string {
	resource := &m.status.Resources[sighting.Index]
	limits := m.limits()
	if sighting.Protection != "" && !slices.Contains(limits.AllowProtected, v1alpha1.ProtectedNamespace(resource.Namespace)) {
		return sighting.Protection + ", and the playbook's `limits.allowProtected` does not name it"
	}
	if why := OutOfScope(m.Playbook, NamespaceOf(resource.APIVersion, resource.Kind, resource.Namespace, resource.Name)); why != "" {
		return why
	}
	if runs := m.allowance(limits.MaxRunsPerHour); m.RecentRuns >= runs {
		return m.tooManyRuns(resource.SubmittedBy, resource.Rule, runs)
	}
	var used int32
	for i := range m.status.Resources {
		other := &m.status.Resources[i]
		if i != sighting.Index && other.State == v1alpha1.ResourcePresent && other.Hold == "" && other.ApprovedBy == "" &&
			other.SubmittedBy == resource.SubmittedBy && other.Rule == resource.Rule {
			used++
		}
	}
	if targets := m.allowance(limits.MaxTargets); used >= targets {
		return fmt.Sprintf("%s by rule %s has named %d objects already; `limits.maxTargets` of playbook %s allows %d",
			whom(resource.SubmittedBy), whom(resource.Rule), used, m.status.Playbook.Name, targets)
	}
	return ""
}

func (m *machine) tooManyRuns(submitter, rule string, runs int32) string {
	return fmt.Sprintf("playbook %s ran for %d incidents of %s by rule %s within the hour; its `limits.maxRunsPerHour` allows %d",
		m.status.Playbook.Name, m.RecentRuns, whom(submitter), whom(rule), runs)
}

func whom(name string) string {
	if name == "" {
		return "a person"
	}
	return name
}

func (m *machine) limits() v1alpha1.PlaybookLimits {
	limits := v1alpha1.PlaybookLimits{}
	if m.Playbook != nil {
		limits = m.Playbook.Limits
	}
	if limits.MaxTargets == 0 {
		limits.MaxTargets = 10
	}
	if limits.MaxRunsPerHour == 0 {
		limits.MaxRunsPerHour = 60
	}
	return limits
}

// allowance is a limit with the reserve that Critical incidents have for themselves:
// what floods the lesser ones cannot use it up.
func (m *machine) allowance(limit int32) int32 {
	if m.status.Severity == v1alpha1.SeverityCritical {
		return limit + (limit+1)/2
	}
	return limit
}

// targetsOf lists the objects a step acts on, as they are known now.
func (m *machine) targetsOf(step *v1alpha1.PlaybookStep) []v1alpha1.StepTarget {
	var targets []v1alpha1.StepTarget
	seen := map[v1alpha1.ObjectUID]int{}
	for i := range m.status.Resources {
		resource := &m.status.Resources[i]
		if resource.State != v1alpha1.ResourcePresent {
			continue
		}
		target, ok := targetFor(step.Target, resource)
		if !ok {
			continue
		}
		target.State = v1alpha1.TargetPending
		if resource.Hold != "" && step.Verify == nil {
			target.State, target.Message = v1alpha1.TargetHeld, Cut(resource.Hold, 1024)
		}
		if at, ok := seen[target.UID]; ok {
			if target.State == v1alpha1.TargetPending {
				targets[at].State, targets[at].Message = target.State, ""
			}
			continue
		}
		seen[target.UID] = len(targets)
		targets = append(targets, target)
	}
	return targets
}

func targetFor(kind v1alpha1.TargetKind, resource *v1alpha1.IncidentResource) (v1alpha1.StepTarget, bool) {
	self := v1alpha1.StepTarget{
		APIVersion: resource.APIVersion, Kind: resource.Kind, Namespace: resource.Namespace, Name: resource.Name, UID: resource.UID,
	}
	switch {
	case kind == v1alpha1.TargetPods && resource.Kind == "Pod" && resource.APIVersion == "v1":
		return self, true
	case kind == v1alpha1.TargetWorkloads && resource.Kind == "Pod" && isWorkload(resource.Workload.APIVersion, resource.Workload.Kind):
		owner := resource.Workload
		return v1alpha1.StepTarget{
			APIVersion: owner.APIVersion, Kind: owner.Kind, Namespace: resource.Namespace, Name: owner.Name, UID: owner.UID,
		}, true
	case kind == v1alpha1.TargetWorkloads && isWorkload(resource.APIVersion, resource.Kind):
		return self, true
	default:
		return v1alpha1.StepTarget{}, false
	}
}

// isWorkload says whether a kind is one of Kubernetes' own workloads. Nothing else is ever
// taken for a pod's owner: whoever creates a pod chooses what it says it is owned by.
func isWorkload(apiVersion, kind string) bool {
	return slices.Contains([]string{
		"apps/v1 Deployment", "apps/v1 StatefulSet", "apps/v1 DaemonSet", "apps/v1 ReplicaSet",
		"batch/v1 Job", "batch/v1 CronJob", "v1 ReplicationController",
	}, apiVersion+" "+kind)
}
