package receiver

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestEveryFormatIsRecorded sends what senders send to a receiver, and finds each alert
// that was answered 2xx as an event.
func TestEveryFormatIsRecorded(t *testing.T) {
	s := newSite(t)
	all, err := LoadFormats("../../config/samples/senders/formats.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s.url, s.http = s.receiver(Options{Name: "formats", Formats: all, SenderBurst: 10000})
	named := map[string]bool{}
	for _, name := range all.names() {
		for file, body := range bodiesOf(t, strings.ReplaceAll(name, "/", "-")) {
			if strings.HasPrefix(filepath.Base(file), "refused") || strings.Contains(file, "/events/manifest") {
				continue // a manifest names its namespace
			}
			status, results := s.postReport(t, name, body)
			wrong := 0
			for _, result := range results {
				if result.Status/100 != 2 && result.Status != 0 {
					wrong++
				} else if named[result.Name] = true; result.Name == "" {
					t.Errorf("%s: result %+v has no name", file, result)
				}
			}
			if (status/100 == 2) != (wrong == 0) {
				t.Errorf("%s: status %d, with %d items that were wrong: %+v", file, status, wrong, results)
			}
		}
	}
	events := map[string]bool{}
	for _, event := range s.events() {
		events[event.Name] = true
		if event.Spec.SubmittedBy != s.sender {
			t.Errorf("%s: submittedBy is %q", event.Name, event.Spec.SubmittedBy)
		}
	}
	for name := range named {
		if !events[name] {
			t.Errorf("event %s was named in an answer and is not there", name)
		}
	}
	if len(events) != len(named) || len(events) < 30 {
		t.Errorf("there are %d events, and %d were named in answers", len(events), len(named))
	}
}

// postReport sends a body with its headers; the one alert of a body is a list of one.
func (s *site) postReport(t *testing.T, format string, what report) (int, []Result) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/v1/namespaces/"+s.namespace+"/"+format, bytes.NewReader(what.body))
	if err != nil {
		t.Fatal(err)
	}
	for key, values := range what.header {
		request.Header[key] = values
	}
	request.Header.Set("Authorization", "Bearer "+s.token)
	response, err := s.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Result
		Results []Result `json:"results"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if bytes.Contains(text, []byte(`"results"`)) {
		return response.StatusCode, answer.Results
	}
	if response.StatusCode/100 != 2 {
		t.Errorf("%s", text)
	}
	answer.Status = response.StatusCode
	return response.StatusCode, []Result{answer.Result}
}
