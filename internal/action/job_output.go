package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

const (
	// maxJobOutput is how much of the end of a container's log becomes an output.
	maxJobOutput = 1024
	// maxJobLog is how much of a container's log is kept as Evidence.
	maxJobLog = 4 << 20
	// maxJobContainers is of how many containers the output is kept.
	maxJobContainers = 8
	// tailLines are enough lines to hold an output.
	tailLines = 200
)

// jobOutput is what a Job has said.
type jobOutput struct {
	outputs []v1alpha1.StepOutput
	first   string
	exit    string
	missed  []string
}

// explain says how a failed Job has ended.
func (o *jobOutput) explain() string {
	var text strings.Builder
	if o.exit != "" {
		_, _ = fmt.Fprintf(&text, ": exit code %s", o.exit)
	}
	if o.first != "" {
		_, _ = fmt.Fprintf(&text, "; its last words: %s", lastBytes(o.first, 256))
	}
	return text.String() + o.missing()
}

func (o *jobOutput) missing() string {
	if len(o.missed) == 0 {
		return ""
	}
	return "; not kept: " + strings.Join(o.missed, "; ")
}

// keepOutput preserves the logs of the Job's last pod, and makes outputs of their ends.
// The first container's are `output` and `exitCode`; the others have theirs with their
// name at the end, such as `output_sidecar`.
func (r *Request) keepOutput(ctx context.Context, found *batchv1.Job) (*jobOutput, *lifecycle.Result) {
	said := &jobOutput{}
	pod, problem := r.lastPod(ctx, found)
	if problem != nil {
		return nil, problem
	}
	if pod == nil {
		said.missed = append(said.missed, "the output: its pods are gone")
		return said, nil
	}
	exits := map[string]string{}
	for _, status := range pod.Status.ContainerStatuses {
		if ended := status.State.Terminated; ended != nil {
			exits[status.Name] = fmt.Sprint(ended.ExitCode)
		}
	}
	sources := logSources(pod, &v1alpha1.CollectLogs{Previous: v1alpha1.Exclude})
	for i, source := range sources[:min(len(sources), maxJobContainers)] {
		text, unread, err := r.jobLog(ctx, pod, source)
		if errors.Is(err, ErrNoRoom) {
			// What it has done is done: a volume that is full makes no failure of it.
			said.missed = append(said.missed, fmt.Sprintf("%s: %v", source.name(), err))
		} else if err != nil {
			// The bytes were read but could not be stored: it is tried again.
			problem := failed("Job '%s' has ended, but its output could not be kept: %v", found.Name, err)
			return nil, &problem
		}
		if failure := r.again(source.name(), unread); failure != nil {
			problem := failed("Job '%s' has ended, but its output could not be read: %v", found.Name, failure)
			return nil, &problem
		}
		if unread != nil {
			message, _ := r.explain(unread, access{verb: "get", resource: "pods/log", namespace: pod.Namespace, name: pod.Name})
			said.missed = append(said.missed, source.name()+": "+message)
		}
		said.add(i == 0, source.container, text, exits[source.container])
	}
	return said, nil
}

func (o *jobOutput) add(first bool, container, text, exit string) {
	suffix := ""
	if first {
		o.first, o.exit = text, exit
	} else {
		suffix = "_" + strings.ReplaceAll(lifecycle.Cut(container, 50), "-", "_")
	}
	o.outputs = append(o.outputs, v1alpha1.StepOutput{Name: "output" + suffix, Value: ptr.To(text)})
	if exit != "" {
		o.outputs = append(o.outputs, v1alpha1.StepOutput{Name: "exitCode" + suffix, Value: ptr.To(exit)})
	}
}

// lastPod finds the pod that was started last.
func (r *Request) lastPod(ctx context.Context, found *batchv1.Job) (*corev1.Pod, *lifecycle.Result) {
	pods := &corev1.PodList{}
	err := r.Client.List(ctx, pods, client.InNamespace(found.Namespace), client.MatchingLabels{batchv1.ControllerUidLabel: string(found.UID)})
	if err != nil {
		problem := r.failure(err, access{verb: "list", resource: "pods", namespace: found.Namespace})
		return nil, &problem
	}
	if len(pods.Items) == 0 {
		return nil, nil
	}
	slices.SortFunc(pods.Items, func(a, b corev1.Pod) int {
		if order := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); order != 0 {
			return order
		}
		return strings.Compare(a.Name, b.Name)
	})
	return &pods.Items[len(pods.Items)-1], nil
}

// jobLog preserves the log of one container, and gives its end, also with ErrNoRoom. It tells
// what could not be read from what could not be stored.
func (r *Request) jobLog(ctx context.Context, pod *corev1.Pod, source logSource) (end string, unread, err error) {
	record := Record{Key: "job/" + source.container, Spec: v1alpha1.EvidenceSpec{
		Type: v1alpha1.EvidenceLog, MediaType: mediaTypeText, Origin: source.origin,
		Method: fmt.Sprintf("the log of Job '%s' with timestamps from the Kubernetes API (pods/log)", lifecycle.Cut(r.jobName(), 128)),
		Resource: &v1alpha1.ResourceReference{
			APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: v1alpha1.ObjectUID(pod.UID),
			Container: source.container, Image: source.image, Node: pod.Spec.NodeName,
		},
	}}
	from := &logReader{limit: maxJobLog}
	record.Open = func(ctx context.Context) (io.ReadCloser, error) {
		stream, cancel, err := r.openLog(ctx, pod, &corev1.PodLogOptions{Container: source.container, Timestamps: true, LimitBytes: ptr.To[int64](maxJobLog + 1)})
		unread = err
		from.stream, from.cancel = stream, cancel
		return from, err
	}
	record.Complete = func(spec *v1alpha1.EvidenceSpec) { spec.Method += from.note() }
	var noRoom error
	if r.Evidence != nil {
		_, noRoom = r.Evidence.Preserve(ctx, r, record)
		if noRoom != nil && unread == nil && !errors.Is(noRoom, ErrNoRoom) {
			return "", nil, noRoom
		}
	}
	if unread != nil {
		return "", unread, nil
	}
	stream, cancel, err := r.openLog(ctx, pod, &corev1.PodLogOptions{Container: source.container, TailLines: ptr.To[int64](tailLines), LimitBytes: ptr.To[int64](maxJobLog)})
	if err != nil {
		return "", err, nil
	}
	defer cancel()
	text, err := io.ReadAll(io.LimitReader(stream, maxJobLog))
	_ = stream.Close() // what was read was read
	if err != nil && len(text) == 0 {
		return "", err, nil
	}
	return lastBytes(strings.TrimRight(strings.ToValidUTF8(string(text), "\uFFFD"), "\n"), maxJobOutput), nil, noRoom
}

func (r *Request) openLog(ctx context.Context, pod *corev1.Pod, options *corev1.PodLogOptions) (io.ReadCloser, context.CancelFunc, error) {
	ctx, cancel := context.WithTimeout(ctx, logTimeout)
	stream, err := r.Logs.OpenLog(ctx, pod.Namespace, pod.Name, options)
	if err != nil {
		cancel()
		return nil, cancel, err
	}
	return stream, cancel, nil
}

// lastBytes gives the end of a text, of at most so many bytes and characters.
func lastBytes(text string, most int) string {
	if len(text) <= most {
		return text
	}
	text = text[len(text)-most:]
	for len(text) > 0 && text[0]&0xC0 == 0x80 {
		text = text[1:]
	}
	return text
}
