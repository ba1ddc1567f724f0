package lifecycle

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func TestPause(t *testing.T) {
	for _, test := range []struct {
		name    string
		pause   func(*sim)
		resume  func(*sim)
		message string
	}{
		{"one incident", func(s *sim) { s.must(by(v1alpha1.DecisionPause, "", "jane")) },
			func(s *sim) { s.must(by(v1alpha1.DecisionResume, "", "jane")) }, "paused by jane"},
		{"the domain", func(s *sim) { s.automation = Automation{Stopped: true, By: "kim", Why: "flood"} },
			func(s *sim) { s.automation = Automation{} }, "the automation of this namespace was stopped by kim: flood"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, demo(), "a")
			s.script = failing(VerbApply, "isolate", failure("the API server is away"))
			s.run()
			s.want(v1alpha1.PhaseContainment, "isolate=Running")
			applied := s.count("Apply isolate a")
			test.pause(s)
			s.script = nil
			s.run()
			s.pass(24 * time.Hour)
			s.want(v1alpha1.PhaseContainment, "isolate=Running")
			if got := s.count("Apply isolate a"); got != applied {
				t.Errorf("tried %d times, want %d: nothing is done while it is paused", got, applied)
			}
			s.wantAwaited("Resume")
			if got := s.stored.Status.Awaiting[0].Message; got != test.message {
				t.Errorf("message is %q, want %q", got, test.message)
			}
			s.wantCondition(v1alpha1.ConditionStalled, "True Paused")
			test.resume(s)
			s.run()
			s.want(v1alpha1.PhaseEradication, "isolate=Succeeded") // not late: its clock began anew
			s.wantCondition(v1alpha1.ConditionStalled, "False NotStalled")
			if s.logged("AutomationStopped") != 1 || s.logged("AutomationResumed") != 1 {
				t.Errorf("stop and resume are not on the timeline once each\n%s", s)
			}
		})
	}
}

func TestPauseRefusals(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.run()
	s.refused(by(v1alpha1.DecisionResume, "", "jane"), v1alpha1.ReasonNotAwaited)
	s.automation = Automation{Stopped: true, By: "kim"}
	s.refused(by(v1alpha1.DecisionResume, "", "jane"), v1alpha1.ReasonNotAwaited)
	s.automation = Automation{}
	s.must(by(v1alpha1.DecisionPause, "", "jane"))
	s.refused(by(v1alpha1.DecisionPause, "", "kim"), v1alpha1.ReasonAlreadyDecided)
}

// TestPausedFromTheStart checks that nothing is looked at, as nobody may act.
func TestPausedFromTheStart(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.automation = Automation{Stopped: true, By: "the plan"}
	s.run()
	s.want(v1alpha1.PhaseAssessment)
	if s.stored.Status.Resources[0].State != "" || len(s.done) > 0 {
		t.Errorf("looked or acted: %v", s.done)
	}
	s.automation = Automation{}
	s.run()
	s.want(v1alpha1.PhaseEradication, "isolate=Succeeded")
}

func TestAutomationOf(t *testing.T) {
	decision := func(kind v1alpha1.DecisionType, at time.Duration, name string, status metav1.ConditionStatus) v1alpha1.Decision {
		d := v1alpha1.Decision{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(began.Add(at))}}
		d.Spec = v1alpha1.DecisionSpec{Type: kind, By: name, Reason: "because"}
		if status != "" {
			d.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: status}}
		}
		return d
	}
	stop, resume := v1alpha1.DecisionStopAutomation, v1alpha1.DecisionResumeAutomation
	paused := &v1alpha1.ResponsePlan{}
	paused.Spec.Response = v1alpha1.ResponsePaused
	for _, test := range []struct {
		name      string
		plan      *v1alpha1.ResponsePlan
		decisions []v1alpha1.Decision
		want      Automation
	}{
		{"nothing", nil, nil, Automation{}},
		{"the plan", paused, nil, Automation{Stopped: true, By: "the plan", Why: "`response` is 'Paused'"}},
		{"stopped", nil, []v1alpha1.Decision{decision(stop, 0, "jane", "True")}, Automation{Stopped: true, By: "jane", Why: "because"}},
		{"not accepted", nil, []v1alpha1.Decision{decision(stop, 0, "jane", "False"), decision(stop, 0, "jane", "")}, Automation{}},
		{"resumed", nil, []v1alpha1.Decision{decision(resume, time.Second, "kim", "True"), decision(stop, 0, "jane", "True")}, Automation{}},
		{"resumed before", nil, []v1alpha1.Decision{decision(resume, 0, "kim", "True"), decision(stop, time.Second, "jane", "True")}, Automation{Stopped: true, By: "jane", Why: "because"}},
		{"at the same second", nil, []v1alpha1.Decision{decision(stop, 0, "jane", "True"), decision(resume, 0, "kim", "True")}, Automation{Stopped: true, By: "jane", Why: "because"}},
		{"a refused resume", nil, []v1alpha1.Decision{decision(stop, 0, "jane", "True"), decision(resume, time.Second, "kim", "False")}, Automation{Stopped: true, By: "jane", Why: "because"}},
		{"the plan, whatever was resumed", paused, []v1alpha1.Decision{decision(resume, 0, "kim", "True")}, Automation{Stopped: true, By: "the plan", Why: "`response` is 'Paused'"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := AutomationOf(test.plan, test.decisions); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}
