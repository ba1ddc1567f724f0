package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// TestDrillsSaySo: what programs read of a drill says that it is one, and of what is live nothing.
func TestDrillsSaySo(t *testing.T) {
	for mode, drill := range map[v1alpha1.Mode]bool{"": false, v1alpha1.ModeLive: false, v1alpha1.ModeDrill: true} {
		event, incident := explainedEvent(), sampleIncident()
		event.Spec.Mode, incident.Spec.Mode = mode, mode
		why, err := whyAssessed(t.Context(), at(90).Time, event, nil, nil)
		mustDo(t, err)
		found := verifyRecord(incident, nil)
		for name, object := range map[string]any{"explain": why, "verify": found} {
			text, err := json.Marshal(object)
			mustDo(t, err)
			if said := strings.Contains(string(text), `"mode":"Drill"`); said != drill || strings.Contains(string(text), `"mode"`) != drill {
				t.Errorf("%s of mode %q: %s", name, mode, text)
			}
		}
		s, out, _ := testSession(terminal{})
		s.printVerification(found)
		if said := strings.HasPrefix(out.String(), "DRILL: "+incident.Name); said != drill {
			t.Errorf("verify of mode %q:\n%s", mode, out)
		}
	}
}
