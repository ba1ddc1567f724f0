package integration

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

const (
	// forgeriesShort and, in `make test-long`, forgeriesLong are how many alerts somebody
	// forges, each about a pod of its own; forgeryLimit is how many the playbook may act on
	// in an hour.
	forgeriesShort, forgeriesLong = 200, 1000
	forgeryLimit                  = 5
	forgers                       = 8
	forgeryTime                   = 4 * time.Minute
)

// TestFloodOfForgedAlerts has a sender forge a thousand alerts about a thousand pods (in
// `make test` 200): as many are acted on as the limit says, and what another sender
// reports in the middle of it is acted on nevertheless.
func TestFloodOfForgedAlerts(t *testing.T) {
	forgeries := forgeriesShort
	if os.Getenv("FIREBREAK_LONG") == "1" {
		forgeries = forgeriesLong
	}
	cluster := harness.Get(t)
	cluster.StartManager(t, "--zap-log-level=error")
	s := newScene(t, cluster, cluster.StartReceiver(t))
	// The managers of other tests must not work on what is left.
	t.Cleanup(func() { s.retire(t) })
	s.anySender(t)
	done(t, patchTo(t, s, playbook(s.Namespace), func(p *v1alpha1.ResponsePlaybook) { p.Spec.Limits.MaxRunsPerHour = forgeryLimit }))
	honest := s.NewSender(t, "tetragon")
	s.FakePod(t, client.ObjectKey{Namespace: s.Target, Name: "real"}, harness.PodLabels("real"), nil)

	name := func(i int) string { return fmt.Sprintf("victim-%04d", i) }
	halfway := make(chan struct{})
	flooded := make(chan error, forgers)
	for first := range forgers {
		go func() {
			for i := first; i < forgeries; i += forgers {
				if err := s.forge(t, name(i)); err != nil {
					flooded <- err
					return
				}
				if i == forgeries/2 {
					close(halfway)
				}
			}
			flooded <- nil
		}()
	}
	select {
	case <-halfway:
	case err := <-flooded:
		t.Fatalf("the flood has ended before its half: %v", err)
	}
	begun := time.Now()
	s.alertBy(t, honest, "real")
	genuine := s.incidentAbout(t, "real")
	s.until(t, genuine, "the real alert to be acted on", func(i *v1alpha1.Incident) bool { return isTrue(i.Status.Conditions, v1alpha1.ConditionContained) })
	// For people to read: on a busy machine it is ten seconds and more.
	t.Logf("in the middle of the flood the real alert took %s", time.Since(begun).Round(time.Millisecond))
	for range forgers {
		done(t, <-flooded)
	}
	harness.Eventually(t, forgeryTime, "all forged alerts to be decided about", func(ctx context.Context) error {
		var list v1alpha1.IncidentList
		if err := s.Client.List(ctx, &list, client.InNamespace(s.Namespace)); err != nil {
			return err
		}
		acted, isHeld := 0, 0
		for i := range list.Items {
			switch incident := &list.Items[i]; {
			case isTrue(incident.Status.Conditions, v1alpha1.ConditionContained):
				acted++
			case count(incident, onHold) == 1 && awaited(incident, v1alpha1.AwaitingApproval) != nil:
				isHeld++
			}
		}
		if acted != forgeryLimit+1 || isHeld != forgeries-forgeryLimit {
			return fmt.Errorf("%d incidents: %d acted on, want %d; %d held, want %d", len(list.Items), acted, forgeryLimit+1, isHeld, forgeries-forgeryLimit)
		}
		return nil
	})
	var policies networkingv1.NetworkPolicyList
	done(t, s.Client.List(t.Context(), &policies, client.InNamespace(s.Target)))
	if len(policies.Items) != forgeryLimit+1 {
		t.Errorf("%d pods were isolated, want %d", len(policies.Items), forgeryLimit+1)
	}
}

// forge makes a pod and posts an alert about it.
func (s *scene) forge(t *testing.T, pod string) error {
	t.Helper()
	if err := s.Client.Create(t.Context(), plainPod(s.Target, pod)); err != nil {
		return err
	}
	answer, err := s.receiver.Send(t, s.Namespace, "falco", s.sender.Token, harness.FalcoAlert(s.Target, pod, time.Now()))
	if err == nil && answer.Code/100 != 2 {
		err = fmt.Errorf("the receiver answers %d: %s", answer.Code, answer.Body)
	}
	return err
}

// retire makes the domain a namespace like any other.
func (s *scene) retire(t *testing.T) {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.Namespace}}
	noDomain := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"`+v1alpha1.LabelDomain+`":null}}}`))
	if err := s.Client.Patch(context.WithoutCancel(t.Context()), namespace, noDomain); err != nil {
		t.Error(err)
	}
}
