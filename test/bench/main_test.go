// Package bench measures Firebreak against the budgets of its design, as multiples of
// what this machine's API server needs for a write. `make bench` runs it.
package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/firebreak-dev/firebreak/test/harness"
)

const (
	enabled  = "FIREBREAK_BENCH"
	disabled = "it takes minutes and wants a quiet machine: `make bench` sets " + enabled + "=1"
)

// auditLog is where the API server writes who has asked it for what.
var auditLog string

// auditPolicy logs what Firebreak's processes ask for, and nothing else.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- {level: None, verbs: [watch]}
- {level: None, resources: [{group: coordination.k8s.io}]}
- {level: Metadata, users: ["` + harness.Manager + `", "` + harness.Receiver + `"]}
- {level: None}
`

func TestMain(m *testing.M) {
	if os.Getenv(enabled) != "1" {
		os.Exit(m.Run())
	}
	harness.Main(m, func(environment *envtest.Environment) {
		// Beside its certificates, and deleted with them.
		dir := filepath.Dir(environment.ControlPlane.GetAPIServer().CertDir)
		auditLog = filepath.Join(dir, "audit.log")
		if err := os.WriteFile(filepath.Join(dir, "policy.yaml"), []byte(auditPolicy), 0o600); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err) // the API server does not start without it
		}
		// What is measured is what the development cluster has: an etcd that syncs.
		environment.ControlPlane.Etcd.Configure().Disable("unsafe-no-fsync")
		environment.ControlPlane.GetAPIServer().Configure().
			Append("audit-policy-file", filepath.Join(dir, "policy.yaml")).
			Append("audit-log-path", auditLog).
			Append("audit-log-mode", "blocking")
	})
}
