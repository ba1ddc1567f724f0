package bench

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"

	"github.com/firebreak-dev/firebreak/test/harness"
)

// profileKey names a directory for a profile of kube-apiserver, for `go tool pprof`.
const profileKey = "FIREBREAK_BENCH_PROFILE"

// profile takes a profile of the API server from now on, when one is asked for. The
// function it gives waits for it.
func profile(t *testing.T, c *harness.Cluster, name string, during time.Duration) func() {
	t.Helper()
	dir := os.Getenv(profileKey)
	if dir == "" {
		return func() {}
	}
	config := rest.CopyConfig(c.Config)
	config.NegotiatedSerializer = serializer.NewCodecFactory(c.Scheme).WithoutConversion()
	getter, err := rest.UnversionedRESTClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		content, err := getter.Get().AbsPath("/debug/pprof/profile").Param("seconds", strconv.Itoa(int(during.Seconds()))).DoRaw(t.Context())
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name+".pprof"), content, 0o600)
		}
		done <- err
	}()
	return func() {
		if err := <-done; err != nil {
			t.Errorf("the profile: %v", err)
		}
	}
}
