package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// asPlugin makes the test's binary the plugin.
const asPlugin = "FIREBREAK_TEST_AS_PLUGIN"

// The example workflow passes on what it is written for, and fails on what is wrong.
func TestExampleWorkflow(t *testing.T) {
	config := filepath.Join("..", "..", "config", "samples")
	text, err := os.ReadFile(filepath.Join(config, "ci", "firebreak.yaml"))
	mustDo(t, err)
	var workflow struct {
		Env  map[string]string `json:"env"`
		Jobs map[string]struct {
			Steps []struct {
				Name string `json:"name"`
				Run  string `json:"run"`
			} `json:"steps"`
		} `json:"jobs"`
	}
	mustDo(t, yaml.Unmarshal(text, &workflow))
	scripts := map[string]string{}
	for _, step := range workflow.Jobs["check"].Steps {
		scripts[step.Name] = step.Run
	}

	repository, bin := t.TempDir(), t.TempDir()
	mustDo(t, os.CopyFS(filepath.Join(repository, workflow.Env["MANIFESTS"]), os.DirFS(filepath.Join(config, "demo"))))
	mustDo(t, os.CopyFS(filepath.Join(repository, "tests"), os.DirFS(filepath.Join(config, "ci", "tests"))))
	binary, err := os.Executable()
	mustDo(t, err)
	mustDo(t, os.WriteFile(filepath.Join(bin, "kubectl-firebreak"), []byte("#!/bin/sh\n"+asPlugin+"=1 exec '"+binary+"' \"$@\"\n"), 0o755))
	script := func(name string) (string, bool) {
		t.Helper()
		if scripts[name] == "" {
			t.Fatalf("the workflow has no step %q", name)
		}
		command := exec.CommandContext(t.Context(), "sh", "-e", "-c", scripts[name])
		command.Dir = repository
		command.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "MANIFESTS="+workflow.Env["MANIFESTS"], "KUBECONFIG=/does/not/exist")
		out, err := command.CombinedOutput()
		return string(out), err == nil
	}
	for _, name := range []string{"Lint", "Simulate"} {
		if out, ok := script(name); !ok {
			t.Errorf("step %s must pass:\n%s", name, out)
		}
	}
	policy := filepath.Join(repository, workflow.Env["MANIFESTS"], "policy.yaml")
	content, err := os.ReadFile(policy)
	mustDo(t, err)
	trusting := strings.Replace(string(content), `event.submittedBy == "system:serviceaccount:falco:falco" &&`, "", 1)
	mustDo(t, os.WriteFile(policy, []byte(trusting), 0o600))
	if out, ok := script("Lint"); ok || !strings.Contains(out, "trusts any submitter") {
		t.Errorf("a rule that trusts any submitter must fail:\n%s", out)
	}
	if out, ok := script("Simulate"); ok || !strings.Contains(out, "Not as expected: 1 outcome must be Deferred") {
		t.Errorf("a forged event that is promoted must fail:\n%s", out)
	}
}
