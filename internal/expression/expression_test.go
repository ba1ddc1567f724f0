package expression

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func falcoEvent() *v1alpha1.SecurityEvent {
	return &v1alpha1.SecurityEvent{
		ObjectMeta: metav1.ObjectMeta{Name: "falco-5f0c8a2e1b", Namespace: "security"},
		Spec: v1alpha1.SecurityEventSpec{
			Source:       v1alpha1.EventSource{Kind: v1alpha1.SourceAutomatic, Product: "falco", Rule: "Terminal shell in container"},
			SubmittedBy:  "system:serviceaccount:falco:falcosidekick",
			Title:        "A shell was spawned",
			Severity:     v1alpha1.SeverityCritical,
			ObservedTime: metav1.NewTime(time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC)),
			Resources:    []v1alpha1.ResourceReference{{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "cart-7f9"}},
			Attacks:      []v1alpha1.Attack{{Tactic: "Execution", Technique: "T1059"}},
			Attributes:   map[string]v1alpha1.AttributeValue{"proc.cmdline": "sh"},
		},
	}
}

func humanEvent() *v1alpha1.SecurityEvent {
	return &v1alpha1.SecurityEvent{Spec: v1alpha1.SecurityEventSpec{
		Source:      v1alpha1.EventSource{Kind: v1alpha1.SourceHuman},
		SubmittedBy: "jane", Title: "My laptop is gone", Severity: v1alpha1.SeverityLow,
		ObservedTime: metav1.NewTime(time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC)),
	}}
}

func TestEventBool(t *testing.T) {
	for name, test := range map[string]struct {
		expression v1alpha1.Expression
		event      *v1alpha1.SecurityEvent
		want       bool
		wantError  string
	}{
		"the design's match": {
			expression: `event.submittedBy == "system:serviceaccount:falco:falcosidekick" && event.source.rule == "Terminal shell in container"`,
			want:       true,
		},
		"the design's playbook choice": {expression: `event.severity == "Critical"`, want: true},
		"resource":                     {expression: `event.resources[0].namespace == "shop" && event.resources.exists(r, r.kind == "Pod")`, want: true},
		"attribute":                    {expression: `event.attributes["proc.cmdline"] == "sh"`, want: true},
		"optional attribute":           {expression: `event.?attributes[?"proc.name"].orValue("none") == "none"`, want: true},
		"name and namespace":           {expression: `event.name.startsWith("falco-") && event.namespace == "security"`, want: true},
		"time is a timestamp":          {expression: `event.observedTime < timestamp("2026-12-01T00:00:00Z") && event.observedTime.getHours() == 16`, want: true},
		"technique":                    {expression: `event.attacks.exists(a, a.?technique.orValue("").matches("^T1059"))`, want: true},
		"absent with default":          {expression: `event.source.?rule.orValue("") == ""`, event: humanEvent(), want: true},
		"absent with has":              {expression: `has(event.resources)`, event: humanEvent(), want: false},
		"absent list with default":     {expression: `event.?resources.orValue([]).size() == 0`, event: humanEvent(), want: true},
		"absent workload":              {expression: `event.workload == "cart"`, event: humanEvent(), wantError: "no such key: workload"},
		"absent scalar":                {expression: `event.source.rule == "x"`, event: humanEvent(), wantError: "no such key: rule"},
		"absent list":                  {expression: `event.resources[0].namespace == "shop"`, event: humanEvent(), wantError: "no such key: resources"},
		"index out of range":           {expression: `event.resources[3].name == "x"`, wantError: "index out of bounds: 3"},
		"absorbed error":               {expression: `event.source.rule == "x" && event.submittedBy == "nobody"`, event: humanEvent(), want: false},
		"dynamic result that is no bool": {
			expression: `dyn(event.title)`, wantError: "must yield a bool, but has yielded a string",
		},
		"cost bomb": {
			expression: `[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, [1,2,3,4,5,6,7,8,9,10].all(f, a+b+c+d+e+f > 0))))))`,
			wantError:  "it costs more than the 1000000 units allowed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			event := test.event
			workload := ""
			if event == nil {
				event, workload = falcoEvent(), "cart"
			}
			program, err := CompileBool(Event, test.expression)
			if err != nil {
				t.Fatal(err)
			}
			variables, err := EventVariables(event, workload)
			if err != nil {
				t.Fatal(err)
			}
			got, err := program.Bool(t.Context(), variables)
			checkError(t, err, test.wantError)
			if got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestEventString(t *testing.T) {
	program, err := CompileString(Event, `"Shell in " + event.resources[0].namespace + "/" + event.workload`)
	if err != nil {
		t.Fatal(err)
	}
	variables, err := EventVariables(falcoEvent(), "cart")
	if err != nil {
		t.Fatal(err)
	}
	got, err := program.String(t.Context(), variables)
	if err != nil || got != "Shell in shop/cart" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestCompileErrors(t *testing.T) {
	for name, test := range map[string]struct {
		compile   func(Scope, v1alpha1.Expression) (*Program, error)
		scope     Scope
		source    v1alpha1.Expression
		wantError string
	}{
		"variable":         {CompileBool, Event, `true && evnt.title == "x"`, "1:9: undeclared reference to 'evnt'"},
		"field":            {CompileBool, Event, `event.sorce.rule == "x"`, "1:6: undefined field 'sorce'"},
		"nested field":     {CompileBool, Event, "event.title == 'x' &&\n  event.resources[0].namespce == 'x'", "2:21: undefined field 'namespce'"},
		"optional field":   {CompileBool, Event, `event.?titel.orValue("") == ""`, "undefined field 'titel'"},
		"function":         {CompileBool, Event, `event.title.startWith("x")`, "1:22: undeclared reference to 'startWith'"},
		"types":            {CompileBool, Event, `event.title == 1`, "1:13: found no matching overload"},
		"not a bool":       {CompileBool, Event, `event.title`, "1:1: must yield a bool, but yields a string"},
		"not a string":     {CompileString, Event, `event.title == "x"`, "1:1: must yield a string, but yields a bool"},
		"syntax":           {CompileBool, Event, `event.title ==`, "1:15: Syntax error"},
		"regular expr":     {CompileBool, Event, `event.title.matches("(")`, "invalid matches argument"},
		"event elsewhere":  {CompileBool, Incident, `event.title == "x"`, "undeclared reference to 'event'"},
		"incident's field": {CompileBool, Incident, `incident.severty == "x"`, "undefined field 'severty'"},
		"no such scope":    {CompileBool, "Other", `true`, `it must be one of ["Event" "Incident" "Playbook" "Report" "Response" "Target" "Verify"]`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.compile(test.scope, test.source)
			checkError(t, err, test.wantError)
		})
	}
}

func TestIncident(t *testing.T) {
	incident := &v1alpha1.Incident{
		Spec:   v1alpha1.IncidentSpec{Title: "Shell", Severity: v1alpha1.SeverityHigh, Category: v1alpha1.CategoryIntrusion},
		Status: v1alpha1.IncidentStatus{Severity: v1alpha1.SeverityCritical, EventCount: 3, Priority: v1alpha1.PriorityP1},
	}
	variables, err := IncidentVariables(incident)
	if err != nil {
		t.Fatal(err)
	}
	for expression, want := range map[v1alpha1.Expression]bool{
		`incident.severity != "Critical"`: false,
		`incident.category == "Intrusion" && incident.eventCount > 2 && incident.priority == "P1"`: true,
		`incident.phase == "Assessment" && incident.title == "Shell"`:                              true,
		`incident.mode == "Live"`: true,
	} {
		program, err := CompileBool(Incident, expression)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := program.Bool(t.Context(), variables); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", expression, got, err, want)
		}
	}
}

func TestVerify(t *testing.T) {
	program, err := CompileBool(Verify, `objects.all(w, w.?status.?readyReplicas.orValue(0) == w.spec.replicas)`)
	if err != nil {
		t.Fatal(err)
	}
	deployment := func(replicas int64, ready any) map[string]any {
		status := map[string]any{}
		if ready != nil {
			status["readyReplicas"] = ready
		}
		return map[string]any{"spec": map[string]any{"replicas": replicas}, "status": status}
	}
	for name, test := range map[string]struct {
		objects   []map[string]any
		want      bool
		wantError string
	}{
		"all ready":   {objects: []map[string]any{deployment(3, int64(3)), deployment(0, nil)}, want: true},
		"one not":     {objects: []map[string]any{deployment(3, int64(2))}, want: false},
		"as a float":  {objects: []map[string]any{deployment(3, 3.0)}, want: true},
		"none there":  {want: true},
		"no replicas": {objects: []map[string]any{{"spec": map[string]any{}}}, wantError: "no such key: replicas"},
	} {
		t.Run(name, func(t *testing.T) {
			variables, err := VerifyVariables(&v1alpha1.Incident{}, test.objects)
			if err != nil {
				t.Fatal(err)
			}
			got, err := program.Bool(t.Context(), variables)
			checkError(t, err, test.wantError)
			if got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	program, err := CompileBool(Event, `event.title == "x"`)
	if err != nil {
		t.Fatal(err)
	}
	variables, err := EventVariables(falcoEvent(), "cart")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := program.Bool(ctx, variables); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestHostileSizes(t *testing.T) {
	event := falcoEvent()
	for i := range 64 {
		event.Spec.Attributes[strings.Repeat("k", i+1)] = v1alpha1.AttributeValue(strings.Repeat("x", 1024))
	}
	program, err := CompileBool(Event, `event.attributes.all(a, event.attributes.all(b, event.attributes[a].contains(event.attributes[b] + "y") == false))`)
	if err != nil {
		t.Fatal(err)
	}
	variables, err := EventVariables(event, "cart")
	if err != nil {
		t.Fatal(err)
	}
	_, err = program.Bool(t.Context(), variables)
	checkError(t, err, "it costs more than")
}

func TestCheckPlaybook(t *testing.T) {
	isolate := v1alpha1.PlaybookStep{Name: "isolate", Isolate: &v1alpha1.IsolateAction{}, When: `incident.severity == "High"`}
	revert := func(names ...v1alpha1.StepName) v1alpha1.PlaybookStep {
		return v1alpha1.PlaybookStep{Name: "release", Revert: &v1alpha1.RevertAction{Steps: names}}
	}
	phase := func(steps ...v1alpha1.PlaybookStep) v1alpha1.PlaybookPhase {
		return v1alpha1.PlaybookPhase{Steps: steps}
	}
	for name, test := range map[string]struct {
		playbook v1alpha1.ResponsePlaybookSpec
		want     []string
	}{
		"good": {playbook: v1alpha1.ResponsePlaybookSpec{
			Containment: phase(isolate), Recovery: phase(revert("isolate"), v1alpha1.PlaybookStep{
				Name: "healthy", Verify: &v1alpha1.VerifyAction{Expression: `objects.all(w, w.spec.replicas > 0)`}})}},
		"all problems": {
			playbook: v1alpha1.ResponsePlaybookSpec{
				Containment: phase(revert("isolate"), isolate),
				Eradication: phase(v1alpha1.PlaybookStep{Name: "isolate", When: `incidnt.severity == "High"`, Delete: &v1alpha1.DeleteAction{}}),
				Recovery: phase(v1alpha1.PlaybookStep{Name: "undo", Revert: &v1alpha1.RevertAction{Steps: []v1alpha1.StepName{"release"}}},
					v1alpha1.PlaybookStep{Name: "healthy", Verify: &v1alpha1.VerifyAction{Expression: `object.all(w, true)`}}),
			},
			want: []string{
				"containment step \"release\": `revert.steps` names \"isolate\": it must be a step that comes before this one",
				"eradication step \"isolate\": `name` must be unique in the playbook",
				"eradication step \"isolate\": `when` 1:1: undeclared reference to 'incidnt'",
				"recovery step \"undo\": `revert.steps` names \"release\": it must be a step that can be undone",
				"recovery step \"healthy\": `verify.expression` 1:1: undeclared reference to 'object'",
			},
		},
		"approval in a group": {
			playbook: v1alpha1.ResponsePlaybookSpec{Eradication: phase(
				v1alpha1.PlaybookStep{Name: "ok", Parallel: "g", Approve: &v1alpha1.ApproveAction{}},
				v1alpha1.PlaybookStep{Name: "delete", Parallel: "g", Target: v1alpha1.TargetPods, Delete: &v1alpha1.DeleteAction{}})},
			want: []string{"eradication step \"ok\": `parallel` must not be set for 'approve': the steps beside it would not wait for it; put the approval before the group, as a step of its own"},
		},
		"reserved name": {
			playbook: v1alpha1.ResponsePlaybookSpec{Recovery: phase(v1alpha1.PlaybookStep{Name: "adhoc-1", Wait: &v1alpha1.WaitAction{}})},
			want:     []string{"recovery step \"adhoc-1\": `name` must not be 'adhoc-' and a number: what people run beside the playbook is named so"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckPlaybook(&test.playbook)
			if (err == nil) != (len(test.want) == 0) {
				t.Fatalf("got %v", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got\n%v\nwant it to hold\n%s", err, want)
				}
			}
		})
	}
}

func checkError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("got the error %v", err)
	case want != "" && err == nil:
		t.Errorf("got no error, want %q", want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("got the error %q, want it to hold %q", err, want)
	}
}
