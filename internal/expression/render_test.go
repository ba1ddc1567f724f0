package expression

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func valuesOf(variables ...v1alpha1.NamedExpression) *Values {
	return (&Cache{}).Values(&v1alpha1.ResponsePlaybookSpec{Variables: variables})
}

func valuesIncident() *v1alpha1.Incident {
	return &v1alpha1.Incident{
		ObjectMeta: metav1.ObjectMeta{Namespace: "security", Name: "inc-1"},
		Spec:       v1alpha1.IncidentSpec{Title: "Shell", Severity: v1alpha1.SeverityHigh, Category: v1alpha1.CategoryIntrusion},
		Status: v1alpha1.IncidentStatus{
			Resources: []v1alpha1.IncidentResource{
				{ResourceReference: v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "cart-1", UID: "u-1", Node: "n1"}},
				{ResourceReference: v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Node", Name: "n1"}},
			},
			Steps: []v1alpha1.IncidentStep{
				{Name: "ask-siem", State: v1alpha1.StepSucceeded, Outputs: []v1alpha1.StepOutput{{Name: "verdict", Value: ptr.To("bad")}, {Name: "empty"}}},
				{Name: "later", State: v1alpha1.StepPending},
			},
		},
	}
}

func TestTargets(t *testing.T) {
	many := `[` + strings.Repeat(`{"apiVersion":"v1","kind":"Pod","name":"a"},`, MaxTargets+1) + `]`
	for name, test := range map[string]struct {
		expression v1alpha1.Expression
		want       []v1alpha1.ResourceReference
		wantError  string
	}{
		"a filter of resources": {
			expression: `resources.filter(r, r.kind == "Pod")`,
			want:       []v1alpha1.ResourceReference{{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "cart-1", UID: "u-1"}},
		},
		"made": {
			expression: `resources.filter(r, r.kind == "Pod").map(r, {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": r.namespace, "name": "cart"})`,
			want:       []v1alpha1.ResourceReference{{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "cart"}},
		},
		"twice": {
			expression: `[{"apiVersion": "v1", "kind": "Node", "name": "n1"}, {"apiVersion": "v1", "kind": "Node", "name": "n1"}]`,
			want:       []v1alpha1.ResourceReference{{APIVersion: "v1", Kind: "Node", Name: "n1"}},
		},
		"none":                  {expression: `[]`, want: []v1alpha1.ResourceReference{}},
		"no list":               {expression: `resources[0]`, wantError: "must yield a list of objects"},
		"no object":             {expression: `[1]`, wantError: "element 0 must be an object"},
		"no name":               {expression: `[{"apiVersion": "v1", "kind": "Node"}]`, wantError: "element 0: `name` must be set"},
		"path in the name":      {expression: `[{"apiVersion": "v1", "kind": "Node", "name": "../x"}]`, wantError: "element 0: `name` must be such as"},
		"path in the namespace": {expression: `[{"apiVersion": "v1", "kind": "Pod", "name": "x", "namespace": "a/b"}]`, wantError: "element 0: `namespace` must be such as"},
		"number":                {expression: `[{"apiVersion": "v1", "kind": "Node", "name": 1}]`, wantError: "`name` must be a string, but is a number"},
		"another field":         {expression: `[{"apiVersion": "v1", "kind": "Node", "name": "x", "nmespace": "shop"}]`, wantError: `has a field "nmespace"`},
		"too many":              {expression: v1alpha1.Expression(strings.ReplaceAll(many, ",]", "]")), wantError: "must yield at most 128 objects, but has yielded 129"},
		"object":                {expression: `[object]`, wantError: "undeclared reference to 'object'"},
		"optional":              {expression: `[{"apiVersion": "v1", "kind": "Node", "name": "x", "namespace": optional.none()}]`, wantError: "optional.none()"},
		"cost":                  {expression: `[0,1,2,3,4,5,6,7,8,9].map(a, [0,1,2,3,4,5,6,7,8,9].map(b, [0,1,2,3,4,5,6,7,8,9].map(c, [0,1,2,3,4,5,6,7,8,9].map(d, [0,1,2,3,4,5,6,7,8,9].filter(e, [0,1,2,3,4,5,6,7,8,9].all(f, [0,1,2,3,4,5,6,7,8,9].all(g, a+b+c+d+e+f+g > 100)))))))`, wantError: "costs more than"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := valuesOf().Targets(t.Context(), valuesIncident(), test.expression)
			checkError(t, err, test.wantError)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("targets (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValues(t *testing.T) {
	variables := []v1alpha1.NamedExpression{
		{Name: "shop", Expression: `resources[0].namespace`},
		{Name: "label", Expression: `{"in": variables.shop}`},
		{Name: "broken", Expression: `resources[7].name`},
	}
	target := map[string]any{"metadata": map[string]any{"name": "cart"}, "spec": map[string]any{"replicas": int64(3)}}
	for name, test := range map[string]struct {
		expression v1alpha1.Expression
		want       any
		wantError  string
	}{
		"object":               {expression: `{"spec": {"replicas": object.spec.replicas - 1, "half": 0.5, "list": [true, null]}}`, want: map[string]any{"spec": map[string]any{"replicas": int64(2), "half": 0.5, "list": []any{true, nil}}}},
		"variables":            {expression: `variables.label`, want: map[string]any{"in": "shop"}},
		"the whole object":     {expression: `object`, want: target},
		"steps":                {expression: `steps["ask-siem"].outputs.verdict + steps.later.state + steps["ask-siem"].outputs.empty`, want: "badPending"},
		"incident":             {expression: `incident.name + incident.namespace + incident.severity`, want: "inc-1securityHigh"},
		"time":                 {expression: `timestamp("2026-11-21T16:00:00Z")`, want: "2026-11-21T16:00:00Z"},
		"broken variable":      {expression: `variables.broken`, wantError: "variable `broken` index out of bounds: 7"},
		"absent output":        {expression: `steps.later.outputs.verdict`, wantError: "no such key: verdict"},
		"no such step field":   {expression: `steps.later.output`, wantError: "undefined field 'output'"},
		"bytes":                {expression: `b"x"`, wantError: "which JSON does not have"},
		"closed from within":   {expression: `1) + (2`, wantError: "Syntax error"},
		"ends in a comment":    {expression: "\"a\" // b", want: "a"},
		"typo, with its place": {expression: "{'a': 1,\n 'b': objct}", wantError: "2:7: undeclared reference to 'objct'"},
		"keys":                 {expression: `{1: "x"}`, wantError: "keys must be strings"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := valuesOf(variables...).Value(t.Context(), valuesIncident(), test.expression, target)
			checkError(t, err, test.wantError)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("value (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValuesShareNothing(t *testing.T) {
	target := map[string]any{"spec": map[string]any{"replicas": int64(3)}}
	got, err := valuesOf().Object(t.Context(), valuesIncident(), `object`, target)
	if err != nil {
		t.Fatal(err)
	}
	got["spec"].(map[string]any)["replicas"] = int64(0)
	if target["spec"].(map[string]any)["replicas"] != int64(3) {
		t.Error("what an expression yields must be a copy of what it has seen")
	}
}

func TestText(t *testing.T) {
	for expression, wantError := range map[v1alpha1.Expression]string{
		`incident.title`: "",
		`1`:              "must yield a string, but has yielded a number",
		`"a\u0000b"`:     "without NUL",
		`["` + v1alpha1.Expression(strings.Repeat("x", 1000)) + `"].map(x, [x,x,x,x,x,x,x].join("")).map(x, [x,x,x,x,x,x,x].join(""))[0]`: "must yield at most 32768 bytes",
	} {
		_, err := valuesOf().Text(t.Context(), valuesIncident(), expression, nil)
		checkError(t, err, wantError)
	}
}

func TestFromResponse(t *testing.T) {
	response := map[string]any{"status": int64(200), "headers": map[string]any{"x-id": "7"}, "body": map[string]any{"items": []any{"a", "b"}}}
	for expression, want := range map[v1alpha1.Expression]any{
		`response.body.items[1]`:          "b",
		`string(response.status)`:         "200",
		`response.status`:                 int64(200),
		`response.body.items`:             []any{"a", "b"},
		`response.headers["x-id"]`:        "7",
		`response.body.?none.orValue("")`: "",
	} {
		got, err := valuesOf().FromResponse(t.Context(), expression, response)
		if err != nil || !cmp.Equal(want, got) {
			t.Errorf("%s: %#v, %v; want %#v", expression, got, err, want)
		}
	}
}

func TestCheckPlaybookValues(t *testing.T) {
	step := func(change func(*v1alpha1.PlaybookStep)) v1alpha1.PlaybookStep {
		step := v1alpha1.PlaybookStep{Name: "second", Target: v1alpha1.TargetPods}
		change(&step)
		return step
	}
	named := func(expression v1alpha1.Expression) []v1alpha1.NamedExpression {
		return []v1alpha1.NamedExpression{{Name: "VALUE", Expression: expression}}
	}
	for name, test := range map[string]struct {
		step      v1alpha1.PlaybookStep
		wantError string
	}{
		"right": {step: step(func(s *v1alpha1.PlaybookStep) {
			s.Target, s.Targets = "", `resources.filter(r, r.namespace == variables.shop && steps.first.outputs.x == "y")`
			s.Job = &v1alpha1.JobAction{Environment: named(`object.metadata.name`)}
		})},
		"targets":             {step: step(func(s *v1alpha1.PlaybookStep) { s.Targets = `resorces` }), wantError: "containment step \"second\": `targets` 1:1: undeclared reference to 'resorces'"},
		"subject":             {step: step(func(s *v1alpha1.PlaybookStep) { s.RevokeAccess = &v1alpha1.RevokeAccessAction{Subject: `{`} }), wantError: "`revokeAccess.subject` 1:"},
		"patch":               {step: step(func(s *v1alpha1.PlaybookStep) { s.Patch = &v1alpha1.PatchAction{Expression: `objct`} }), wantError: "`patch.expression` 1:1"},
		"apply has no object": {step: step(func(s *v1alpha1.PlaybookStep) { s.Apply = &v1alpha1.ApplyAction{Expression: `object`} }), wantError: "`apply.expression` 1:1: undeclared reference to 'object'"},
		"environment":         {step: step(func(s *v1alpha1.PlaybookStep) { s.Job = &v1alpha1.JobAction{Environment: named(`1`)} }), wantError: "`job.environment[VALUE].expression` 1:1: must yield a string"},
		"environment, no target": {step: step(func(s *v1alpha1.PlaybookStep) {
			s.Target = ""
			s.Job = &v1alpha1.JobAction{Environment: named(`object.kind`)}
		}), wantError: "undeclared reference to 'object'"},
		"body":                      {step: step(func(s *v1alpha1.PlaybookStep) { s.HTTP = &v1alpha1.HTTPAction{Body: `response`} }), wantError: "`http.body` 1:1"},
		"outputs":                   {step: step(func(s *v1alpha1.PlaybookStep) { s.HTTP = &v1alpha1.HTTPAction{Outputs: named(`incident`)} }), wantError: "`http.outputs[VALUE].expression` 1:1"},
		"title":                     {step: step(func(s *v1alpha1.PlaybookStep) { s.Notify = &v1alpha1.NotifyAction{Title: `1`} }), wantError: "`notify.title` 1:1: must yield a string"},
		"message has no object":     {step: step(func(s *v1alpha1.PlaybookStep) { s.Notify = &v1alpha1.NotifyAction{Message: `object.kind`} }), wantError: "`notify.message` 1:1: undeclared reference to 'object'"},
		"no such variable":          {step: step(func(s *v1alpha1.PlaybookStep) { s.Targets = `[variables.shp]` }), wantError: "uses `variables.shp`: it must be one of the playbook's `variables`, which are [\"shop\"]"},
		"no such variable, indexed": {step: step(func(s *v1alpha1.PlaybookStep) { s.Targets = `[variables["shp"]]` }), wantError: "uses `variables.shp`"},
		"itself":                    {step: step(func(s *v1alpha1.PlaybookStep) { s.Targets = `[steps["second"].state]` }), wantError: "uses `steps` of \"second\": it must be a step that comes before"},
	} {
		t.Run(name, func(t *testing.T) {
			playbook := &v1alpha1.ResponsePlaybookSpec{
				Variables:   []v1alpha1.NamedExpression{{Name: "shop", Expression: `resources[0].namespace`}},
				Containment: v1alpha1.PlaybookPhase{Steps: []v1alpha1.PlaybookStep{{Name: "first", Wait: &v1alpha1.WaitAction{}}, test.step}},
			}
			checkError(t, CheckPlaybook(playbook), test.wantError)
		})
	}
	for expression, want := range map[v1alpha1.Expression]string{
		`variables.b`:   "`variables[a].expression` uses `variables.b`: it must be one of the playbook's `variables`, and there is none before",
		`steps.x.state`: "must not read `steps`",
	} {
		checkError(t, CheckPlaybook(&v1alpha1.ResponsePlaybookSpec{Variables: []v1alpha1.NamedExpression{{Name: "a", Expression: expression}, {Name: "b", Expression: "1"}}}), want)
	}
}
