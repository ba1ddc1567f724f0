package simulate

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
	"github.com/firebreak-dev/firebreak/internal/manifest"
	"github.com/firebreak-dev/firebreak/internal/receiver"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

const manifests = `apiVersion: firebreak.dev/v1alpha1
kind: ClassificationPolicy
metadata: {name: runtime, namespace: security}
spec:
  rules:
  - {name: noise, match: event.severity == "Low", outcome: Dismiss}
  - {name: unclear, match: event.severity == "Medium", outcome: Defer}
  - name: shell
    match: event.submittedBy == "falco" && has(event.resources)
    outcome: Promote
    correlate: {by: [event.workload], within: 30m}
    incident:
      title: '"Shell in " + event.workload'
      severity: High
      category: Intrusion
      impact: {integrity: High}
      playbooks: [{playbookRef: {name: contain}}]
---
apiVersion: firebreak.dev/v1alpha1
kind: ResponsePlaybook
metadata: {name: contain}
spec:
  serviceAccountName: contain
  containment:
    steps:
    - {name: preserve, target: Pods, collect: {}}
    - {name: cut, target: Pods, isolate: {}}
    - {name: nodes, target: Nodes, cordon: {}}
    - {name: owners, target: Workloads, onNoTargets: Skip, suspend: {}}
    - {name: rare, when: incident.severity == "Critical", target: Pods, delete: {}}
    - {name: named, targets: 'resources.filter(r, r.kind == "CronJob")', suspend: {}}
    - {name: later, targets: '[{"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": steps["cut"].outputs["x"]}]', patch: {expression: '{"metadata": {"labels": {"a": "b"}}}'}}
  recovery:
    steps:
    - {name: release, revert: {}}
---
apiVersion: firebreak.dev/v1alpha1
kind: ResponsePlan
metadata: {name: default, namespace: security}
spec: {response: Enforce}
---
apiVersion: firebreak.dev/v1alpha1
kind: ClassificationPolicy
metadata: {name: elsewhere, namespace: another}
spec:
  priority: 1000
  rules: [{name: all, match: 'true', outcome: Dismiss}]
`

func domain(t *testing.T, content string) *Domain {
	t.Helper()
	set, err := manifest.Read([]string{"-"}, strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	made, err := DomainOf(t.Context(), set, "security")
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func shell(namespace string) *v1alpha1.SecurityEvent {
	event := &v1alpha1.SecurityEvent{Spec: v1alpha1.SecurityEventSpec{
		Source: v1alpha1.EventSource{Kind: v1alpha1.SourceAutomatic}, SubmittedBy: "falco", Title: "Shell", Severity: v1alpha1.SeverityHigh,
		ObservedTime: metav1.NewTime(noon),
		Resources:    []v1alpha1.ResourceReference{{APIVersion: "v1", Kind: "Pod", Namespace: namespace, Name: "cart-1", Node: "n1"}},
	}}
	event.Name = "shell"
	return event
}

func run(t *testing.T, d *Domain, event *v1alpha1.SecurityEvent, workload string) *Result {
	t.Helper()
	result, err := Run(t.Context(), Input{Domain: d, Event: event, Workload: workload, Now: noon})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func steps(playbook *Playbook) []string {
	var lines []string
	for _, step := range playbook.Steps {
		line := step.Name + " " + step.Action
		for _, part := range append(slices.Clone(step.Targets), step.Notes...) {
			line += " | " + part
		}
		if step.Skipped != "" {
			line += " | skipped: " + step.Skipped
		}
		lines = append(lines, line)
	}
	return lines
}

func TestRun(t *testing.T) {
	result := run(t, domain(t, manifests), shell("shop"), "cart")
	want := &Incident{
		Name: result.Incident.Name, Title: "Shell in cart", Severity: v1alpha1.SeverityHigh, Priority: v1alpha1.PriorityP1, Category: v1alpha1.CategoryIntrusion,
		TLP: v1alpha1.TLPAmber, Impact: v1alpha1.Impact{Integrity: v1alpha1.ImpactHigh}, Key: []string{"cart"}, Within: "30m",
	}
	if diff := cmp.Diff(want, result.Incident); diff != "" || result.Outcome != v1alpha1.OutcomePromoted || !strings.HasPrefix(result.Incident.Name, "inc-20261121-") {
		t.Errorf("outcome %s, incident (-want +got):\n%s", result.Outcome, diff)
	}
	if len(result.Asked) != 3 || len(result.Notes) != 1 || len(result.Playbook.Notes) != 0 {
		t.Errorf("asked %v, notes %v and %v", result.Asked, result.Notes, result.Playbook.Notes)
	}
	if diff := cmp.Diff([]string{
		"preserve collect | Pod shop/cart-1",
		"cut isolate | Pod shop/cart-1",
		"nodes cordon | looked up in the cluster: the node of Pod shop/cart-1 ('n1', the event says)",
		"owners suspend | looked up in the cluster: the top owner of Pod shop/cart-1",
		"rare delete | skipped: `when: incident.severity == \"Critical\"` is false, as the incident is opened",
		"named suspend | the event names nothing to act on: the step fails (`onNoTargets: Fail`)",
		"later patch | `targets` cannot be told before the steps before it have run: no such key: cut",
		"release revert",
	}, steps(result.Playbook)); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

// TestDrill: what a drill would do is told as such, and it joins nothing that is live.
func TestDrill(t *testing.T) {
	d := domain(t, manifests)
	drill := shell("shop")
	drill.Spec.Mode, drill.Name = v1alpha1.ModeDrill, "drill"
	results, err := RunAll(t.Context(), Input{Domain: d, Workload: "cart"}, []v1alpha1.SecurityEvent{*shell("shop"), *drill, *drill, *shell("shop")})
	if err != nil {
		t.Fatal(err)
	}
	var outcomes []string
	for _, result := range results {
		outcomes = append(outcomes, string(result.Mode)+" "+string(result.Outcome))
	}
	if diff := cmp.Diff([]string{" Promoted", "Drill Promoted", "Drill Joined", " Joined"}, outcomes); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	if live, drilled := results[0].Incident.Name, results[1].Incident.Name; live == drilled || results[2].Joins != drilled || results[3].Joins != live {
		t.Errorf("%s and %s are joined by %s and %s", live, drilled, results[2].Joins, results[3].Joins)
	}
	playbook := results[1].Playbook
	if len(playbook.Notes) != 1 || !strings.HasPrefix(playbook.Notes[0], "a drill: every write is only tried") {
		t.Errorf("the playbook's notes are %q", playbook.Notes)
	}
	if last := playbook.Steps[len(playbook.Steps)-1]; last.Skipped == "" || results[0].Playbook.Steps[len(playbook.Steps)-1].Skipped != "" {
		t.Errorf("the last step of the drill is %+v, want it skipped, and only there", last)
	}
}

func TestOutcomes(t *testing.T) {
	d := domain(t, manifests)
	for severity, want := range map[v1alpha1.Severity]v1alpha1.AssessmentOutcome{
		v1alpha1.SeverityLow: v1alpha1.OutcomeDismissed, v1alpha1.SeverityMedium: v1alpha1.OutcomeDeferred,
	} {
		event := shell("shop")
		event.Spec.Severity = severity
		result := run(t, d, event, "")
		if result.Outcome != want || result.Incident != nil || result.Playbook != nil || result.Workload != "cart-1" || !strings.Contains(result.Notes[0], "top owner") {
			t.Errorf("%s: got %+v", severity, result)
		}
	}
	forged := shell("shop")
	forged.Spec.SubmittedBy = "somebody"
	if result := run(t, d, forged, ""); result.Outcome != v1alpha1.OutcomeDeferred || result.Reason != v1alpha1.ReasonNoRuleMatched {
		t.Errorf("got %+v", result)
	}
}

func TestWhatHoldsItUp(t *testing.T) {
	all := func(content, namespace string) string {
		result := run(t, domain(t, content), shell(namespace), "cart")
		return strings.Join(append(append(steps(result.Playbook), result.Playbook.Notes...), result.Playbook.Problem), "\n")
	}
	edited := func(old, now string) string {
		if !strings.Contains(manifests, old) {
			t.Fatalf("no %q", old)
		}
		return strings.Replace(manifests, old, now, 1)
	}
	for name, test := range map[string]struct{ content, namespace, want string }{
		"protected":         {manifests, "kube-system", "cut isolate | Pod kube-system/cart-1 | namespace 'kube-system' is protected: what is in it waits for an approval"},
		"looking is not":    {manifests, "kube-system", "preserve collect | Pod kube-system/cart-1\n"},
		"allowed":           {edited("  containment:", "  limits: {allowProtected: [kube-system]}\n  containment:"), "kube-system", "cut isolate | Pod kube-system/cart-1\n"},
		"paused":            {edited("Enforce", "Paused"), "shop", "`response: Paused`: no step runs"},
		"dry run":           {edited("Enforce", "DryRun"), "shop", "release revert | skipped: after a dry run there is no effect"},
		"confirm":           {edited("  containment:", "  mode: Confirm\n  containment:"), "shop", "`mode: Confirm`: each step that writes waits"},
		"not there":         {edited("metadata: {name: contain}", "metadata: {name: other}"), "shop", "ResponsePlaybook 'contain' is not among the manifests"},
		"none":              {edited("      playbooks: [{playbookRef: {name: contain}}]\n", ""), "shop", "people respond by hand"},
		"not ready":         {edited("incident.severity ==", "incident.sev =="), "shop", "it would not be Ready: containment step \"rare\": `when`"},
		"evidence":          {edited("target: Pods, collect: {}", "target: Pods, onNoTargets: Skip, verify: {expression: 'true', for: 1s, within: 1m}"), "shop", "it would not be Ready: step 'owners' (suspend) may destroy evidence"},
		"skips":             {edited("suspend: {}}\n    - {name: later", "onNoTargets: Skip, suspend: {}}\n    - {name: later"), "shop", "named suspend | the event names nothing to act on: the step is skipped"},
		"out of scope":      {edited("  containment:", "  scope: {namespaces: [web]}\n  containment:"), "shop", "cut isolate | Pod shop/cart-1 | namespace shop is none of the playbook's `scope.namespaces`, where it is meant to act: what is in it waits for an approval"},
		"in scope":          {edited("  containment:", "  scope: {namespaces: [shop]}\n  containment:"), "shop", "cut isolate | Pod shop/cart-1\n"},
		"named, labelled":   {edited(`'resources.filter(r, r.kind == "CronJob")'`, `'[{"apiVersion": "batch/v1", "kind": "CronJob", "namespace": "web", "name": "nightly"}]'`) + labelled("web"), "shop", "named suspend | CronJob web/nightly | namespace 'web' is protected by its label firebreak.dev/protected: what is in it waits for an approval\n"},
		"labelled":          {manifests + labelled("shop"), "shop", "cut isolate | Pod shop/cart-1 | namespace 'shop' is protected by its label firebreak.dev/protected: what is in it waits for an approval"},
		"labelled, allowed": {edited("  containment:", "  limits: {allowProtected: [shop]}\n  containment:") + labelled("shop"), "shop", "cut isolate | Pod shop/cart-1\n"},
		"confirmed":         {edited("      category:", "      confirm: Required\n      category:"), "shop", "`confirm: Required`: eradication and recovery wait until a person has confirmed that it is an incident (a Decision 'Confirm'); containment does not"},
		"a cluster's names": {edited("target: Nodes, cordon", "target: Namespaces, patch"), "shop", "Namespace shop"},
	} {
		t.Run(name, func(t *testing.T) {
			content := strings.Replace(test.content, "target: Namespaces, patch: {}", `target: Namespaces, patch: {expression: '{"metadata": {"labels": {"a": "b"}}}'}`, 1)
			if got := all(content, test.namespace); !strings.Contains(got, test.want) {
				t.Errorf("want %q in\n%s", test.want, got)
			}
		})
	}
}

func labelled(namespace string) string {
	return "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: " + namespace + ", labels: {firebreak.dev/protected: \"true\"}}\n"
}

// TestWhatAPersonMustSay: what a rule leaves open is part of the incident that it opens.
func TestWhatAPersonMustSay(t *testing.T) {
	content := strings.Replace(manifests, "      category:", "      confirm: Required\n      determinations: [{name: personal-data-breach, outcome: Suspected}]\n      category:", 1)
	got := run(t, domain(t, content), shell("shop"), "cart").Incident
	if want := []v1alpha1.Determination{{Name: "personal-data-breach", Outcome: v1alpha1.DeterminationSuspected}}; got.Confirm != v1alpha1.ConfirmRequired || !slices.Equal(got.Determinations, want) {
		t.Errorf("got %+v", got)
	}
}

// TestTheNextOfAKey: after the window the next incident of a correlation opens, under a name of its own.
func TestTheNextOfAKey(t *testing.T) {
	var events []v1alpha1.SecurityEvent
	for _, after := range []time.Duration{0, 29 * time.Minute, 30 * time.Minute, 59 * time.Minute, 2 * time.Hour} {
		event := shell("shop")
		event.Spec.ObservedTime = metav1.NewTime(noon.Add(after))
		events = append(events, *event)
	}
	results, err := RunAll(t.Context(), Input{Domain: domain(t, manifests), Workload: "cart"}, events)
	if err != nil {
		t.Fatal(err)
	}
	correlation := classify.Correlation{Policy: "runtime", Rule: "shell", Key: []string{"cart"}}
	var got, want []string
	for i, sequence := range []int{1, 1, 2, 2, 3} {
		name, _ := correlation.IncidentName(noon, sequence, 0)
		want = append(want, name)
		if incident := results[i].Incident; incident != nil {
			got = append(got, incident.Name)
		} else {
			got = append(got, results[i].Joins)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || results[1].Joins == "" || results[3].Joins == "" {
		t.Errorf("incidents (-want +got):\n%s", diff)
	}
}

func TestBrokenManifests(t *testing.T) {
	unusable := strings.Replace(manifests, `event.severity == "Low"`, `event.sev == "Low"`, 1)
	if result := run(t, domain(t, unusable), shell("shop"), ""); result.Outcome != v1alpha1.OutcomeDeferred || result.Reason != v1alpha1.ReasonRuleError || !strings.Contains(result.Message, "does not compile") {
		t.Errorf("got %+v", result)
	}
	for content, want := range map[string]string{
		strings.Replace(manifests, "outcome: Dismiss", "outcome: Drop", 1): "-:6: ClassificationPolicy 'runtime' would be refused: `spec.rules[0].outcome` must be one of",
		"a: [": "this is not YAML",
	} {
		set, err := manifest.Read([]string{"-"}, strings.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DomainOf(t.Context(), set, "security"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

var trusted = regexp.MustCompile(`event\.submittedBy == "([^"]+)"`)

// Each ready-made playbook is what its own alert sets off.
func TestReadyMade(t *testing.T) {
	root := filepath.Join("..", "..", "config", "playbooks")
	set, err := manifest.Read([]string{root}, nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := DomainOf(t.Context(), set, "security")
	if err != nil {
		t.Fatal(err)
	}
	formats, err := receiver.LoadFormats(filepath.Join("..", "..", "config", "samples", "senders", "formats.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	alerts, err := filepath.Glob(filepath.Join(root, "*", "alert.*.json"))
	if err != nil || len(alerts) != 10 {
		t.Fatalf("got %v, %v, want ten alerts", alerts, err)
	}
	for _, alert := range alerts {
		name := filepath.Base(filepath.Dir(alert))
		t.Run(name, func(t *testing.T) {
			content, err := os.ReadFile(alert)
			if err != nil {
				t.Fatal(err)
			}
			policy, err := os.ReadFile(filepath.Join(filepath.Dir(alert), "policy.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			sender := "jane@example.com"
			if found := trusted.FindSubmatch(policy); found != nil {
				sender = string(found[1])
			}
			format := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(alert), "alert."), ".json")
			events, err := formats.Parse(format, receiver.Body{Content: content, Namespace: "security", Sender: sender, ReceivedTime: noon})
			if err != nil {
				t.Fatal(err)
			}
			result := run(t, d, &events[0], "")
			if result.Outcome != v1alpha1.OutcomePromoted || result.Playbook.Name != name || result.Playbook.Problem != "" {
				t.Fatalf("got %s: %s, playbook %+v", result.Outcome, result.Message, result.Playbook)
			}
			for _, step := range result.Playbook.Steps {
				if step.Does == "" || strings.Contains(fmt.Sprint(step.Notes), "fails") {
					t.Errorf("step %+v", step)
				}
			}
		})
	}
}
