package action

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// playbookOf reads the steps of the containment, eradication and recovery as YAML.
func playbookOf(t *testing.T, text string) *v1alpha1.ResponsePlaybookSpec {
	t.Helper()
	spec := &v1alpha1.ResponsePlaybookSpec{}
	if err := sigsyaml.UnmarshalStrict([]byte(text), spec); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return spec
}

func TestCheckEvidence(t *testing.T) {
	const collectPods, deletePods = "{name: keep, target: Pods, collect: {}}", "{name: kill, target: Pods, delete: {}}"
	tests := map[string]struct {
		spec string
		// says is what the error says; empty means that there is none.
		says string
	}{
		"collects first":          {spec: "containment: {steps: [" + collectPods + "]}\neradication: {steps: [" + deletePods + "]}"},
		"nothing destroys":        {spec: "containment: {steps: [{name: cut, target: Pods, isolate: {}}]}"},
		"never collects":          {spec: "eradication: {steps: [" + deletePods + "]}", says: "step 'kill' (delete) may destroy evidence, and no step before it collects it: a step with `collect` and `target: Pods` must come before it"},
		"collects after":          {spec: "containment: {steps: [" + deletePods + ", " + collectPods + "]}", says: "step 'kill'"},
		"is allowed to":           {spec: "evidenceLoss: Allow\neradication: {steps: [" + deletePods + "]}"},
		"at the same time":        {spec: "containment: {steps: [{name: keep, parallel: a, target: Pods, collect: {}}, {name: kill, parallel: a, target: Pods, delete: {}}]}", says: "(step 'keep' runs at the same time)"},
		"a group before":          {spec: "containment: {steps: [{name: keep, parallel: a, target: Pods, collect: {}}, {name: kill, parallel: b, target: Pods, delete: {}}]}"},
		"collects only sometimes": {spec: "containment: {steps: [{name: keep, when: 'incident.eventCount > 1', target: Pods, collect: {}}, " + deletePods + "]}", says: "(step 'keep' may be skipped by its `when`)"},
		"under the same condition": {spec: "containment: {steps: [{name: keep, when: 'incident.eventCount > 1', target: Pods, collect: {}}, " +
			"{name: kill, when: 'incident.eventCount > 1', target: Pods, delete: {}}]}"},
		"pods before their workload":     {spec: "containment: {steps: [" + collectPods + ", {name: stop, target: Workloads, scale: {replicas: 0}}]}"},
		"the workload is not its pods":   {spec: "containment: {steps: [{name: keep, target: Workloads, collect: {}}, " + deletePods + "]}", says: "step 'kill'"},
		"a taint that evicts":            {spec: "containment: {steps: [{name: drive-out, target: Nodes, taint: {effect: NoExecute}}]}", says: "step 'drive-out' (taint)"},
		"a taint that does not":          {spec: "containment: {steps: [{name: mark, target: Nodes, taint: {}}]}"},
		"suspending what owns no pods":   {spec: `containment: {steps: [{name: halt, targets: '[{"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "namespace": "flux-system", "name": "shop"}]', suspend: {}}]}`},
		"suspending what may be a job":   {spec: "containment: {steps: [{name: halt, target: Workloads, suspend: {}}]}", says: "step 'halt' (suspend)"},
		"isolating with deletion":        {spec: "containment: {steps: [{name: cut, target: Pods, isolate: {survivingConnections: Delete}}]}", says: "step 'cut' (isolate)"},
		"isolating without":              {spec: "containment: {steps: [{name: cut, target: Pods, isolate: {survivingConnections: Report}}]}"},
		"the targets are said otherwise": {spec: "containment: {steps: [{name: kill, targets: 'resources', delete: {}}]}", says: "a step with `collect` and `targets`"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := CheckEvidence(playbookOf(t, test.spec))
			switch {
			case test.says == "" && err != nil:
				t.Errorf("CheckEvidence() = %v, want no error", err)
			case test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)):
				t.Errorf("CheckEvidence() = %v, want an error that says %q", err, test.says)
			}
		})
	}
}

func TestCheckTargets(t *testing.T) {
	const step = "containment: {steps: [{name: cut, targets: '%', isolate: {}}]}"
	tests := map[string]struct{ targets, says string }{
		"a pod":        {targets: `[{"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "cart"}]`},
		"a Secret":     {targets: `[{"apiVersion": "v1", "kind": "Secret", "namespace": "shop", "name": "cart"}]`, says: "step 'cut': `targets` names a Secret, but 'isolate' acts on no such object: it must be Pod"},
		"not told":     {targets: "resources"},
		"computed":     {targets: `[{"apiVersion": "v1", "kind": incident.title, "name": "x"}]`},
		"not an error": {targets: `[{"apiVersion": "v1"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := CheckTargets(playbookOf(t, strings.Replace(step, "%", test.targets, 1)))
			if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("CheckTargets() = %v, want %q", err, test.says)
			}
		})
	}
}

func TestUnreverted(t *testing.T) {
	const cut = "{name: cut, target: Pods, isolate: {}}"
	tests := map[string]struct {
		spec string
		want []string
	}{
		"named":           {spec: "containment: {steps: [" + cut + "]}\nrecovery: {steps: [{name: back, revert: {steps: [cut]}}]}"},
		"all":             {spec: "containment: {steps: [" + cut + "]}\nrecovery: {steps: [{name: back, revert: {}}]}"},
		"another":         {spec: "containment: {steps: [" + cut + ", {name: stop, target: Workloads, scale: {replicas: 0}}]}\nrecovery: {steps: [{name: back, revert: {steps: [stop]}}]}", want: []string{"cut"}},
		"before it":       {spec: "containment: {steps: [{name: back, revert: {}}, " + cut + "]}", want: []string{"cut"}},
		"cannot be":       {spec: "containment: {steps: [{name: kill, target: Pods, delete: {}}]}"},
		"what only reads": {spec: "containment: {steps: [{name: keep, target: Pods, collect: {}}]}"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, Unreverted(playbookOf(t, test.spec))); diff != "" {
				t.Errorf("Unreverted() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlaybookRights(t *testing.T) {
	tests := map[string]struct {
		spec string
		// want are the rights by step, each as text, but for those that are only useful.
		want map[string][]string
	}{
		"nothing to act on": {spec: "containment: {steps: [{name: call, task: {message: Call them.}}]}", want: map[string][]string{}},
		"pods": {
			spec: "containment: {steps: [{name: keep, target: Pods, collect: {logs: {}}}, {name: cut, target: Pods, isolate: {}}]}\neradication: {steps: [{name: kill, target: Pods, delete: {}}]}",
			want: map[string][]string{
				"":     {"get pods"},
				"keep": {"get pods", "list networkpolicies.networking.k8s.io", "list events", "get pods/log"},
				"cut":  {"get, list, create, patch, delete networkpolicies.networking.k8s.io", "get, patch pods"},
				"kill": {"get, delete pods"},
			},
		},
		"less is asked for": {
			spec: "containment: {steps: [{name: keep, target: Pods, collect: {objects: None, events: Exclude, logs: {}}}]}",
			want: map[string][]string{"": {"get pods"}, "keep": {"get pods", "get pods/log"}},
		},
		"run by hand": {
			spec: "adHoc: [cordon, patch, approve]\ncontainment: {steps: [{name: call, task: {message: Call them.}}]}",
			want: map[string][]string{"cordon": {"get pods", "get nodes", "get, patch nodes"}, "patch": {"get on what a person has 'patch' do"}},
		},
		"by hand on pods or workloads": {
			spec: "adHoc: [evict]\ncontainment: {steps: [{name: call, task: {message: Call them.}}]}",
			want: map[string][]string{"evict": {"get pods", "get pods", "create pods/eviction"}},
		},
		"objects that are named": {
			spec: `containment: {steps: [{name: kill, targets: '[{"apiVersion": "v1", "kind": "Secret", "namespace": "shop", "name": "key"}]', delete: {}}]}`,
			want: map[string][]string{"kill": {"get, delete secrets"}},
		},
		"objects that only the run will tell": {
			spec: "containment: {steps: [{name: kill, targets: resources, delete: {}}]}",
			want: map[string][]string{"kill": {"get on what `targets` of step 'kill' yields, and what step 'kill' does to it"}},
		},
		"a condition": {
			spec: `recovery: {steps: [{name: well, targets: '[{"apiVersion": "v1", "kind": "Node", "name": "a"}]', verify: {expression: "true"}}]}`,
			want: map[string][]string{"well": {"get nodes"}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := map[string][]string{}
			for _, step := range PlaybookRights(playbookOf(t, test.spec)) {
				for _, right := range step.Rights {
					if right.Need != Useful {
						got[step.Step] = append(got[step.Step], right.String())
					}
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("rights (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNamedKinds(t *testing.T) {
	const secret, role = `{"apiVersion": "v1", "kind": "Secret", "name": "a"}`, `{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": "a"}`
	tests := map[string]struct {
		expression string
		want       []string
	}{
		"one object":           {secret, []string{"Secret"}},
		"a list":               {"[" + secret + ", " + role + ", " + secret + "]", []string{"Secret", "ClusterRole (rbac.authorization.k8s.io/v1)"}},
		"lists put together":   {"[" + secret + "] + [" + role + "]", []string{"Secret", "ClusterRole (rbac.authorization.k8s.io/v1)"}},
		"one or the other":     {"incident.eventCount > 1 ? [" + secret + "] : [" + role + "]", []string{"Secret", "ClusterRole (rbac.authorization.k8s.io/v1)"}},
		"made of each":         {`resources.map(r, {"apiVersion": "v1", "kind": "Secret", "name": r.name})`, []string{"Secret"}},
		"made of some":         {`resources.filter(r, r.kind == "Pod").map(r, {"apiVersion": "v1", "kind": "Secret", "name": r.name})`, []string{"Secret"}},
		"made of some at once": {`resources.map(r, r.kind == "Pod", {"apiVersion": "v1", "kind": "Secret", "name": r.name})`, []string{"Secret"}},
		"an object in another": {`{"apiVersion": "v1", "kind": "Secret", "metadata": {"ownerReferences": [{"kind": "Pod"}]}}`, []string{"Secret"}},
		"nothing":              {`[]`, nil},
		"the resources":        {`resources`, nil},
		"some resources":       {`resources.filter(r, r.kind == "Secret")`, nil},
		"partly elsewhere":     {"[" + secret + "] + resources", nil},
		"a computed kind":      {`[{"apiVersion": "v1", "kind": incident.title, "name": "a"}]`, nil},
		"no kind":              {`[{"name": "a"}]`, nil},
		"not an expression":    {`[`, nil},
		"a text":               {`"Secret"`, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, kind := range namedKinds(v1alpha1.Expression(test.expression)) {
				got = append(got, kindInWords(kind))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("namedKinds(%s) (-want +got):\n%s", test.expression, diff)
			}
		})
	}
}
