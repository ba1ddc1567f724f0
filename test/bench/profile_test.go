package bench

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"

	"github.com/firebreak-dev/firebreak/test/harness"
)

// profileKey names a directory for a profile of kube-apiserver, for `go tool pprof`.
const profileKey = "FIREBREAK_BENCH_PROFILE"

const (
	collectedMetric = "go_cpu_classes_gc_total_cpu_seconds_total"
	comparedMetric  = `apiserver_storage_consistency_checks_total{group="firebreak.dev",resource="securityevents",status="success"}`
)

// profile takes a profile of the API server from now on, when one is asked for. The
// function it gives waits for it.
func profile(t *testing.T, c *harness.Cluster, name string, during time.Duration) func() {
	t.Helper()
	dir := os.Getenv(profileKey)
	if dir == "" {
		return func() {}
	}
	getter := askAPIServer(t, c)
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

// askAPIServer gives a client for what kube-apiserver says of itself.
func askAPIServer(t *testing.T, c *harness.Cluster) *rest.RESTClient {
	t.Helper()
	config := rest.CopyConfig(c.Config)
	config.NegotiatedSerializer = serializer.NewCodecFactory(c.Scheme).WithoutConversion()
	getter, err := rest.UnversionedRESTClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	return getter
}

// ofAPIServer gives a metric of kube-apiserver; zero when it has none of that name yet.
func ofAPIServer(t *testing.T, c *harness.Cluster, metric string) float64 {
	t.Helper()
	content, err := askAPIServer(t, c).Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return metricsOf(t, bytes.NewReader(content))[metric]
}

// collecting gives the processor time that kube-apiserver has spent on collecting garbage.
func collecting(t *testing.T, c *harness.Cluster) time.Duration {
	t.Helper()
	return time.Duration(ofAPIServer(t, c, collectedMetric) * float64(time.Second))
}

// waitCompared waits until kube-apiserver has compared its memory of the events with etcd, as
// it does every five minutes: with 50,000 events whatever is asked meanwhile costs twice as much.
func waitCompared(t *testing.T, c *harness.Cluster) {
	t.Helper()
	before, used, start := ofAPIServer(t, c, comparedMetric), cpuNow(), time.Now()
	if err := wait.PollUntilContextTimeout(t.Context(), 5*time.Second, patience, false, func(context.Context) (bool, error) {
		return ofAPIServer(t, c, comparedMetric) > before, nil
	}); err != nil {
		t.Fatalf("waiting for kube-apiserver to compare the events with etcd: %v", err)
	}
	t.Logf("kube-apiserver has compared the events with etcd, after %s; processor time meanwhile: %s", time.Since(start).Round(time.Second), cpuNow().since(used).each(1))
}
