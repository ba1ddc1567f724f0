package lifecycle

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// The kinds of what a `notify` step acts on, which are no objects of the cluster.
const (
	kindChannel = "Channel"
	kindRole    = "PlanRole"
)

// channelUID is how many digits of a hash stand for the UID of a channel.
const channelUID = 32

// IsChannel says that a target is a channel of the plan.
func IsChannel(target *v1alpha1.StepTarget) bool { return isOfPlan(target, kindChannel) }

func isRole(target *v1alpha1.StepTarget) bool { return isOfPlan(target, kindRole) }

func isOfPlan(target *v1alpha1.StepTarget, kind string) bool {
	return target.Kind == kind && target.APIVersion == v1alpha1.SchemeGroupVersion.String() && target.UID == uidOfPlan(kind, target.Name)
}

func uidOfPlan(kind, name string) v1alpha1.ObjectUID {
	digest := sha256.Sum256([]byte(kind + "/" + name))
	return v1alpha1.ObjectUID(hex.EncodeToString(digest[:])[:channelUID])
}

// ChannelOf finds a channel of the plan; nil when there is none.
func ChannelOf(plan *v1alpha1.ResponsePlan, name string) *v1alpha1.PlanChannel {
	if plan == nil {
		return nil
	}
	for i := range plan.Spec.Channels {
		if channel := &plan.Spec.Channels[i]; string(channel.Name) == name {
			return channel
		}
	}
	return nil
}

// RoleOf finds a role of the plan; nil when there is none.
func RoleOf(plan *v1alpha1.ResponsePlan, name string) *v1alpha1.PlanRole {
	if plan == nil {
		return nil
	}
	for i := range plan.Spec.Roles {
		if role := &plan.Spec.Roles[i]; role.Name == name {
			return role
		}
	}
	return nil
}

// Addressees are whom a step tells: the channels it names and those of the roles it names,
// each once, and the roles by which nobody is told. A channel that the plan does not have
// is among them.
func Addressees(plan *v1alpha1.ResponsePlan, notify *v1alpha1.NotifyAction) (channels []v1alpha1.ChannelName, mute []v1alpha1.RoleName) {
	add := func(names []v1alpha1.ChannelName) {
		for _, name := range names {
			if !slices.Contains(channels, name) {
				channels = append(channels, name)
			}
		}
	}
	add(notify.Channels)
	for _, name := range notify.Roles {
		role := RoleOf(plan, string(name))
		if role == nil || len(role.Channels) == 0 {
			mute = append(mute, name)
			continue
		}
		add(role.Channels)
	}
	return channels, mute
}

// channelTargets are the targets of a step that tells people, each with an outcome of its
// own: a channel that has got the message does not get it again when others are retried.
func (m *machine) channelTargets(notify *v1alpha1.NotifyAction) []v1alpha1.StepTarget {
	channels, mute := Addressees(m.Plan, notify)
	targets := make([]v1alpha1.StepTarget, 0, len(channels)+len(mute))
	add := func(kind, name string) {
		target := v1alpha1.StepTarget{
			APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: kind, Namespace: m.incident.Namespace, Name: name,
			UID: uidOfPlan(kind, name), State: v1alpha1.TargetPending,
		}
		m.hold(&target, m.status.Playbook.Hold)
		targets = append(targets, target)
	}
	for _, name := range channels {
		add(kindChannel, string(name))
	}
	for _, name := range mute {
		add(kindRole, string(name))
	}
	return targets
}
