package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/test/harness"
)

const (
	// payload is how many bytes a raw write carries.
	payload = 1024
	// rawWriters are how many write at the same time for the rate.
	rawWriters = 32
	rawFor     = 5 * time.Second
)

// raw is what the API server does without Firebreak.
type raw struct {
	p50, p99 time.Duration
	// alone is the rate of one writer, and rate that of rawWriters, a second.
	alone, rate float64
	// cpu is what one write of many at the same time costs.
	cpu string
}

var rawObjects atomic.Int64

// measureRaw creates ConfigMaps of 1 KiB: one writer first, and then many.
func measureRaw(t *testing.T, c *harness.Cluster) raw {
	t.Helper()
	const namespace = metav1.NamespaceDefault
	create := func() error { return c.Client.Create(t.Context(), rawObject(namespace)) }
	alone := createFor(t, 1, create)
	earlier := cpuNow()
	many := createFor(t, rawWriters, create)
	used := cpuNow().since(earlier)
	result := raw{
		p50: percentile(alone, 50), p99: percentile(alone, 99),
		alone: float64(len(alone)) / rawFor.Seconds(), rate: float64(len(many)) / rawFor.Seconds(), cpu: used.each(len(many)),
	}
	if err := c.Client.DeleteAllOf(t.Context(), &corev1.ConfigMap{}, inBench(namespace)...); err != nil {
		t.Fatal(err)
	}
	return result
}

// createFor creates objects for a while and gives what each took.
func createFor(t *testing.T, writers int, create func() error) []time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), rawFor)
	defer cancel()
	took := make([][]time.Duration, writers)
	failures := make([]error, writers)
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			for ctx.Err() == nil {
				start := time.Now()
				if err := create(); err != nil {
					failures[i] = err
					return
				}
				took[i] = append(took[i], time.Since(start))
			}
		})
	}
	group.Wait()
	for _, err := range failures {
		if err != nil {
			t.Fatalf("a raw write: %v", err)
		}
	}
	return slices.Concat(took...)
}

func rawObject(namespace string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: fmt.Sprintf("raw-%d", rawObjects.Add(1)), Labels: map[string]string{benchLabel: "raw"},
		},
		Data: map[string]string{"payload": strings.Repeat("x", payload)},
	}
}

// percentile gives the value below which that share of the values lies; zero of none.
func percentile(values []time.Duration, share int) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, len(sorted)*share/100)]
}
