package lifecycle

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func notifyStep(name string, channels []v1alpha1.ChannelName, roles ...v1alpha1.RoleName) v1alpha1.PlaybookStep {
	return v1alpha1.PlaybookStep{Name: name, Notify: &v1alpha1.NotifyAction{Channels: channels, Roles: roles}}
}

// tellingPlan has the channels chat, mail and pager, and three roles.
func tellingPlan() *v1alpha1.ResponsePlan {
	plan := &v1alpha1.ResponsePlan{}
	for _, name := range []v1alpha1.ChannelName{"chat", "mail", "pager"} {
		plan.Spec.Channels = append(plan.Spec.Channels, v1alpha1.PlanChannel{Name: name, TLP: v1alpha1.TLPAmber})
	}
	plan.Spec.Roles = []v1alpha1.PlanRole{
		{Name: "IncidentManager", Channels: []v1alpha1.ChannelName{"pager", "chat"}}, {Name: "Legal", Channels: []v1alpha1.ChannelName{"mail"}}, {Name: "Owner"},
	}
	return plan
}

func targetNames(step *v1alpha1.IncidentStep) []string {
	var names []string
	for i := range step.Targets {
		names = append(names, step.Targets[i].Kind+" "+step.Targets[i].Name+"="+string(step.Targets[i].State))
	}
	return names
}

// TestNotifyTargets gives each channel an outcome of its own, and names whom nobody tells.
func TestNotifyTargets(t *testing.T) {
	for name, test := range map[string]struct {
		plan *v1alpha1.ResponsePlan
		step v1alpha1.PlaybookStep
		want []string
	}{
		"channels":                {tellingPlan(), notifyStep("tell", []v1alpha1.ChannelName{"chat", "mail"}), []string{"Channel chat=Succeeded", "Channel mail=Succeeded"}},
		"channels of roles, once": {tellingPlan(), notifyStep("tell", []v1alpha1.ChannelName{"chat"}, "IncidentManager", "Legal"), []string{"Channel chat=Succeeded", "Channel pager=Succeeded", "Channel mail=Succeeded"}},
		"what the plan has not":   {tellingPlan(), notifyStep("tell", []v1alpha1.ChannelName{"fax"}, "Press"), []string{"Channel fax=Succeeded", "PlanRole Press=Succeeded"}},
		"a role without channels": {tellingPlan(), notifyStep("tell", nil, "Owner"), []string{"PlanRole Owner=Succeeded"}},
		"no plan":                 {nil, notifyStep("tell", []v1alpha1.ChannelName{"chat"}, "Legal"), []string{"Channel chat=Succeeded", "PlanRole Legal=Succeeded"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, playbookOf(steps(test.step), nil, nil), "a")
			s.plan = test.plan
			s.run()
			if diff := cmp.Diff(test.want, targetNames(s.step("tell"))); diff != "" {
				t.Errorf("targets (-want +got):\n%s", diff)
			}
			for i := range s.step("tell").Targets {
				if target := &s.step("tell").Targets[i]; !IsIncident(target, s.stored) || IsChannel(target) != (target.Kind == "Channel") {
					t.Errorf("%s %s must stand for no object", target.Kind, target.Name)
				}
			}
			s.wantCondition(v1alpha1.ConditionContained, "False NoTargets") // to tell people contains nothing
		})
	}
}

// TestIsChannel takes no object for a channel that is only called so.
func TestIsChannel(t *testing.T) {
	for _, target := range []v1alpha1.StepTarget{
		{APIVersion: "firebreak.dev/v1alpha1", Kind: "Channel", Name: "chat", UID: "uid-of-an-object"},
		{APIVersion: "example.com/v1", Kind: "Channel", Name: "chat", UID: uidOfPlan("Channel", "chat")},
	} {
		if IsChannel(&target) {
			t.Errorf("%+v is an object", target)
		}
	}
}

// TestNotifyRetriesOnlyWhoWasNotTold sends nobody the same message twice.
func TestNotifyRetriesOnlyWhoWasNotTold(t *testing.T) {
	s := newSim(t, playbookOf(steps(notifyStep("tell", []v1alpha1.ChannelName{"chat"}, "Legal", "Owner")), nil, nil), "a")
	s.plan = tellingPlan()
	s.script = func(work Work, _ *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) Result {
		switch {
		case work.Verb == VerbApply && target.Name == "mail":
			return permanent("channel 'mail' (smtp) was not told")
		case work.Verb == VerbPlan && target.Name == "Owner":
			return permanent("role 'Owner' of the plan has no `channels`")
		default:
			return Result{}
		}
	}
	s.run()
	s.want(v1alpha1.PhaseContainment, "tell=AwaitingTask")
	if got := s.step("tell").Message; !strings.HasPrefix(got, "2 of 3 failed: Channel security/mail: channel 'mail' (smtp) was not told; PlanRole security/Owner: role 'Owner'") {
		t.Errorf("message is %q", got)
	}
	s.script = nil
	s.plan.Spec.Roles[2].Channels = []v1alpha1.ChannelName{"pager", "chat"}
	s.must(by(v1alpha1.DecisionRetryStep, "tell", "jane"))
	s.want(v1alpha1.PhaseReview, "tell=Succeeded")
	for what, want := range map[string]int{"Apply tell chat": 1, "Apply tell mail": 2, "Apply tell pager": 1} {
		if got := s.count(what); got != want {
			t.Errorf("%s: %d times, want %d", what, got, want)
		}
	}
}

// TestNotifyOnce tells nobody anew because a pod joins.
func TestNotifyOnce(t *testing.T) {
	s := newSim(t, playbookOf(steps(isolateStep("isolate"), notifyStep("tell", []v1alpha1.ChannelName{"chat"})), steps(approveStep("ok")), nil), "a")
	s.plan = tellingPlan()
	s.event("event-1", "a")
	s.run()
	s.plan.Spec.Channels = s.plan.Spec.Channels[1:]
	s.event("event-2", "b")
	s.run()
	s.wantDone("Apply isolate b")
	s.want(v1alpha1.PhaseEradication, "tell=Succeeded")
	if got := s.count("Apply tell chat"); got != 1 {
		t.Errorf("the channel was told %d times", got)
	}
}

// TestNotifyInModes waits for nobody where the playbook confirms what it writes.
func TestNotifyInModes(t *testing.T) {
	playbook := playbookOf(steps(notifyStep("tell", []v1alpha1.ChannelName{"chat"}), isolateStep("isolate")), nil, nil)
	playbook.Mode = v1alpha1.PlaybookConfirm
	s := newSim(t, playbook, "a")
	s.plan = tellingPlan()
	s.offered = map[string]*v1alpha1.ResponsePlaybookSpec{"other": playbookOf(steps(isolateStep("cut")), nil, nil)}
	s.run()
	s.want(v1alpha1.PhaseContainment, "tell=Succeeded", "isolate=AwaitingApproval")
	// That people were told is no effect that another playbook could not follow.
	s.must(usePlaybook("jane", "other"))
	s.want(v1alpha1.PhaseReview, "cut=Succeeded")

	dry := newSim(t, playbookOf(steps(notifyStep("tell", []v1alpha1.ChannelName{"chat"})), nil, nil), "a")
	dry.plan = tellingPlan()
	dry.plan.Spec.Response = v1alpha1.ResponseDryRun
	dry.run()
	dry.wantCondition(v1alpha1.ConditionContained, "False DryRun")
	if target := dry.step("tell").Targets[0]; target.Mode != v1alpha1.ResponseDryRun || target.State != v1alpha1.TargetSucceeded {
		t.Errorf("target %+v must have been tried", target)
	}
}

// TestNotifyBeyondRuns holds messages too when a playbook runs too often: forged alerts page nobody all night.
func TestNotifyBeyondRuns(t *testing.T) {
	playbook := playbookOf(steps(notifyStep("tell", []v1alpha1.ChannelName{"chat"})), nil, nil)
	playbook.Limits.MaxRunsPerHour = 1
	s := newSim(t, playbook)
	s.plan, s.recentRuns = tellingPlan(), 1
	s.run()
	s.want(v1alpha1.PhaseContainment, "tell=AwaitingApproval")
	s.must(by(v1alpha1.DecisionApprove, "tell", "jane"))
	s.want(v1alpha1.PhaseReview, "tell=Succeeded")
}
