package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/test/harness"
)

const (
	benchLabel = "firebreak-bench"
	// isolation begins the label by which an isolating policy selects its pod.
	isolation = "isolation.firebreak.dev/"
	// quiet is how long Firebreak must ask for nothing to be taken for done.
	quiet = 200 * time.Millisecond
	// patience is how long all of it may take at most.
	patience = 10 * time.Minute
)

func inBench(namespace string) []client.DeleteAllOfOption {
	return []client.DeleteAllOfOption{client.InNamespace(namespace), client.MatchingLabels{benchLabel: "raw"}}
}

// scene is the demo's domain with raised limits, a shop of many workloads, and a clock
// that stops when a pod is isolated.
type scene struct {
	*harness.Domain
	sender   harness.Sender
	receiver *harness.ReceiverProcess
	seen     *sightings
}

func newScene(t *testing.T, cluster *harness.Cluster, receiver *harness.ReceiverProcess) *scene {
	t.Helper()
	s := &scene{Domain: cluster.NewDomain(t), receiver: receiver}
	s.sender = s.InstallDemo(t, func(sample *unstructured.Unstructured) {
		if sample.GetKind() != "ResponsePlaybook" {
			return
		}
		if err := unstructured.SetNestedField(sample.Object, int64(100_000), "spec", "limits", "maxRunsPerHour"); err != nil {
			t.Fatal(err)
		}
	})
	s.WaitDemoReady(t)
	s.seen = watchIsolations(t, s.Domain)
	return s
}

// workloads makes Deployments of one pod each and gives the pods' names.
func (s *scene) workloads(t *testing.T, prefix string, count int) []string {
	t.Helper()
	names := make([]string, 0, count)
	for i := range count {
		app := fmt.Sprintf("%s-%03d", prefix, i)
		_, set := s.FakeWorkload(t, client.ObjectKey{Namespace: s.Target, Name: app}, 1)
		labels := harness.PodLabels(app)
		labels[appsv1.DefaultDeploymentUniqueLabelKey] = strings.TrimPrefix(set.Name, app+"-")
		pod := s.FakePod(t, client.ObjectKey{Namespace: s.Target, Name: set.Name + "-a"}, labels, set)
		names = append(names, pod.Name)
	}
	return names
}

// post sends Falco's alert for a shell in a pod. An error says that it was not taken.
func (s *scene) post(t *testing.T, pod string) error {
	answer, err := s.receiver.Send(t, s.Namespace, "falco", s.sender.Token, harness.FalcoAlert(s.Target, pod, time.Now()))
	if err == nil && answer.Code/100 != 2 {
		err = fmt.Errorf("the receiver answers %d: %s", answer.Code, answer.Body)
	}
	return err
}

// waitQuiet waits until Firebreak asks the API server for nothing any more.
func (s *scene) waitQuiet(t *testing.T) {
	t.Helper()
	size, since := int64(-1), time.Now()
	harness.Eventually(t, patience, "Firebreak to be done", func(context.Context) error {
		info, err := os.Stat(auditLog)
		if err != nil {
			return err
		}
		if info.Size() != size {
			size, since = info.Size(), time.Now()
		}
		if time.Since(since) < quiet {
			return errors.New("it is at work")
		}
		return nil
	})
}

// sightings are when pods were seen to be isolated: a policy is there, and the pod has
// the label that the policy selects by.
type sightings struct {
	mu       sync.Mutex
	policies map[string]bool
	pods     map[string]string
	at       map[string]time.Time
	changed  chan struct{}
}

func watchIsolations(t *testing.T, d *harness.Domain) *sightings {
	t.Helper()
	s := &sightings{policies: map[string]bool{}, pods: map[string]string{}, at: map[string]time.Time{}, changed: make(chan struct{}, 1)}
	for _, list := range []client.ObjectList{&corev1.PodList{}, &networkingv1.NetworkPolicyList{}} {
		watched, err := d.Client.Watch(t.Context(), list, client.InNamespace(d.Target))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(watched.Stop)
		go func() {
			for change := range watched.ResultChan() {
				s.see(change, time.Now())
			}
		}()
	}
	return s
}

func (s *sightings) see(change watch.Event, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch object := change.Object.(type) {
	case *networkingv1.NetworkPolicy:
		if label := isolationOf(object.Spec.PodSelector.MatchLabels); label != "" {
			s.policies[label] = true
		}
	case *corev1.Pod:
		if label := isolationOf(object.Labels); label != "" {
			s.pods[object.Name] = label
		}
	}
	for pod, label := range s.pods {
		if s.policies[label] {
			s.at[pod] = now
			delete(s.pods, pod)
		}
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func isolationOf(labels map[string]string) string {
	for key, value := range labels {
		if strings.HasPrefix(key, isolation) {
			return key + "=" + value
		}
	}
	return ""
}

// wait waits until all these pods were isolated, and gives when each first was.
func (s *sightings) wait(t *testing.T, pods ...string) map[string]time.Time {
	t.Helper()
	deadline := time.After(patience)
	for {
		found := s.of(pods)
		if len(found) == len(pods) {
			return found
		}
		select {
		case <-s.changed:
		case <-deadline:
			t.Fatalf("%d of %d pods were isolated within %s", len(found), len(pods), patience)
		}
	}
}

func (s *sightings) of(pods []string) map[string]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make(map[string]time.Time, len(pods))
	for _, pod := range pods {
		if at, ok := s.at[pod]; ok {
			found[pod] = at
		}
	}
	return found
}
