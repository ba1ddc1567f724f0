package fault

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/firebreak-dev/firebreak/test/harness"
)

// TestStartedWhileTheAPIServerIsAway starts a manager that has nobody to ask: as one that leads ends
// when it cannot renew its Lease, each longer outage comes to that. It does not end, for a kubelet
// starts what ends again and again ever later, and works as soon as the API server is back.
func TestStartedWhileTheAPIServerIsAway(t *testing.T) {
	cluster := harness.Get(t)
	server := cluster.APIServer(t)
	manager := cluster.StartManager(t)
	manager.Stop(t)
	server.Kill(t)
	t.Cleanup(func() {
		if !server.Running() {
			server.Start(t)
		}
	})
	before := len(manager.Log())
	manager.Launch(t)
	harness.Eventually(t, harness.Patience, "the manager to wait for the API server", func(context.Context) error {
		said := manager.Log()[before:]
		switch {
		case !manager.Running():
			t.Fatal("the manager has ended")
		case !strings.Contains(said, "the API server is waited for"):
			return errors.New("it has not said so")
		}
		return nil
	})
	server.Start(t)
	manager.WaitReady(t)
}
