package manifest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const several = `# a comment
apiVersion: v1
kind: ConfigMap
metadata: {name: first}
---   # the next
apiVersion: firebreak.dev/v1alpha1
kind: SecurityEvent
metadata:
  name: lost-laptop
spec:
  source: {kind: Human}
  attributes:
    proc.name: sh
  resources:
  - name: cart
    kind: Pod
  - name: web
---
just: a value
---
---
apiVersion: v1
kind: List
items:
- apiVersion: firebreak.dev/v1alpha1
  kind: Incident
  metadata: {name: inner, namespace: security}
`

func read(t *testing.T, content string) *Set {
	t.Helper()
	set, err := Read([]string{"-"}, strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestRead(t *testing.T) {
	set := read(t, several)
	var got []string
	for _, object := range set.Objects {
		got = append(got, fmt.Sprintf("%s %s %s/%s", object.Start(), object.Kind, object.Namespace, object.Name))
	}
	want := []string{"-:2 ConfigMap /first", "-:6 SecurityEvent /lost-laptop", "-:25 Incident security/inner"}
	if diff := cmp.Diff(want, got); diff != "" || set.Others != 1 || set.Files != 1 || len(set.Problems) > 0 {
		t.Errorf("others %d, files %d, problems %v; objects (-want +got):\n%s", set.Others, set.Files, set.Problems, diff)
	}
	for path, line := range map[string]int{
		"": 6, "spec": 10, "spec.source.kind": 11, "spec.attributes[proc.name]": 13, "spec.resources[1].name": 17,
		"spec.resources[web].name": 17, "spec.resources[0].apiVersion": 15, "spec.resources[7]": 14, "spec.title": 10, "nothing": 6,
	} {
		if got := set.Objects[1].At(path).Line; got != line {
			t.Errorf("`%s` is in line %d, want %d", path, got, line)
		}
	}
}

func TestWhatIsNoYAML(t *testing.T) {
	for content, want := range map[string]string{
		"a: 1\n---\na: {b: 1\n":         "-:2: this is not YAML: ",
		"a: 1\n---\nb: 1\nb: 2\n":       "-:4: this is not YAML: ",
		"a: *nothing\n":                 "-:1: this is not YAML: unknown anchor",
		"a: 1\n---\nb: \"\\q\"\nc: 1\n": "-:3: this is not YAML: ",
		"a: {{ .Values.a }}\n":          "-:1: this is not YAML: invalid map key: map[interface {}]interface {}{\".Values.a\":interface {}(nil)}. A template must be rendered first",
	} {
		set := read(t, content)
		if len(set.Problems) != 1 {
			t.Fatalf("%q: problems are %v, want one", content, set.Problems)
		}
		if got := set.Problems[0].At.String() + ": " + set.Problems[0].Message; !strings.HasPrefix(got, want) {
			t.Errorf("%q: got %q, want %q", content, got, want)
		}
	}
	// A thousand million values in a few lines.
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'j'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 10), ","))
	}
	if set := read(t, bomb); len(set.Problems) != 1 {
		t.Errorf("problems are %v, want that it is refused", set.Problems)
	}
}

func TestReadDirectories(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{
		"a.yaml": someObject, "sub/b.yml": someObject, "sub/policy.json": someObject, "notes.txt": someObject, ".git/c.yaml": someObject, ".hidden.yaml": someObject,
		// What is JSON and no object: kubectl would not take it, and nobody means it to.
		"package.json": `{"name": "web"}`, "tsconfig.json": "{ // how it is built\n}", "dashboard.json": `{"kind": "dashboard", "panels": []}`,
	})
	set, err := Read([]string{root, filepath.Join(root, "a.yaml"), filepath.Join(root, "sub", "policy.json")}, nil)
	if err != nil || set.Files != 6 || len(set.Objects) != 3 || set.Others != 3 || len(set.Problems) > 0 {
		t.Errorf("read %d files with %d objects and %d others, %v, %v, want a.yaml, b.yml and policy.json once, and three others", set.Files, len(set.Objects), set.Others, set.Problems, err)
	}
	if _, err := Read([]string{filepath.Join(root, "none")}, nil); err == nil {
		t.Error("a path that is not there must be an error")
	}
}

const someObject = `{"apiVersion": "v1", "kind": "X"}`

func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReadLinks: what is applied by a link must not be passed over, and no link leads on for ever.
func TestReadLinks(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"elsewhere/one.yaml": someObject, "elsewhere/deep/two.yaml": someObject, "manifests/three.yaml": someObject, "data/v1": someObject})
	for name, leadsTo := range map[string]string{
		"link": "manifests", "manifests/four.yaml": "../data/v1", "manifests/shared": "../elsewhere", "manifests/again.yaml": "three.yaml",
		"manifests/up": "..", "manifests/self": ".", "elsewhere/deep/back": "../../manifests", "manifests/gone.yaml": "nowhere", "manifests/gone": "nowhere",
	} {
		if err := os.Symlink(leadsTo, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{filepath.Join(root, "link"), filepath.Join(root, "manifests") + "/"} {
		set, err := Read([]string{path}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, object := range set.Objects {
			got = append(got, strings.TrimPrefix(object.Start().File, filepath.Clean(path)))
		}
		if diff := cmp.Diff([]string{"/again.yaml", "/four.yaml", "/shared/deep/two.yaml", "/shared/one.yaml"}, got); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", path, diff)
		}
		want := []Problem{{At: Position{File: filepath.Join(path, "gone.yaml"), Line: 1}, Message: "the symbolic link leads nowhere: it must lead to a file"}}
		if diff := cmp.Diff(want, set.Problems); diff != "" {
			t.Errorf("%s: problems (-want +got):\n%s", path, diff)
		}
	}
}

// TestReadWhereOneIs: a folder is the same by whatever name, and each object in it is there once.
func TestReadWhereOneIs(t *testing.T) {
	folder := t.TempDir()
	t.Chdir(folder)
	if err := os.Mkdir("policies", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("policies", "one.yaml"), []byte("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"self": filepath.Join(folder, "policies"), "up": "../.."} {
		if err := os.Symlink(to, filepath.Join("policies", name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, paths := range [][]string{{"."}, {"./"}, {"policies"}, {"policies", folder}, {"policies/self", "policies/one.yaml"}} {
		set, err := Read(paths, nil)
		if err != nil || len(set.Objects) != 1 || len(set.Problems) > 0 {
			t.Errorf("%q: %d objects, problems %v, error %v; want the one", paths, len(set.Objects), set.Problems, err)
		}
	}
}

func TestWhatIsNoText(t *testing.T) {
	for name, content := range map[string]string{"UTF-16": "\xff\xfea\x00:\x00", "UTF-16 without a mark": "a\x00:\x00 \x001\x00", "Latin 1": "a: caf\xe9\n"} {
		set := read(t, content)
		if set.Files != 1 || len(set.Problems) != 1 || !strings.Contains(set.Problems[0].Message, "must be text in UTF-8") {
			t.Errorf("%s: %d files, problems %v", name, set.Files, set.Problems)
		}
	}
	if set := read(t, "\uFEFF"+someObject); len(set.Objects) != 1 || len(set.Problems) > 0 {
		t.Errorf("a mark of UTF-8 must not matter: %v", set.Problems)
	}
}

// TestReadJSON: kubectl takes objects that stand one after the other.
func TestReadJSON(t *testing.T) {
	set := read(t, someObject+"\n"+someObject+`{"apiVersion": "v1",`+"\n"+`"kind": "Y"} {"a": 1}`+"\n---\n"+someObject+"\n# over\n---\n{apiVersion: v1, kind: Z} # no JSON\n")
	var got []string
	for _, object := range set.Objects {
		got = append(got, object.Start().String()+" "+object.Kind)
	}
	if diff := cmp.Diff([]string{"-:1 X", "-:2 X", "-:2 Y", "-:5 X", "-:8 Z"}, got); diff != "" || set.Others != 1 || len(set.Problems) > 0 {
		t.Errorf("others %d, problems %v; objects (-want +got):\n%s", set.Others, set.Problems, diff)
	}
	if set := read(t, someObject+"\n,"); len(set.Objects) != 1 || len(set.Problems) != 1 {
		t.Errorf("what comes after an object must be said: %v", set.Problems)
	}
}

// TestWithoutKind: what is of Firebreak's group and does not say what it is was meant for it.
func TestWithoutKind(t *testing.T) {
	set := read(t, "apiVersion: firebreak.dev/v1alpha1\nmetadata: {name: a}\n")
	if len(set.Objects) != 1 {
		t.Fatalf("objects are %v, others %d", set.Objects, set.Others)
	}
	faults, err := set.Objects[0].Validate(t.Context())
	if err != nil || len(faults) != 1 || !strings.HasPrefix(faults[0].Message, "`kind` must be set: it must be one of ClassificationPolicy, ") {
		t.Errorf("faults are %v, %v", faults, err)
	}
	set = read(t, `apiVersion: firebreak.dev/v1alpha1
kind: ClassificationPolicyList
items:
- {metadata: {name: a, namespace: security}}
- {apiVersion: v1, kind: Secret, metadata: {name: b}}
- {apiVersion: firebreak.dev/v1alpha1}
---
apiVersion: v1
kind: List
items: [{metadata: {name: c}}]
`)
	var got []string
	for _, object := range set.Objects {
		got = append(got, fmt.Sprint(object.APIVersion, " ", object.Kind, " ", object.Content["kind"]))
	}
	if diff := cmp.Diff([]string{"firebreak.dev/v1alpha1 ClassificationPolicy ClassificationPolicy", "v1 Secret Secret", "firebreak.dev/v1alpha1  <nil>"}, got); diff != "" || set.Others != 1 {
		t.Errorf("others %d, objects (-want +got):\n%s", set.Others, diff)
	}
}

func TestValidate(t *testing.T) {
	const right = `apiVersion: firebreak.dev/v1alpha1
kind: ClassificationPolicy
metadata: {name: runtime}
spec:
  priority: 1
  rules:
  - {name: noise, match: 'true', outcome: Dismiss}
`
	for name, test := range map[string]struct{ old, now, want string }{
		"right":               {"", "", ""},
		"unknown":             {"match:", "mach:", "spec.rules[0].mach: there is no field `spec.rules[0].mach`: did you mean `match`?\nspec.rules[0].match: `spec.rules[0].match` must be set"},
		"unknown, not near":   {"priority", "x", "spec.x: there is no field `spec.x`: it must be one of `priority`, `rules`"},
		"case":                {"priority", "Priority", "spec.Priority: there is no field `spec.Priority`: did you mean `priority`?"},
		"metadata":            {"{name: runtime}", "{name: runtime, label: {}}", "metadata.label: there is no field `metadata.label`"},
		"name":                {"name: runtime", "name: Run_time", "metadata.name: `metadata.name`: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"},
		"a name to make up":   {"name: runtime", "generateName: runtime-", ""},
		"no such prefix":      {"name: runtime", "generateName: Run-", "metadata.generateName: `metadata.generateName`: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"},
		"no name":             {"{name: runtime}", "{}", "metadata.name: `metadata.name` must be set, or for 'kubectl create' `metadata.generateName`"},
		"labels":              {"name: runtime}", "name: runtime, labels: {a: 1}}", "metadata.labels: `metadata.labels` has a value of type number, which must be text: it must be in quotes"},
		"enumeration":         {"Dismiss", "Drop", "spec.rules[0].outcome: `spec.rules[0].outcome` must be one of 'Promote', 'Dismiss', 'Defer', is 'Drop'"},
		"type":                {"priority: 1", "priority: high", "spec.priority: `spec.priority` must be of type integer"},
		"bound":               {"priority: 1", "priority: 1000001", "spec.priority: `spec.priority` must be less than or equal to 1000000"},
		"pattern":             {"name: noise", "name: Noise", "spec.rules[0].name: `spec.rules[0].name` must match '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$', is 'Noise'"},
		"a rule of CEL":       {"Dismiss}", "Promote}", "spec.rules[0]: `spec.rules[0]`: `incident` must be set when `outcome` is 'Promote', and `incident`, `correlate` and `threshold` must not be set otherwise"},
		"version":             {"v1alpha1", "v1", "apiVersion: `apiVersion` must be 'firebreak.dev/v1alpha1', is 'firebreak.dev/v1'"},
		"kind":                {"ClassificationPolicy", "ClasificationPolicy", "kind: `kind` 'ClasificationPolicy' is none of Firebreak's: it must be one of ClassificationPolicy, Decision, Evidence, Incident, LessonLearned, ResponsePlan, ResponsePlaybook, SecurityEvent; did you mean 'ClassificationPolicy'?"},
		"missing":             {"  priority: 1\n  rules:\n  - {name: noise, match: 'true', outcome: Dismiss}\n", "  priority: 1\n", "spec.rules: `spec.rules` must be set"},
		"twice":               {"Dismiss}\n", "Dismiss}\n  - {name: noise, match: 'false', outcome: Defer}\n", "spec.rules[1]: `spec.rules[1]` must not be there twice: `name` 'noise'"},
		"of a type and a set": {"Dismiss", "no", "spec.rules[0].outcome: `spec.rules[0].outcome` must be of type string"},
		"yes is true in YAML": {"priority: 1", "priority: yes", "spec.priority: `spec.priority` must be of type int32"},
	} {
		t.Run(name, func(t *testing.T) {
			object := read(t, strings.Replace(right, test.old, test.now, 1)).Objects[0]
			faults, err := object.Validate(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for _, fault := range faults {
				lines = append(lines, fault.Path+": "+fault.Message)
			}
			if diff := cmp.Diff(test.want, strings.Join(lines, "\n")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add(several)
	f.Add("a: &a [*a]\n")
	f.Add(someObject + someObject + "{")
	f.Add("kind: EventList\napiVersion: firebreak.dev/v1alpha1\nitems: [&a {metadata: {name: a}}, *a]\n")
	f.Fuzz(func(t *testing.T, content string) {
		set, err := Read([]string{"-"}, strings.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range set.Objects {
			object.At("spec.rules[0].match")
		}
	})
}

// TestNamesOfOddPaths: the keys of a hostile manifest are anything.
func TestNamesOfOddPaths(t *testing.T) {
	for path, want := range map[string]string{"": "", "[": "[", "a[": "a.[", "a[b": "a.[b", "a[0].b": "a.[].b", "a.[": "a.["} {
		if got := strings.Join(Names(path), "."); got != want {
			t.Errorf("Names(%q) = %q, want %q", path, got, want)
		}
	}
}
