package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/simulate"
)

const (
	simulated = `apiVersion: firebreak.dev/v1alpha1
kind: ClassificationPolicy
metadata: {name: runtime, namespace: security}
spec:
  rules:
  - name: noise
    match: event.submittedBy == "falco" && event.severity in ["Low", "Informational"]
    outcome: Dismiss
  - name: shell
    match: event.submittedBy == "falco" && event.source.rule == "Shell"
    outcome: Promote
    correlate: {by: [event.workload]}
    incident:
      title: '"Shell in " + event.workload'
      severity: High
      category: Intrusion
      playbooks: [{playbookRef: {name: contain}}]
---
apiVersion: firebreak.dev/v1alpha1
kind: ResponsePlaybook
metadata: {name: contain, namespace: security}
spec:
  serviceAccountName: contain
  mode: Confirm
  containment:
    steps:
    - {name: cut, parallel: first, target: Pods, isolate: {}}
    - {name: hold, parallel: first, target: Nodes, cordon: {}}
    - {name: rare, when: incident.severity == "Critical", wait: {duration: 5m}}
  recovery:
    steps:
    - {name: release, revert: {steps: [cut, hold]}}
`
	simulatedEvent = `apiVersion: firebreak.dev/v1alpha1
kind: SecurityEvent
metadata: {name: shell-1}
spec:
  source: {kind: Automatic, product: falco, rule: Shell}
  submittedBy: falco
  title: "A shell\e[31m"
  severity: High
  observedTime: "2026-11-21T16:00:00Z"
  resources: [{apiVersion: v1, kind: Pod, namespace: shop, name: cart-1}]
`
)

func TestSimulate(t *testing.T) {
	const nowhere = "/does/not/exist"
	folder := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(folder, name)
		mustDo(t, os.MkdirAll(filepath.Dir(path), 0o755))
		mustDo(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	event := write("event.yaml", strings.Replace(simulatedEvent, `\e[31m`, "", 1))
	git := write("git/all.yaml", simulated)
	simulate1 := func(args ...string) result {
		return run(t.Context(), nowhere, append([]string{"simulate"}, args...)...)
	}

	r := simulate1("--event", event, "--manifests", git, "--workload", "cart", "--expect", "Promoted")
	r.check(t, ExitOK, "", "")
	golden(t, "simulate", r.out)
	simulate1("--event", event, "--manifests", git, "--expect", "dismissed").check(t, ExitRefused, "OUTCOME  Promoted", "Not as expected: 1 outcome must be Dismissed\n  shell-1: Promoted (RuleMatched)")
	simulate1("--event", event, "--submitted-by", "somebody", "--manifests", git, "--expect", "Deferred").check(t, ExitOK, `event.submittedBy == "falco" is false: event.submittedBy is "somebody"`, "")
	hostile := write("hostile.yaml", simulatedEvent)
	if r := simulate1("--event", hostile, "--manifests", git); strings.Contains(r.out, "\x1b") || !strings.Contains(r.out, `\x1b[31m`) {
		t.Errorf("a terminal must not obey the event:\n%q", r.out)
	}

	unsure := write("unsure.yaml", strings.Replace(simulated, "      category:", "      confirm: Required\n      determinations: [{name: personal-data-breach, outcome: Suspected}]\n      category:", 1))
	simulate1("--event", event, "--manifests", unsure).check(t, ExitOK, "  a person must confirm it before it is eradicated\n  personal-data-breach: Suspected, until a person has determined it\n", "")
	simulate1("--event", event, "--manifests", unsure).check(t, ExitOK, "`confirm: Required`: eradication and recovery wait", "")
	simulate1("--event", event, "--format", "audit", "--submitted-by", "x", "--manifests", git).check(t, ExitError, "", "--formats-file must be given with --format audit: ")

	alert := write("alert.json", `{"rule": "Shell", "priority": "Notice", "output": "x", "hostname": "n", "output_fields": {"k8s.ns.name": "shop", "k8s.pod.name": "cart-1"}}`)
	r = simulate1("--event", alert, "--format", "falco", "--submitted-by", "falco", "-o", "json", "--expect", "Dismissed", "--manifests", filepath.Dir(git))
	got := &simulate.Result{}
	mustDo(t, json.Unmarshal([]byte(r.out), got))
	if r.code != ExitOK || got.Outcome != v1alpha1.OutcomeDismissed || len(got.Asked) != 1 {
		t.Errorf("exit code %d, error %q, result %+v", r.code, r.err, got)
	}

	text, err := os.ReadFile(alert)
	mustDo(t, err)
	log := write("log.json", string(text)+"\n"+strings.Replace(string(text), "Notice", "Warning", 1)+"\n")
	simulate1("--event", log, "--format", "falco", "--submitted-by", "falco", "--expect", "Dismissed", "--manifests", git).
		check(t, ExitRefused, "OUTCOME  Dismissed", "Not as expected: 1 outcome must be Dismissed")
	simulate1("--event", alert, "--format", "falco", "--manifests", git).check(t, ExitError, "", "--submitted-by must be given with --format")
	simulate1("--event", alert, "--manifests", git).check(t, ExitError, "", "has no SecurityEvent")
	simulate1("--event", event, "--format", "falco", "--submitted-by", "x", "--manifests", git).check(t, ExitError, "", "is not what the format falco wants")
	simulate1("--event", event).check(t, ExitError, "", "--manifests PATH must be given")
	simulate1("--event", event, "--manifests", git, "--expect", "Open").check(t, ExitError, "", "must be one of Promoted, Joined, Dismissed, Deferred")
	simulate1("--event", event, "--manifests", git, "-n", "other").check(t, ExitError, "", "no ClassificationPolicy for the namespace other")
	two := write("two.yaml", simulated+"---\n"+strings.ReplaceAll(simulated, "namespace: security", "namespace: tenant"))
	simulate1("--event", event, "--manifests", two).check(t, ExitError, "", "policies of several namespaces: security, tenant")
	faulty := write("faulty.yaml", strings.Replace(simulated, "outcome: Dismiss", "outcome: Drop", 1))
	simulate1("--event", event, "--manifests", faulty).check(t, ExitError, "", faulty+":8: ClassificationPolicy 'runtime' would be refused")
	broken := write("broken.yaml", strings.Replace(simulatedEvent, "severity: High", "severity: Loud", 1))
	simulate1("--event", broken, "--manifests", git).check(t, ExitError, "", broken+":8: the event would be refused: `spec.severity` must be one of")
}

// TestSimulateSeveral: what comes one after the other, and more than once.
func TestSimulateSeveral(t *testing.T) {
	folder := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(folder, name)
		mustDo(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	simulate1 := func(args ...string) result {
		return run(t.Context(), "/does/not/exist", append([]string{"simulate"}, args...)...)
	}
	event := strings.Replace(simulatedEvent, `\e[31m`, "", 1)
	one, two := write("one.yaml", event), write("two.yaml", strings.ReplaceAll(event, "shell-1", "shell-2"))
	git := write("git.yaml", simulated)
	r := simulate1("--event", one, "--event", two, "--workload", "cart", "--manifests", git, "--expect", "Promoted")
	r.check(t, ExitOK, "OUTCOME  Joined: RuleMatched: rule \"shell\" of policy \"runtime\" matched; incident inc-20261121-p3nnf is open for the same key", "")
	simulate1("--event", one, "--event", two, "--workload", "cart", "--manifests", git, "--expect", "Joined").
		check(t, ExitRefused, "", "Not as expected: 1 outcome must be Joined\n  shell-1: Promoted")

	often := write("often.yaml", strings.Replace(simulated, "    correlate:", "    threshold: {occurrences: 3, within: 10m}\n    correlate:", 1))
	simulate1("--event", one, "--manifests", often, "--expect", "Dismissed").
		check(t, ExitOK, "runtime/shell  matches, but was not seen often enough\n      rule \"shell\" of policy \"runtime\" asks for 3 occurrences within 10m0s; there were at most 1", "")
	simulate1("--event", one, "--occurrences", "3", "--manifests", often, "--expect", "Promoted").check(t, ExitOK, "was seen 3 times within 10m0s", "")
	simulate1("--event", one, "--occurrences", "2", "--manifests", often, "--expect", "Promoted").check(t, ExitRefused, "--occurrences says how often it is seen", "ThresholdNotReached")
	simulate1("--event", one, "--occurrences", "0", "--manifests", often).check(t, ExitError, "", "--occurrences 0 must be from 1 to 1000000")
	same := strings.Replace(event, "  severity:", "  fingerprint: a\n  severity:", 1)
	three := write("three.yaml", same+"---\n"+strings.ReplaceAll(same, "shell-1", "shell-2")+"---\n"+strings.ReplaceAll(same, "shell-1", "shell-3"))
	simulate1("--event", three, "--manifests", often, "--expect", "Promoted").check(t, ExitOK, "OUTCOME  Joined", "")
}
