package classify

import (
	"testing"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// TestNamesOfWhatIsLive holds the label and the names of incidents to what they were before
// there were drills: what is open must be found again after an upgrade.
func TestNamesOfWhatIsLive(t *testing.T) {
	for _, mode := range []v1alpha1.Mode{"", v1alpha1.ModeLive} {
		key := Correlation{Mode: mode, Policy: "runtime", Rule: "shell", Key: []string{"shop", "cart"}}
		if got, want := key.Label(), "on6notk7eot3mtnofzibinpzzgpij3otsj5d2oixr6dneh4hpjla"; got != want {
			t.Errorf("mode %q: the label is %q, want %q", mode, got, want)
		}
		if got, _ := key.IncidentName(observed, 1, 0); got != "inc-20261122-p4vdr" {
			t.Errorf("mode %q: the name is %q", mode, got)
		}
	}
}

// TestDrillsAreApart: nothing of a drill is a key of what is live, or the other way round.
func TestDrillsAreApart(t *testing.T) {
	policies := compiled(t, source("a", 0, design()))
	live, drill := event(), event()
	live.Spec.Fingerprint, drill.Spec.Fingerprint = "f", "f"
	drill.Spec.Mode = v1alpha1.ModeDrill
	ofLive, ofDrill := assess(t, live, policies), assess(t, drill, policies)
	if ofLive.Incident.Mode.OrLive() != v1alpha1.ModeLive || ofDrill.Incident.Mode != v1alpha1.ModeDrill {
		t.Errorf("the incidents are of mode %q and %q", ofLive.Incident.Mode, ofDrill.Incident.Mode)
	}
	if ofLive.Correlation.Label() == ofDrill.Correlation.Label() {
		t.Error("a drill joins what is live")
	}
	one, _ := ofLive.Correlation.IncidentName(observed, 1, 0)
	if other, _ := ofDrill.Correlation.IncidentName(observed, 1, 0); one == other {
		t.Errorf("both incidents are called %s", one)
	}
	decision := &v1alpha1.Decision{}
	decision.UID = "uid"
	if DecisionCorrelation(decision, live).Label() == DecisionCorrelation(decision, drill).Label() {
		t.Error("what a person promotes is called the same in both modes")
	}
	if SameThing(live) == SameThing(drill) {
		t.Error("thresholds count a drill and what is live together")
	}
	explicit := live.DeepCopy()
	explicit.Spec.Mode = v1alpha1.ModeLive
	if SameThing(live) != SameThing(explicit) || assess(t, explicit, policies).Correlation.Label() != ofLive.Correlation.Label() {
		t.Error("a mode that is not said is not Live")
	}
}

// TestRulesSeeTheMode: rules may tell drills apart, and where nothing is said it is Live.
func TestRulesSeeTheMode(t *testing.T) {
	policies := compiled(t, source("a", 0, ruleOf("drills", v1alpha1.RuleDismiss, `event.mode == "Drill"`), ruleOf("real", v1alpha1.RuleDefer, `event.mode == "Live"`)))
	for mode, want := range map[v1alpha1.Mode]string{"": "real", v1alpha1.ModeLive: "real", v1alpha1.ModeDrill: "drills"} {
		subject := event()
		subject.Spec.Mode = mode
		if got := assess(t, subject, policies).Record.Rule; got != want {
			t.Errorf("mode %q: rule %q has decided, want %q", mode, got, want)
		}
	}
	if _, err := Compile(source("a", 0, ruleOf("typo", v1alpha1.RuleDismiss, `event.mod == "Drill"`))); err == nil {
		t.Error("a typo compiles")
	}
}
