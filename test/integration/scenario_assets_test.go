package integration

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/cli"
	"github.com/firebreak-dev/firebreak/test/harness"
)

func init() { scenarios["things outside the cluster"] = outsideTheCluster }

// lost reports that a device is lost, by hand.
func (s *scene) lost(t *testing.T, name, device string) *v1alpha1.SecurityEvent {
	t.Helper()
	event := harness.MakeEvent(s.Namespace, name, jane, func(e *v1alpha1.SecurityEvent) {
		e.Spec.Title, e.Spec.Assets = "Lost in the train", []v1alpha1.Asset{{Type: "Device", Identifier: device}}
	})
	done(t, s.jane.Create(t.Context(), event))
	return event
}

// outsideTheCluster: what joined events and duplicates are about is on the incident, and shown.
func outsideTheCluster(t *testing.T, s *scene) {
	policy := harness.MakePolicy(s.Namespace, "event.submittedBy == '"+jane+"' && has(event.assets)", contain, func(p *v1alpha1.ClassificationPolicy) {
		p.Name, p.Spec.Rules[0].Correlate.By = "lost", []v1alpha1.Expression{"event.title"}
	})
	done(t, s.Client.Create(t.Context(), policy))
	harness.WaitFor(t, s.Client, policy, "the policy to be in force", func(p *v1alpha1.ClassificationPolicy) bool {
		return isTrue(p.Status.Conditions, v1alpha1.ConditionReady)
	})
	s.event(t, s.lost(t, "first", "LT-1"), v1alpha1.OutcomePromoted)
	incident := s.incident(t)
	s.event(t, s.lost(t, "second", "LT-2"), v1alpha1.OutcomeJoined)
	declared := harness.MakeIncident(s.Namespace, "declared", func(i *v1alpha1.Incident) {
		i.Spec.Assets = []v1alpha1.Asset{{Type: "Account", Identifier: "kim", Owner: "finance"}}
	})
	done(t, s.jane.Create(t.Context(), declared))
	s.accept(t, s.mark(declared.Name, incident.Name))
	s.until(t, declared, "the original to take it up", takenUp)
	want := []string{"Device LT-1", "Device LT-2", "Account kim"}
	s.until(t, incident, "it to be about everything", func(i *v1alpha1.Incident) bool {
		var got []string
		for _, asset := range i.Status.Assets {
			got = append(got, string(asset.Type)+" "+asset.Identifier)
		}
		return slices.Equal(got, want)
	})

	streams, _, out, errOut := genericiooptions.NewTestIOStreams()
	args := []string{"show", incident.Name, "-n", s.Namespace, "--kubeconfig", s.platform(t)}
	if code := cli.Run(t.Context(), args, cli.Config{Streams: streams}); code != cli.ExitOK {
		t.Fatalf("show ends with %d: %s", code, errOut)
	}
	for _, part := range append(want, "of finance", "AssetJoined") {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q is not shown:\n%s", part, out)
		}
	}
}
