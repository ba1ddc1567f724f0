package receiver

import (
	"strings"
	"testing"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func TestParse(t *testing.T) {
	all, err := LoadFormats("")
	if err != nil {
		t.Fatal(err)
	}
	body := Body{Namespace: "security", Sender: "system:serviceaccount:falco:falco", ReceivedTime: time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC)}
	for name, test := range map[string]struct {
		format, content string
		events          int
		wantError       string
	}{
		"falco":              {"falco", `{"rule": "Shell", "priority": "Notice", "output": "x", "hostname": "n"}`, 1, ""},
		"falco, faulty":      {"falco", `{"rule": "Shell", "priority": "Loud"}`, 0, "`priority` must be one of"},
		"a list":             {"events", `[{"title": "a", "severity": "Low"}, {"title": "b", "severity": "Low"}]`, 2, ""},
		"against the schema": {"events", `{"title": "a", "severity": "Low", "attacks": [{"technique": "X"}]}`, 0, "technique"},
		"one of two":         {"alertmanager", `{"version": "4", "alerts": [{"labels": 7}, {"labels": {"alertname": "a"}, "startsAt": "2026-11-21T16:00:00Z"}]}`, 1, "labels"},
		"unknown":            {"flaco", `{}`, 0, "no format 'flaco': it must be one of alertmanager, audit"},
	} {
		t.Run(name, func(t *testing.T) {
			body.Content = []byte(test.content)
			events, err := all.Parse(test.format, body)
			if len(events) != test.events || (err == nil) != (test.wantError == "") || err != nil && !strings.Contains(err.Error(), test.wantError) {
				t.Fatalf("got %d events and %v, want %d and %q", len(events), err, test.events, test.wantError)
			}
			for i := range events {
				if e := &events[i]; e.Spec.SubmittedBy != body.Sender || e.Namespace != "security" || e.Name == "" || e.Kind != "SecurityEvent" || e.APIVersion != v1alpha1.SchemeGroupVersion.String() {
					t.Errorf("got %+v", e)
				}
			}
		})
	}
}
