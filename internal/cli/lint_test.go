package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firebreak-dev/firebreak/internal/lint"
)

const noisyPolicy = `apiVersion: firebreak.dev/v1alpha1
kind: ClassificationPolicy
metadata: {name: noise, namespace: security}
spec:
  rules:
  - {name: noise, match: event.severity == "Low", outcome: Dismiss}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
`

// Lint asks no cluster: the kubeconfig names none.
func TestLint(t *testing.T) {
	const nowhere = "/does/not/exist"
	folder := t.TempDir()
	file := filepath.Join(folder, "policy.yaml")
	mustDo(t, os.WriteFile(file, []byte(noisyPolicy), 0o600))
	warned := file + ":6: warning: ClassificationPolicy security/noise: rule \"noise\" `match` trusts any submitter"
	run(t.Context(), nowhere, "lint", folder).check(t, ExitOK, warned, "")
	run(t.Context(), nowhere, "lint", folder).check(t, ExitOK, "1 object of Firebreak in 1 file: 0 errors, 1 warning; 1 other document passed over\n", "")
	r := run(t.Context(), nowhere, "lint", "--strict", file)
	r.check(t, ExitRefused, warned, "")
	if r.err != "" {
		t.Errorf("all is said on the standard output, but the error output is %q", r.err)
	}

	mustDo(t, os.WriteFile(file, []byte(strings.Replace(noisyPolicy, "match:", "\"mat\\e[31mch\":", 1)), 0o600))
	r = run(t.Context(), nowhere, "lint", file)
	r.check(t, ExitRefused, file+":6: error: ClassificationPolicy security/noise: there is no field `spec.rules[0].mat\\x1b[31mch`", "")
	r = run(t.Context(), nowhere, "lint", "-o", "json", file)
	report := &lint.Report{}
	mustDo(t, json.Unmarshal([]byte(r.out), report))
	if r.code != ExitRefused || report.Errors != 2 || report.Findings[0].Line != 6 || report.Findings[0].File != file || report.Findings[0].Severity != lint.Error {
		t.Errorf("exit code %d, report %+v", r.code, report)
	}

	link := filepath.Join(t.TempDir(), "link")
	mustDo(t, os.Symlink(folder, link))
	run(t.Context(), nowhere, "lint", link).check(t, ExitRefused, filepath.Join(link, "policy.yaml")+":6: error: ", "")

	run(t.Context(), nowhere, "lint").check(t, ExitError, "", "it must be kubectl firebreak lint PATH...")
	run(t.Context(), nowhere, "lint", filepath.Join(folder, "none")).check(t, ExitError, "", "cannot read "+filepath.Join(folder, "none")+": no such file or directory")
	run(t.Context(), nowhere, "lint", t.TempDir()).check(t, ExitError, "0 objects of Firebreak in 0 files", "nothing was checked: there is no object of Firebreak in 0 files")
	run(t.Context(), nowhere, "lint", "-o", "yaml", file).check(t, ExitError, "", "must be one of json")
}
