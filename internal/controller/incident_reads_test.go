package controller

import (
	"context"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/internal/impersonation"
	"github.com/firebreak-dev/firebreak/internal/workload"
)

// rememberer gives pods, and notes from where they were wanted.
type rememberer struct {
	client.Client
	asked []string
}

func (*rememberer) Scheme() *runtime.Scheme { return clientgoscheme.Scheme }

func (r *rememberer) Get(_ context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	from := "etcd"
	if slices.Contains(options, workload.Recent) {
		from = "memory"
	}
	r.asked = append(r.asked, from)
	object.(*corev1.Pod).ObjectMeta = metav1.ObjectMeta{Name: key.Name, Annotations: map[string]string{"from": from}}
	return nil
}

// TestReadsOfADecision: nothing is read twice, and who wants an object as it is now does not get
// what the API server remembers of it.
func TestReadsOfADecision(t *testing.T) {
	for name, test := range map[string]struct {
		// wanted are the reads in their order, a moment after each other: 'now', or 'recent'.
		wanted []string
		pause  time.Duration
		got    []string
		asked  []string
	}{
		"now, twice":            {[]string{"now", "now"}, 0, []string{"etcd", "etcd"}, []string{"etcd"}},
		"recent, twice":         {[]string{"recent", "recent"}, 0, []string{"memory", "memory"}, []string{"memory"}},
		"now, and then recent":  {[]string{"now", "recent"}, 0, []string{"etcd", "etcd"}, []string{"etcd"}},
		"recent, and then now":  {[]string{"recent", "now"}, 0, []string{"memory", "etcd"}, []string{"memory", "etcd"}},
		"now, and later recent": {[]string{"now", "recent"}, readFor + 1, []string{"etcd", "memory"}, []string{"etcd", "memory"}},
	} {
		t.Run(name, func(t *testing.T) {
			clock := testingclock.NewFakeClock(time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC))
			server := &rememberer{}
			reader := newDecisionReads(clock).of(&impersonation.Identity{Client: server, User: "contain"})
			var got []string
			for _, wanted := range test.wanted {
				var options []client.GetOption
				if wanted == "recent" {
					options = []client.GetOption{workload.Recent}
				}
				pod := &corev1.Pod{}
				if err := reader.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: "cart"}, pod, options...); err != nil {
					t.Fatal(err)
				}
				got = append(got, pod.Annotations["from"])
				clock.Step(test.pause)
			}
			if !slices.Equal(got, test.got) || !slices.Equal(server.asked, test.asked) {
				t.Errorf("got %q by asking %q, want %q by asking %q", got, server.asked, test.got, test.asked)
			}
		})
	}
}
