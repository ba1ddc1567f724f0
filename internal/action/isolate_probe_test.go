package action_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
)

var probeRights = []rbacv1.PolicyRule{
	{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "create", "delete"}},
	{APIGroups: []string{networkingv1.GroupName}, Resources: []string{"networkpolicies"}, Verbs: []string{"list"}},
}

// grantInDomain lets the playbook's ServiceAccount do more in the domain's namespace, which
// has pods held to the restricted standard.
func (w *world) grantInDomain(rights []rbacv1.PolicyRule) {
	w.Helper()
	w.patch(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.domain}}, `{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`)
	rights = append(rights, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"list"}})
	w.create(&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: w.domain, Name: "probe"}, Rules: rights})
	w.create(&rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.domain, Name: "probe"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "probe"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: w.domain, Name: "contain"}},
	})
	w.eventually("the rights in the domain", func(ctx context.Context) bool {
		return w.client.List(ctx, &corev1.ConfigMapList{}, client.InNamespace(w.domain)) == nil
	})
}

func probeStep(change ...func(*v1alpha1.IsolateAction)) *v1alpha1.PlaybookStep {
	return isolateStep(append([]func(*v1alpha1.IsolateAction){func(i *v1alpha1.IsolateAction) {
		i.Probe = &v1alpha1.IsolationProbe{Image: "registry.example/busybox:1.37"}
	}}, change...)...)
}

// openToWorkstation leaves one port open to one address.
func openToWorkstation(isolate *v1alpha1.IsolateAction) {
	isolate.Allow.Ingress = []v1alpha1.AllowedTraffic{{CIDRs: []v1alpha1.CIDR{"192.0.2.7/32"}, Ports: []v1alpha1.AllowedPort{{Port: 9000, EndPort: 9100}}}}
}

// listening is a pod with an address, and TCP ports that its containers name.
func (w *world) listening(name string) *corev1.Pod {
	w.Helper()
	pod := w.pod(name, nil, cartLabels, func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 8080}, {ContainerPort: 9090, Protocol: corev1.ProtocolTCP}, {ContainerPort: 53, Protocol: corev1.ProtocolUDP}}
	})
	pod.Status.PodIP = "10.1.2.3"
	pod.Status.PodIPs = []corev1.PodIP{{IP: "10.1.2.3"}}
	if err := admin.Status().Update(w.Context(), pod); err != nil {
		w.Fatal(err)
	}
	return pod
}

// probes lists the pods of the domain's namespace.
func (w *world) probes() []corev1.Pod {
	w.Helper()
	list := &corev1.PodList{}
	if err := admin.List(w.Context(), list, client.InNamespace(w.domain)); err != nil {
		w.Fatal(err)
	}
	return list.Items
}

// ended writes the status of a probe as a kubelet would: how each container has ended.
func (w *world) ended(probe *corev1.Pod, phase corev1.PodPhase, reason string, ends map[string]corev1.ContainerStateTerminated) {
	w.Helper()
	probe.Status.Phase, probe.Status.Reason, probe.Status.ContainerStatuses = phase, reason, nil
	for _, container := range probe.Spec.Containers {
		status := corev1.ContainerStatus{Name: container.Name, Image: container.Image}
		if end, ok := ends[container.Name]; ok {
			status.State.Terminated = &end
		} else {
			status.State.Running = &corev1.ContainerStateRunning{}
		}
		probe.Status.ContainerStatuses = append(probe.Status.ContainerStatuses, status)
	}
	if err := admin.Status().Update(w.Context(), probe); err != nil {
		w.Fatal(err)
	}
}

var (
	connected = corev1.ContainerStateTerminated{ExitCode: 0, Reason: "Completed"}
	refused   = corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", Message: "nc: 10.1.2.3 (10.1.2.3:8080): Connection refused"}
	timedOut  = corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", Message: "nc: timed out\x1b[2J"}
	noCommand = corev1.ContainerStateTerminated{ExitCode: 127, Reason: "Error"}
	notBegun  = corev1.ContainerStateTerminated{ExitCode: 128, Reason: "StartError"}
	killed    = corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}
)

func TestProbeVerdicts(t *testing.T) {
	w := newWorld(t, allRights)
	w.grantInDomain(probeRights)
	type ends = map[string]corev1.ContainerStateTerminated
	for name, test := range map[string]struct {
		ends   ends
		phase  corev1.PodPhase
		reason string
		late   time.Duration
		// address is the probe's, and deadline how long the step has left; empty means whatever.
		address  string
		deadline time.Duration
		state    v1alpha1.TargetState
		proof    v1alpha1.Proof
		says     string
	}{
		"not reached":            {ends: ends{"control": connected, "port-8080": timedOut, "port-9090": timedOut}, phase: corev1.PodFailed, state: v1alpha1.TargetSucceeded, proof: v1alpha1.ProofEnforced, says: "could not connect to it by port 8080, 9090, and could to kubernetes.default.svc:443"},
		"refused":                {ends: ends{"control": connected, "port-8080": refused, "port-9090": timedOut}, phase: corev1.PodFailed, state: v1alpha1.TargetSucceeded, proof: v1alpha1.ProofComputed, says: "connections by port 8080 were refused: by the network plugin, or by the pod"},
		"what allow leaves open": {ends: ends{"control": connected, "port-8080": timedOut, "port-9090": connected}, address: "192.0.2.7", phase: corev1.PodFailed, state: v1alpha1.TargetSucceeded, proof: v1alpha1.ProofComputed, says: "`allow.ingress` lets it connect by port 9090"},
		"the step ends":          {ends: ends{"control": connected, "port-8080": timedOut}, phase: corev1.PodRunning, deadline: 5 * time.Second, state: v1alpha1.TargetSucceeded, proof: v1alpha1.ProofComputed, says: "no verdict (Running): port-9090"},
		"reached, at the end":    {ends: ends{"control": connected, "port-8080": connected, "port-9090": timedOut}, phase: corev1.PodFailed, deadline: 5 * time.Second, state: v1alpha1.TargetSucceeded, proof: v1alpha1.ProofComputed, says: "has reached it by port 8080, and there is no time to try again"},
		"no control either":      {ends: ends{"control": timedOut, "port-8080": timedOut, "port-9090": timedOut}, phase: corev1.PodFailed, state: v1alpha1.TargetSucceeded, proof: v1alpha1.ProofComputed, says: "the probe has proved nothing: it could not connect to kubernetes.default.svc:443 either (nc: timed out"},
		"no such command":        {ends: ends{"control": noCommand, "port-8080": noCommand, "port-9090": noCommand}, phase: corev1.PodFailed, state: v1alpha1.TargetSucceeded, proof: v1alpha1.ProofComputed, says: "has given no verdict (Failed)"},
		"one was not begun":      {ends: ends{"control": connected, "port-8080": notBegun, "port-9090": timedOut}, phase: corev1.PodFailed, state: v1alpha1.TargetSucceeded, proof: v1alpha1.ProofComputed, says: "no verdict (Failed): port-8080"},
		"one was killed":         {ends: ends{"control": connected, "port-8080": timedOut, "port-9090": killed}, phase: corev1.PodFailed, reason: "DeadlineExceeded", state: v1alpha1.TargetSucceeded, proof: v1alpha1.ProofComputed, says: "no verdict (DeadlineExceeded): port-9090"},
		"it runs":                {ends: ends{"control": connected, "port-8080": timedOut}, phase: corev1.PodRunning, state: v1alpha1.TargetApplied, proof: v1alpha1.ProofComputed, says: "tries whether it can be reached"},
		"it never ran":           {phase: corev1.PodPending, late: 2 * time.Minute, state: v1alpha1.TargetSucceeded, proof: v1alpha1.ProofComputed, says: "no verdict (Pending): control, port-8080, port-9090"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{T: t, domain: w.domain, shop: w.shop, client: w.client, user: w.user}
			pod := w.listening("cart-" + action.ShortHash(8, name))
			request := w.request(w.incident("inc-1"), probeStep(openToWorkstation), pod)
			isolate := do(t, "isolate")
			w.plan(request)
			for _, try := range []string{"first", "repeated"} {
				w.expect(try+" Apply", isolate.Apply(t.Context(), request), v1alpha1.TargetApplied, "are cut by NetworkPolicy", "tries whether it can be reached")
			}
			request.Target.State = v1alpha1.TargetApplied
			made := w.probes()
			if len(made) != 1 {
				t.Fatalf("%d probes, want one", len(made))
			}
			made[0].Status.PodIP = test.address
			w.ended(&made[0], test.phase, test.reason, test.ends)
			if test.deadline > 0 {
				request.Incident.Status.Steps = []v1alpha1.IncidentStep{{Name: request.Step.Name, DeadlineTime: &metav1.Time{Time: made[0].CreationTimestamp.Add(test.deadline)}}}
			}
			request.Now = made[0].CreationTimestamp.Add(test.late)
			result := isolate.Observe(t.Context(), request)
			w.expect("Observe", result, test.state, test.says)
			if result.Proof != test.proof || strings.Contains(result.Message, "\x1b") || result.Permanent != (test.state == v1alpha1.TargetFailed) {
				t.Errorf("proof %q, want %q; permanent %t; message %q", result.Proof, test.proof, result.Permanent, result.Message)
			}
			w.expect("Undo", isolate.Undo(t.Context(), request), v1alpha1.TargetReverted)
			w.eventually("the probe to go", func(context.Context) bool { return len(w.probes()) == 0 })
			w.delete(pod)
		})
	}
}

// TestProbePod looks at what is run: nothing but the playbook's command, with an address
// and a port as arguments of their own.
func TestProbePod(t *testing.T) {
	w := newWorld(t, allRights)
	w.grantInDomain(probeRights)
	pod := w.listening("cart-1")
	step := probeStep(func(i *v1alpha1.IsolateAction) {
		i.Probe.Command, i.Probe.Ports, i.Probe.Reference = []v1alpha1.ProbeArgument{"/connect", "--once"}, []int32{443}, "[2001:db8::1]:53"
	})
	request := w.request(w.incident("inc-1"), step, pod)
	w.plan(request)
	w.expect("Apply", do(t, "isolate").Apply(t.Context(), request), v1alpha1.TargetApplied)
	probe := w.probes()[0]
	commands := map[string][]string{}
	for _, container := range probe.Spec.Containers {
		commands[container.Name] = container.Command
		if len(container.Args) > 0 || len(container.Resources.Limits) != 2 {
			t.Errorf("container %s has args %v and limits %v", container.Name, container.Args, container.Resources.Limits)
		}
	}
	want := map[string][]string{"control": {"/connect", "--once", "2001:db8::1", "53"}, "port-443": {"/connect", "--once", "10.1.2.3", "443"}}
	if diff := cmp.Diff(want, commands); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
	if spec := probe.Spec; *spec.AutomountServiceAccountToken || *spec.ActiveDeadlineSeconds != 60 || spec.RestartPolicy != corev1.RestartPolicyNever || len(spec.Volumes) > 0 {
		t.Errorf("it has a token, no end or volumes: %+v", spec)
	}
	if owner := probe.OwnerReferences; len(owner) != 1 || owner[0].Kind != "Incident" || owner[0].UID != request.Incident.UID || probe.Labels[v1alpha1.LabelIncident] != "inc-1" {
		t.Errorf("it does not go with the incident: owners %v, labels %v", owner, probe.Labels)
	}
}

// TestProbeIsNoReasonToFail isolates although nothing can be proved.
func TestProbeIsNoReasonToFail(t *testing.T) {
	w := newWorld(t, allRights)
	isolate := do(t, "isolate")
	pod := w.listening("cart-1")
	request := w.request(w.incident("inc-1"), probeStep(), pod)
	w.plan(request)
	w.expect("without any right", isolate.Apply(t.Context(), request), v1alpha1.TargetSucceeded, "the probe has proved nothing", "may not list networkpolicies in namespace '"+w.domain+"'")
	request.Step.Isolate.Probe.Reference = "cart.shop.svc:8080"
	result := isolate.Apply(t.Context(), request)
	w.expect("without a right", result, v1alpha1.TargetSucceeded, "the probe has proved nothing", "may not create pods in namespace '"+w.domain+"'")
	request.Step.Isolate.Probe.Reference = ""
	if result.Proof != v1alpha1.ProofComputed {
		t.Errorf("proof %q", result.Proof)
	}

	w.grantInDomain(probeRights)
	bare := w.request(w.incident("inc-1"), probeStep(), w.pod("bare", nil, cartLabels))
	w.plan(bare)
	w.expect("without an address", isolate.Apply(t.Context(), bare), v1alpha1.TargetSucceeded, "proved nothing: Pod 'bare' has no address yet")

	request.Attempt = 2
	w.expect("Apply", isolate.Apply(t.Context(), request), v1alpha1.TargetApplied)
	request.Target.State = v1alpha1.TargetApplied
	probe := w.probes()[0]
	w.delete(&probe)
	w.eventually("the probe to go", func(ctx context.Context) bool {
		return apierrors.IsNotFound(admin.Get(ctx, client.ObjectKeyFromObject(&probe), &corev1.Pod{}))
	})
	w.expect("after somebody has deleted it", isolate.Observe(t.Context(), request), v1alpha1.TargetSucceeded, "is not there any more")
	if left := w.probes(); len(left) > 0 {
		t.Errorf("it was made again: %d pods", len(left))
	}

	// What is held keeps its proof, and what was lost is not probed again.
	request.Target.State, request.Target.Proof = v1alpha1.TargetSucceeded, v1alpha1.ProofEnforced
	if result := isolate.Observe(t.Context(), request); result.State != v1alpha1.TargetSucceeded || result.Proof != v1alpha1.ProofEnforced {
		t.Errorf("a look at what is held: %+v", result)
	}
	request.Target.Losses, request.Attempt = 1, 3
	if result := isolate.Apply(t.Context(), request); result.State != v1alpha1.TargetSucceeded || result.Proof != v1alpha1.ProofComputed || len(w.probes()) > 0 {
		t.Errorf("made again: %+v, %d probes", result, len(w.probes()))
	}
}

// TestProbeReached counts a pod as not isolated only when it was reached three times: a
// network plugin takes a moment.
func TestProbeReached(t *testing.T) {
	w := newWorld(t, allRights)
	w.grantInDomain(probeRights)
	isolate := do(t, "isolate")
	for name, test := range map[string]struct {
		last  corev1.ContainerStateTerminated
		state v1alpha1.TargetState
		proof v1alpha1.Proof
		says  string
	}{
		"each time":   {connected, v1alpha1.TargetFailed, "", "is not isolated: Pod 'inc-1-"},
		"but at last": {timedOut, v1alpha1.TargetSucceeded, v1alpha1.ProofEnforced, "could not connect to it by port 8080, 9090"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{T: t, domain: w.domain, shop: w.shop, client: w.client, user: w.user}
			pod := w.listening("cart-" + action.ShortHash(8, name))
			request := w.request(w.incident("inc-1"), probeStep(), pod)
			w.plan(request)
			result := isolate.Apply(t.Context(), request)
			request.Target.State = v1alpha1.TargetApplied
			known := map[string]bool{}
			for _, last := range []corev1.ContainerStateTerminated{connected, connected, test.last} {
				w.expect("while it is tried", result, v1alpha1.TargetApplied, "tries whether it can be reached")
				probes := slices.DeleteFunc(w.probes(), func(probe corev1.Pod) bool { return known[probe.Name] })
				if len(probes) != 1 {
					t.Fatalf("%d new probes, want one", len(probes))
				}
				known[probes[0].Name] = true
				// Without a control, and while another container runs: a connection is a connection.
				w.ended(&probes[0], corev1.PodRunning, "", map[string]corev1.ContainerStateTerminated{"control": connected, "port-8080": timedOut, "port-9090": last})
				result = isolate.Observe(t.Context(), request)
			}
			if w.expect("the last", result, test.state, test.says); result.Permanent != (test.state == v1alpha1.TargetFailed) || result.Proof != test.proof {
				t.Errorf("permanent %t, proof %q", result.Permanent, result.Proof)
			}
			w.expect("Undo", isolate.Undo(t.Context(), request), v1alpha1.TargetReverted)
			w.eventually("the probes to go", func(context.Context) bool { return len(w.probes()) == 0 })
		})
	}
}

// TestProbeWhileItIsTakenAway plans the isolation anew when something takes it away before
// the probe has ended.
func TestProbeWhileItIsTakenAway(t *testing.T) {
	w := newWorld(t, allRights)
	w.grantInDomain(probeRights)
	isolate := do(t, "isolate")
	pod := w.listening("cart-1")
	request := w.request(w.incident("inc-1"), probeStep(), pod)
	w.plan(request)
	w.expect("Apply", isolate.Apply(t.Context(), request), v1alpha1.TargetApplied)
	request.Target.State = v1alpha1.TargetApplied
	w.get(pod)
	for key := range pod.Labels {
		if strings.HasPrefix(key, "isolation.firebreak.dev/") {
			w.patch(pod, `{"metadata":{"labels":{"`+key+`":null}}}`)
		}
	}
	w.expect("Observe", isolate.Observe(t.Context(), request), v1alpha1.TargetPending, "was taken off")
	w.plan(request)
	w.expect("Apply again", isolate.Apply(t.Context(), request), v1alpha1.TargetApplied, "are cut by NetworkPolicy")
	if probes := w.probes(); len(probes) != 1 {
		t.Errorf("%d probes, want the one", len(probes))
	}

	request.Target.State = v1alpha1.TargetApplied
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if result := isolate.Observe(gone, request); result.State == v1alpha1.TargetSucceeded || result.Permanent {
		t.Errorf("without an answer of the API server: %+v", result)
	}
	request.Incident.Status.Steps = []v1alpha1.IncidentStep{{Name: request.Step.Name, DeadlineTime: &metav1.Time{Time: request.Now}}}
	result := isolate.Observe(gone, request)
	if w.expect("without an answer until the deadline", result, v1alpha1.TargetSucceeded, "proved nothing: there is no time to ask again"); result.Proof != v1alpha1.ProofComputed {
		t.Errorf("proof %q", result.Proof)
	}
	w.delete(pod)
	w.expect("when the pod is gone", isolate.Observe(t.Context(), request), v1alpha1.TargetSucceeded)
}

// TestProbeKept proves nothing where policies of the domain's namespace might be why the probe
// does not reach the pod, unless somebody has chosen what it is compared with.
func TestProbeKept(t *testing.T) {
	w := newWorld(t, allRights)
	w.grantInDomain(probeRights)
	isolate := do(t, "isolate")
	w.create(&networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: w.domain, Name: "egress"}, Spec: networkingv1.NetworkPolicySpec{
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}, Egress: []networkingv1.NetworkPolicyEgressRule{{}}}})
	request := w.request(w.incident("inc-1"), probeStep(), w.listening("cart-1"))
	w.plan(request)
	w.expect("without a reference", isolate.Apply(t.Context(), request), v1alpha1.TargetSucceeded, "proved nothing: NetworkPolicy 'egress' says what pods in namespace '"+w.domain+"' may connect to")
	if len(w.probes()) > 0 {
		t.Error("a probe was made")
	}
	request.Step.Isolate.Probe.Reference = "cart.shop.svc:8080"
	w.expect("with one", isolate.Apply(t.Context(), request), v1alpha1.TargetApplied)

	late := w.request(w.incident("inc-1"), request.Step, w.listening("cart-2"))
	w.plan(late)
	late.Incident.Status.Steps = []v1alpha1.IncidentStep{{Name: late.Step.Name, DeadlineTime: &metav1.Time{Time: late.Now.Add(probeTooLate)}}}
	w.expect("just before the deadline", isolate.Apply(t.Context(), late), v1alpha1.TargetSucceeded, "leaves no time for it")
}

// probeTooLate is less than a probe is given before the step's deadline.
const probeTooLate = 9 * time.Second

// TestProbeOfAWorkload isolates it all the same.
func TestProbeOfAWorkload(t *testing.T) {
	w := newWorld(t, append([]rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}}}, allRights...))
	request := w.request(w.incident("inc-1"), probeStep(), w.replicaSet())
	w.plan(request)
	w.expect("Apply", do(t, "isolate").Apply(t.Context(), request), v1alpha1.TargetSucceeded, "`isolate.probe` is only for pods")
}

// panics is a client that panics when a pod is labelled.
type panics struct{ client.Client }

func (p panics) Patch(ctx context.Context, object client.Object, patch client.Patch, options ...client.PatchOption) error {
	if _, isPod := object.(*corev1.Pod); isPod {
		panic("as a library might")
	}
	return p.Client.Patch(ctx, object, patch, options...)
}

// TestIsolatePanics fails where labelling, which another goroutine does, panics.
func TestIsolatePanics(t *testing.T) {
	w := newWorld(t, allRights)
	request := w.request(w.incident("inc-1"), isolateStep(), w.listening("cart-1"))
	w.plan(request)
	request.Client = panics{w.client}
	w.expect("Apply", do(t, "isolate").Apply(t.Context(), request), v1alpha1.TargetFailed, "an error within Firebreak")
}
