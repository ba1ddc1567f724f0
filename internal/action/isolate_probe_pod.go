package action

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

const (
	defaultProbeReference = "kubernetes.default.svc:443"
	maxProbePorts         = 4
	// controlContainer is the container that tries the reference; those that try the pod
	// are named by their port.
	controlContainer = "control"
	portContainer    = "port-"
	// probeUser is the user and group that a probe runs as.
	probeUser = 65532
)

var (
	defaultProbeCommand   = []v1alpha1.ProbeArgument{"nc", "-z", "-v", "-w", "5"}
	probeCPU, probeMemory = resource.MustParse("50m"), resource.MustParse("32Mi")
)

// probeHash is in the name and the mark of one probe.
func (r *Request) probeHash(digits, try int) string {
	return ShortHash(digits, "probe", string(r.Incident.UID), r.Step.Name, fmt.Sprint(r.Attempt), fmt.Sprint(try), string(r.Target.UID))
}

func (r *Request) probeName(try int) string {
	return NameFor(r.Incident.Name, r.probeHash(shortHashDigits, try), maxJobName)
}

func (r *Request) probeAccess(verb, name string) access {
	return access{verb: verb, resource: "pods", namespace: r.Incident.Namespace, name: name}
}

func (r *Request) isProbe(probe *corev1.Pod, try int) bool {
	return r.isOwnObject(probe) && probe.Annotations[annotationIntent] == r.probeHash(32, try)
}

// probeMeta is what a probe is known by. No service mesh may put itself between: its proxy
// takes every connection, whether the other end can be reached or not.
func (r *Request) probeMeta(try int) metav1.ObjectMeta {
	meta := r.ownMeta(r.probeName(try))
	meta.Namespace = r.Incident.Namespace
	meta.Labels["sidecar.istio.io/inject"] = "false"
	meta.Annotations = map[string]string{annotationIntent: r.probeHash(32, try), "linkerd.io/inject": "disabled"}
	meta.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "Incident", Name: r.Incident.Name, UID: r.Incident.UID,
	}}
	return meta
}

// probePod is a pod with a container for each connection to try. What it runs is the
// playbook's; of the pod it gets the address and ports, as arguments of their own.
func (r *Request) probePod(pod *corev1.Pod, try int) (*corev1.Pod, error) {
	probe := r.Step.Isolate.Probe
	address, err := netip.ParseAddr(pod.Status.PodIP)
	if err != nil {
		return nil, fmt.Errorf("%s has no address yet", r.targetName())
	}
	ports := probePorts(probe, pod)
	if len(ports) == 0 {
		return nil, fmt.Errorf("the containers of %s name no TCP port: name some in `isolate.probe.ports`", r.targetName())
	}
	host, port, err := net.SplitHostPort(cmp.Or(probe.Reference, defaultProbeReference))
	if number, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || number == 0 || host == "" {
		return nil, fmt.Errorf("`isolate.probe.reference` must be an address and a port, such as '%s'", defaultProbeReference)
	}
	containers := []corev1.Container{probeContainer(probe, controlContainer, host, port)}
	for _, one := range ports {
		text := strconv.Itoa(int(one))
		containers = append(containers, probeContainer(probe, portContainer+text, address.String(), text))
	}
	return &corev1.Pod{ObjectMeta: r.probeMeta(try), Spec: corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever, Containers: containers,
		ActiveDeadlineSeconds:         ptr.To(int64(probeTime / time.Second)),
		TerminationGracePeriodSeconds: ptr.To[int64](1),
		AutomountServiceAccountToken:  ptr.To(false), EnableServiceLinks: ptr.To(false),
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](probeUser), RunAsGroup: ptr.To[int64](probeUser),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}}, nil
}

// probePorts are the ports that the step names, or else those of the pod.
func probePorts(probe *v1alpha1.IsolationProbe, pod *corev1.Pod) []int32 {
	if len(probe.Ports) > 0 {
		return probe.Ports
	}
	var ports []int32
	for i := range pod.Spec.Containers {
		for _, port := range pod.Spec.Containers[i].Ports {
			isTCP := port.Protocol == "" || port.Protocol == corev1.ProtocolTCP
			if isTCP && !slices.Contains(ports, port.ContainerPort) && len(ports) < maxProbePorts {
				ports = append(ports, port.ContainerPort)
			}
		}
	}
	return ports
}

func probeContainer(probe *v1alpha1.IsolationProbe, name, host, port string) corev1.Container {
	given := probe.Command
	if len(given) == 0 {
		given = defaultProbeCommand
	}
	command := make([]string, 0, len(given)+2)
	for _, one := range given {
		command = append(command, string(one))
	}
	return corev1.Container{
		Name: name, Image: probe.Image, Command: append(command, host, port),
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: probeCPU, corev1.ResourceMemory: probeMemory},
			Limits:   corev1.ResourceList{corev1.ResourceCPU: probeCPU, corev1.ResourceMemory: probeMemory},
		},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}
}

// probeVerdict is what the containers of a probe have found.
type probeVerdict struct {
	// cut are the ports by which there was no connection; reached those by which there was;
	// allowed those of them that the step itself leaves open to the probe; and answered those
	// by which a connection was refused: by the network plugin, or by the pod, which was reached.
	cut, reached, allowed, answered []string
	// control says that the reference was reached; said is what was said when not.
	control bool
	said    string
	// open are the containers that have not ended by themselves: none of them proves anything.
	open []string
}

func (r *Request) verdictOf(probe *corev1.Pod) probeVerdict {
	ends := map[string]*corev1.ContainerStateTerminated{}
	for i := range probe.Status.ContainerStatuses {
		status := &probe.Status.ContainerStatuses[i]
		ends[status.Name] = status.State.Terminated
	}
	verdict := probeVerdict{}
	for i := range probe.Spec.Containers {
		name := probe.Spec.Containers[i].Name
		port, isPort := strings.CutPrefix(name, portContainer)
		switch end := ends[name]; {
		case !isPort && name != controlContainer:
			// Somebody has added it at admission.
		case end == nil || !endedItself(end):
			verdict.open = append(verdict.open, name)
		case !isPort:
			verdict.control, verdict.said = end.ExitCode == 0, lifecycle.Cut(printable(strings.TrimSpace(end.Message)), 128)
		case end.ExitCode == 0 && r.leavesOpen(probe.Status.PodIP, port):
			verdict.allowed = append(verdict.allowed, port)
		case end.ExitCode == 0:
			verdict.reached = append(verdict.reached, port)
		case strings.Contains(strings.ToLower(end.Message), "refused"):
			verdict.answered = append(verdict.answered, port)
		default:
			verdict.cut = append(verdict.cut, port)
		}
	}
	return verdict
}

// endedItself says that a command has run and ended: it was there, and nobody killed it.
func endedItself(end *corev1.ContainerStateTerminated) bool {
	return end.Signal == 0 && end.ExitCode >= 0 && end.ExitCode < 126 && (end.Reason == "Completed" || end.Reason == "Error")
}

// leavesOpen says whether the step's `allow.ingress` lets an address connect to a TCP port.
func (r *Request) leavesOpen(address, port string) bool {
	from, err := netip.ParseAddr(address)
	number, bad := strconv.ParseInt(port, 10, 32)
	if err != nil || bad != nil {
		return false
	}
	return slices.ContainsFunc(r.Step.Isolate.Allow.Ingress, func(open v1alpha1.AllowedTraffic) bool {
		return slices.ContainsFunc(open.CIDRs, func(cidr v1alpha1.CIDR) bool {
			block, err := netip.ParsePrefix(string(cidr))
			return err == nil && block.Contains(from)
		}) && (len(open.Ports) == 0 || slices.ContainsFunc(open.Ports, func(one v1alpha1.AllowedPort) bool {
			isTCP := one.Protocol == "" || one.Protocol == v1alpha1.AllowedProtocol(corev1.ProtocolTCP)
			return isTCP && int64(one.Port) <= number && number <= int64(max(one.Port, one.EndPort))
		}))
	})
}

// judgeProbe says what follows from what a probe has found.
func (r *Request) judgeProbe(probe *corev1.Pod, found probeVerdict, isolated lifecycle.Result) lifecycle.Result {
	reference := cmp.Or(r.Step.Isolate.Probe.Reference, defaultProbeReference)
	isOver := probe.Status.Phase == corev1.PodSucceeded || probe.Status.Phase == corev1.PodFailed || r.ending() ||
		r.Now.Sub(probe.CreationTimestamp.Time) > probeTime+probeGrace
	switch {
	case len(found.reached) > 0:
		return refused("%s is not isolated: Pod '%s' could connect to it by port %s, although no policy allows that: the network plugin may not enforce NetworkPolicies, or only later (retry the step); cut it off by other means",
			r.targetName(), probe.Name, strings.Join(found.reached, ", "))
	case len(found.open) > 0 && !isOver:
		return probing(isolated, probe.Name)
	case len(found.open) > 0:
		return unproven(isolated, fmt.Sprintf("Pod '%s' has given no verdict (%s): %s", probe.Name,
			lifecycle.Cut(firstText(probe.Status.Reason, string(probe.Status.Phase)), 64), strings.Join(found.open, ", ")))
	case !found.control:
		return unproven(isolated, fmt.Sprintf("it could not connect to %s either (%s)", reference, firstText(found.said, "no message")))
	case len(found.allowed) > 0:
		return unproven(isolated, fmt.Sprintf("`allow.ingress` lets it connect by port %s", strings.Join(found.allowed, ", ")))
	case len(found.answered) > 0:
		return unproven(isolated, fmt.Sprintf("connections by port %s were refused: by the network plugin, or by the pod, which was reached", strings.Join(found.answered, ", ")))
	}
	isolated.Proof = v1alpha1.ProofEnforced
	isolated.Message = say("%s; proved by Pod '%s', which could not connect to it by port %s, and could to %s",
		lifecycle.Cut(isolated.Message, maxBefore), probe.Name, strings.Join(found.cut, ", "), reference)
	return isolated
}
