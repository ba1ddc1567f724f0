package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

func TestRender(t *testing.T) {
	folder := t.TempDir()
	const playbook = "kind: Namespace\n---\nkind: ResponsePlaybook\nmetadata: {name: crypto-miner}\nspec: {description: When a miner\n  runs.}\n"
	if err := os.MkdirAll(filepath.Join(folder, "miner"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "miner", "playbook.yaml"), []byte(playbook), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := render(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| [`crypto-miner`](miner/playbook.yaml) | When a miner runs. |\n",
		"| `gracePeriodSeconds` | integer 0–86400 | gracePeriodSeconds is how long a pod may take to end.",
		"| `allow.ingress[].cidrs` | list of string, required |",
		"**Undo**: none.",
		"get, delete on `pods`",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the document must say %q", want)
		}
	}
	for _, trait := range lifecycle.Actions {
		if strings.Count(text, "\n### "+trait.Name+"\n") != 1 {
			t.Errorf("the document must have one section about '%s'", trait.Name)
		}
	}
	if strings.Contains(text, "\n\n\n") || !strings.HasSuffix(text, "\n") || strings.HasSuffix(text, "\n\n") {
		t.Error("blank lines must be single, and the last line must end")
	}
}
