package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func TestActionToRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "step.yaml")
	mustDo(t, os.WriteFile(file, []byte("target: Nodes\ncordon: {}\n"), 0o600))
	broken := filepath.Join(t.TempDir(), "broken.yaml")
	mustDo(t, os.WriteFile(broken, []byte("target: [\n"), 0o600))
	big := filepath.Join(t.TempDir(), "big.yaml")
	mustDo(t, os.WriteFile(big, []byte("# "+strings.Repeat("x", maxStepFile)), 0o600))
	for name, test := range map[string]struct {
		flags     runActionFlags
		args      []string
		want      string
		wantError string
	}{
		"by name":           {runActionFlags{target: "pods"}, []string{"isolate"}, `{"isolate":{},"target":"Pods"}`, ""},
		"without a target":  {runActionFlags{}, []string{"http"}, `{"http":{}}`, ""},
		"by a file":         {runActionFlags{file: file}, nil, `{"cordon":{},"target":"Nodes"}`, ""},
		"by the input":      {runActionFlags{file: "-"}, nil, `{"collect":{}}`, ""},
		"nothing":           {runActionFlags{}, nil, "", "nothing says what to run"},
		"both":              {runActionFlags{file: file}, []string{"isolate"}, "", "must not be given with -f"},
		"no such target":    {runActionFlags{target: "Boats"}, []string{"isolate"}, "", `--target "Boats" is not known: it must be one of Pods`},
		"no such file":      {runActionFlags{file: file + "x"}, nil, "", "the step cannot be read"},
		"a file of no YAML": {runActionFlags{file: broken}, nil, "", "the step is not YAML"},
		"a file too long":   {runActionFlags{file: big}, nil, "", "it must be at most 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &session{IOStreams: genericiooptions.IOStreams{In: strings.NewReader("collect: {}")}}
			got, err := test.flags.action(s, test.args)
			if (err != nil) != (test.wantError != "") || err != nil && !strings.Contains(err.Error(), test.wantError) {
				t.Fatalf("got the error %v, want %q", err, test.wantError)
			}
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Errorf("action (-want +got):\n%s", diff)
			}
		})
	}
}

func TestResourceToAdd(t *testing.T) {
	for name, test := range map[string]struct {
		flags      addResourceFlags
		kind, name string
		want       v1alpha1.ResourceReference
		wantError  string
	}{
		"a pod":            {addResourceFlags{uid: "u"}, "pod", "shop/cart", v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "cart", UID: "u"}, ""},
		"a node":           {addResourceFlags{}, "Node", "node-1", v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Node", Name: "node-1"}, ""},
		"a kind not known": {addResourceFlags{}, "Boat", "x", v1alpha1.ResourceReference{}, `the API version of "Boat" is not known`},
		"its version said": {addResourceFlags{apiVersion: "boats.dev/v1"}, "Boat", "x", v1alpha1.ResourceReference{APIVersion: "boats.dev/v1", Kind: "Boat", Name: "x"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := test.flags.resource(test.kind, test.name)
			if (err != nil) != (test.wantError != "") || err != nil && !strings.Contains(err.Error(), test.wantError) {
				t.Fatalf("got the error %v, want %q", err, test.wantError)
			}
			if diff := cmp.Diff(test.want, got); err == nil && diff != "" {
				t.Errorf("resource (-want +got):\n%s", diff)
			}
		})
	}
}
