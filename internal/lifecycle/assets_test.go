package lifecycle

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func laptop(identifier string) v1alpha1.Asset {
	return v1alpha1.Asset{Type: "Device", Identifier: identifier}
}

// eventAbout adds an event about things outside the cluster.
func (s *sim) eventAbout(name string, identifiers ...string) {
	s.event(name)
	event := &s.events[len(s.events)-1]
	for _, identifier := range identifiers {
		event.Spec.Assets = append(event.Spec.Assets, laptop(identifier))
	}
}

func (s *sim) assets() []string {
	var all []string
	for _, asset := range s.stored.Status.Assets {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s %s", asset.Identifier, asset.EventRef.Name, asset.State)))
	}
	return all
}

// TestAssetsOfEvents: what joined events are about is on the incident, too, each once.
func TestAssetsOfEvents(t *testing.T) {
	s := newSim(t, nil)
	s.stored.Spec.Assets = []v1alpha1.Asset{laptop("LT-1")}
	s.stored.Spec.EventRefs = []v1alpha1.EventReference{{Name: "event-1"}}
	s.eventAbout("event-1", "LT-1")
	s.run()
	s.wantSame("assets", []string{"LT-1 event-1"}, s.assets())
	if s.logged("AssetJoined") > 0 {
		t.Errorf("what opened the incident has not joined it\n%s", s)
	}
	s.eventAbout("event-2", "LT-2", "LT-1")
	s.eventAbout("event-3", "LT-2")
	s.events[2].Spec.Assets = append(s.events[2].Spec.Assets, v1alpha1.Asset{Type: "Account", Identifier: "LT-2", Owner: "finance"})
	s.run()
	s.wantSame("assets", []string{"LT-1 event-1", "LT-2 event-2", "LT-2 event-3"}, s.assets())
	if got := s.stored.Status.Assets[2]; got.Type != "Account" || got.Owner != "finance" {
		t.Errorf("the account is %+v", got)
	}
	s.wantEntry("AssetJoined", "Device LT-2", "event event-2 of falco is about it too")
	s.wantEntry("AssetJoined", "Account LT-2", "event event-3 of falco is about it too")
	s.run()
	if got := s.logged("AssetJoined"); got != 2 {
		t.Errorf("AssetJoined is on the timeline %d times, want once for each\n%s", got, s)
	}
	s.must(closing(v1alpha1.ResolutionAcceptedRisk))
	s.eventAbout("event-4", "LT-4")
	s.run()
	s.wantSame("assets of a closed incident", []string{"LT-1 event-1", "LT-2 event-2", "LT-2 event-3"}, s.assets())
}

func (s *sim) wantEntry(action, resource, message string) {
	s.t.Helper()
	for _, entry := range s.entries {
		if entry.Action == action && entry.Resource == resource && strings.Contains(entry.Message, message) {
			return
		}
	}
	s.t.Fatalf("no entry %s about %q says %q\n%s", action, resource, message, s)
}

// TestAssetsOfBefore: an incident that a manager without `status.assets` has opened gets them.
func TestAssetsOfBefore(t *testing.T) {
	s := newSim(t, nil)
	s.run()
	s.stored.Spec.Assets = []v1alpha1.Asset{laptop("LT-1")}
	s.run()
	s.wantSame("assets", []string{"LT-1"}, s.assets())
}

// TestAssetsOfDuplicates: the original goes on with what its duplicates are about.
func TestAssetsOfDuplicates(t *testing.T) {
	s := newSim(t, nil)
	s.stored.Spec.Assets = []v1alpha1.Asset{laptop("LT-1")}
	s.run()
	duplicate := *s.another("inc-dup", time.Minute, v1alpha1.PhaseContainment)
	duplicates(&duplicate, s.stored.Name, false)
	duplicate.Status.Assets = []v1alpha1.IncidentAsset{
		{Asset: laptop("LT-1")}, {Asset: laptop("LT-2"), EventRef: v1alpha1.EventReference{Name: "event-2"}},
		{Asset: laptop("LT-3"), State: v1alpha1.AssetDetached},
	}
	s.duplicates = []v1alpha1.Incident{duplicate}
	s.run()
	s.wantSame("assets", []string{"LT-1", "LT-2 event-2"}, s.assets())
	s.wantEntry("AssetJoined", "Device LT-2", "incident inc-dup, a duplicate, is about it")
}

// TestAssetsOfDetachedEvents: what a detached event alone has named is not what the incident is
// about, until another event names it or a person joins that one again.
func TestAssetsOfDetachedEvents(t *testing.T) {
	for name, test := range map[string]struct {
		back func(*sim)
		want []string
	}{
		"it stays so":   {func(*sim) {}, []string{"LT-1 event-1 Detached", "LT-2 event-2"}},
		"another event": {func(s *sim) { s.eventAbout("event-3", "LT-1") }, []string{"LT-1 event-3", "LT-2 event-2"}},
		"by a person":   {func(s *sim) { s.joinAgain(&s.events[0]) }, []string{"LT-1 event-1", "LT-2 event-2"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, nil)
			s.stored.Spec.Assets = []v1alpha1.Asset{laptop("LT-1"), laptop("LT-2")}
			s.stored.Spec.EventRefs = []v1alpha1.EventReference{{Name: "event-1"}}
			s.eventAbout("event-1", "LT-1", "LT-2")
			s.eventAbout("event-2", "LT-2")
			s.run()
			answer := s.decide(detach("jane", "event-1"))
			if !strings.Contains(answer.Message, "it is no longer about Device LT-1") || strings.Contains(answer.Message, "LT-2") {
				t.Errorf("got the answer %q", answer.Message)
			}
			s.follow()
			s.run()
			test.back(s)
			s.run()
			s.wantSame("assets", test.want, s.assets())
		})
	}
}

// TestManyAssets: there are bounds, of number and of bytes, and what is left out is said.
func TestManyAssets(t *testing.T) {
	for name, test := range map[string]struct {
		padding       string
		kept, omitted int
	}{
		"many":         {"", 128, 17},
		"hostile ones": {strings.Repeat("<", 240), 43, 102},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, nil)
			s.stored.Spec.Assets = []v1alpha1.Asset{laptop("first")}
			for event := range 9 {
				var identifiers []string
				for i := range 16 {
					identifiers = append(identifiers, fmt.Sprintf("%s-%d-%d", test.padding, event, i))
				}
				s.eventAbout(fmt.Sprintf("event-%d", event), identifiers...)
			}
			s.run()
			kept, omitted := len(s.stored.Status.Assets), int(s.stored.Status.OmittedAssets)
			if kept != test.kept || omitted != test.omitted {
				t.Errorf("%d are kept and %d omitted, want %d and %d", kept, omitted, test.kept, test.omitted)
			}
			if raw, err := json.Marshal(s.stored.Status.Assets); err != nil || len(raw) > maxAssetBytes {
				t.Errorf("they take %d bytes (%v), want at most %d", len(raw), err, maxAssetBytes)
			}
			if got := s.logged("AssetsOmitted"); got != 1 {
				t.Errorf("AssetsOmitted is on the timeline %d times, want once\n%s", got, s)
			}
			if got := s.logged("AssetJoined"); got != 1 {
				t.Errorf("AssetJoined is on the timeline %d times, want one for all", got)
			}
			s.run()
			if got := s.logged("AssetsOmitted"); got != 1 {
				t.Errorf("AssetsOmitted is on the timeline %d times after another look, want once", got)
			}
		})
	}
}
