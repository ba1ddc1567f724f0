package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

const (
	// maxLogBytes is how much of one log is kept.
	maxLogBytes = 64 << 20
	// logTimeout bounds the reading of one log: a node may be cut off.
	logTimeout = 10 * time.Second

	defaultTailLines = 5000

	// An Evidence holds no more of what a pod says of its images and containers.
	maxImageName   = 512
	maxContainerID = 253
)

// logSource is one log of a pod.
type logSource struct {
	container string
	image     string
	previous  bool
	origin    v1alpha1.EvidenceOrigin
}

func (s logSource) name() string {
	if s.previous {
		return fmt.Sprintf("log of container %s before its restart", s.container)
	}
	return fmt.Sprintf("log of container %s", s.container)
}

func (s logSource) key() string {
	if s.previous {
		return "log/" + s.container + "/previous"
	}
	return "log/" + s.container
}

// logs keeps the logs of all containers of a pod. When the node does not answer for one
// of them it is not asked for the others. It fails with what is worth another try only
// after all that can be read is kept.
func (c *collection) logs(ctx context.Context, options *v1alpha1.CollectLogs) error {
	if c.request.Target.Kind != "Pod" {
		return nil
	}
	pod := &corev1.Pod{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(c.object.Object, pod); err != nil {
		c.missed = append(c.missed, fmt.Sprintf("logs: the pod cannot be read: %v", err))
		return nil
	}
	silent, again := "", error(nil)
	for _, source := range logSources(pod, options) {
		if silent != "" {
			c.missed = append(c.missed, source.name()+": "+silent)
			continue
		}
		unread, err := c.log(ctx, source, options)
		if err != nil {
			return errors.Join(again, err)
		}
		if unread == nil {
			continue
		}
		if failure := c.request.again(source.name(), unread); failure != nil {
			again = errors.Join(again, failure)
		} else {
			c.miss(source.name(), unread, access{verb: "get", resource: "pods/log", namespace: pod.Namespace, name: pod.Name})
		}
		if nodeIsSilent(unread) {
			silent = "its node does not answer"
		}
	}
	return again
}

// nodeIsSilent says that the failure is the node's and not this container's.
func nodeIsSilent(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || apierrors.IsInternalError(err) || apierrors.IsTimeout(err) ||
		apierrors.IsServerTimeout(err) || apierrors.IsServiceUnavailable(err)
}

// log keeps one log. It gives the error by which it could not be read apart from the
// one by which it could not be preserved.
func (c *collection) log(ctx context.Context, source logSource, options *v1alpha1.CollectLogs) (unread, err error) {
	lines, limit := options.TailLines, int64(maxLogBytes)
	if lines == 0 {
		lines = defaultTailLines
	}
	// One byte more than is kept tells a log that was cut from one that just fits.
	beyond := limit + 1
	from := &logReader{limit: limit}
	spec := c.spec(v1alpha1.EvidenceLog, fmt.Sprintf("the last %d lines with timestamps from the Kubernetes API (pods/log, previous=%t)", lines, source.previous), mediaTypeText)
	spec.Resource.Container, spec.Resource.Image = source.container, source.image
	spec.Origin = source.origin
	record := Record{Key: source.key(), Spec: spec,
		Open: func(ctx context.Context) (io.ReadCloser, error) {
			ctx, from.cancel = context.WithTimeout(ctx, logTimeout)
			stream, err := c.request.Logs.OpenLog(ctx, c.request.Target.Namespace, c.request.Target.Name, &corev1.PodLogOptions{
				Container: source.container, Previous: source.previous, Timestamps: true, TailLines: &lines, LimitBytes: &beyond,
			})
			if err != nil {
				from.cancel()
				unread = err
				return nil, err
			}
			from.stream = stream
			return from, nil
		},
		Complete: func(spec *v1alpha1.EvidenceSpec) { spec.Method += from.note() },
	}
	if err := c.keep(ctx, source.name(), record); err != nil && unread == nil {
		return nil, err
	}
	return unread, nil
}

// logReader reads a log up to a limit. A stream that breaks off ends there: the part of
// a log is better evidence than none.
type logReader struct {
	stream io.ReadCloser
	cancel context.CancelFunc
	limit  int64
	read   int64
	cut    bool
	broken error
}

// Read reads the log.
func (l *logReader) Read(into []byte) (int, error) {
	if l.cut || l.broken != nil {
		return 0, io.EOF
	}
	count, err := l.stream.Read(into)
	if over := l.read + int64(count) - l.limit; over > 0 {
		count -= int(over)
		l.cut = true
		err = io.EOF
	}
	l.read += int64(count)
	if err != nil && !errors.Is(err, io.EOF) {
		l.broken = err
		err = io.EOF
	}
	return count, err
}

// Close closes the stream.
func (l *logReader) Close() error {
	l.cancel()
	return l.stream.Close()
}

// note says that something is missing.
func (l *logReader) note() string {
	switch {
	case l.cut:
		return fmt.Sprintf("; cut after %d bytes", l.read)
	case l.broken != nil:
		return fmt.Sprintf("; broke off after %d bytes", l.read)
	default:
		return ""
	}
}

// logSources lists the logs a pod has: of its containers, and where they were
// restarted, those before.
func logSources(pod *corev1.Pod, options *v1alpha1.CollectLogs) []logSource {
	statuses := map[string]*corev1.ContainerStatus{}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses} {
		for i := range list {
			statuses[list[i].Name] = &list[i]
		}
	}
	var sources []logSource
	add := func(name, image string) {
		source := logSource{container: name, image: lifecycle.Cut(image, maxImageName), origin: v1alpha1.EvidenceOrigin{Node: pod.Spec.NodeName}}
		status := statuses[name]
		if status != nil {
			source.origin.ContainerID = lifecycle.Cut(status.ContainerID, maxContainerID)
			source.origin.ImageID = lifecycle.Cut(status.ImageID, maxImageName)
		}
		if started(status) {
			sources = append(sources, source)
		}
		if status != nil && status.LastTerminationState.Terminated != nil && options.Previous != v1alpha1.Exclude {
			source.previous = true
			source.origin.ContainerID = lifecycle.Cut(status.LastTerminationState.Terminated.ContainerID, maxContainerID)
			source.origin.ImageID = ""
			sources = append(sources, source)
		}
	}
	for _, container := range pod.Spec.Containers {
		add(container.Name, container.Image)
	}
	for _, container := range pod.Spec.InitContainers {
		add(container.Name, container.Image)
	}
	for _, container := range pod.Spec.EphemeralContainers {
		add(container.Name, container.Image)
	}
	return sources
}

// started says whether a container can have a log. Where its state is not known, it may.
func started(status *corev1.ContainerStatus) bool {
	return status == nil || status.State.Waiting == nil || status.LastTerminationState.Terminated != nil
}
