package cluster

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

// stages tell kwok how a node's and a pod's life goes.
//
//go:embed stages/*.yaml
var stages embed.FS

const fakeNode = "kwok.x-k8s.io/node"

// clusterLogs makes every container's log the same file, so that logs can be
// collected although nothing runs.
const clusterLogs = `apiVersion: kwok.x-k8s.io/v1alpha1
kind: ClusterLogs
metadata:
  name: firebreak-dev
spec:
  logs:
  - {logsFile: %q, previousLogsFile: %q, follow: false}
`

func (c *Cluster) kwokArgs(port int) []string {
	return []string{
		"--config=" + c.config("kwok.yaml"),
		"--kubeconfig=" + c.config(string(Kwok)+".kubeconfig"),
		"--manage-nodes-with-annotation-selector=" + fakeNode + "=fake",
		"--node-lease-duration-seconds=40",
		"--node-ip=127.0.0.1",
		fmt.Sprintf("--node-port=%d", port),
		"--server-address=" + address(port),
		"--tls-cert-file=" + c.pki.serving.Certificate,
		"--tls-private-key-file=" + c.pki.serving.Key,
	}
}

func (c *Cluster) writeKwokConfig() error {
	var config bytes.Buffer
	entries, err := stages.ReadDir("stages")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		stage, err := stages.ReadFile("stages/" + entry.Name())
		if err != nil {
			return err
		}
		config.Write(stage)
		config.WriteString("\n---\n")
	}
	current := filepath.Join(c.options.Dir, "logs", "container.log")
	previous := filepath.Join(c.options.Dir, "logs", "container-previous.log")
	fmt.Fprintf(&config, clusterLogs, current, previous)
	for path, lines := range map[string][]string{
		current:  {"starting", "listening on :8080", "GET / 200 1ms", "GET /healthz 200 0ms"},
		previous: {"starting", "listening on :8080", "terminated"},
	} {
		if err := writeContainerLog(path, lines); err != nil {
			return err
		}
	}
	return os.WriteFile(c.config("kwok.yaml"), config.Bytes(), 0o600)
}

// writeContainerLog writes the format of the container runtime interface.
func writeContainerLog(path string, lines []string) error {
	var log bytes.Buffer
	for i, line := range lines {
		at := time.Date(2026, time.January, 1, 0, 0, i, 0, time.UTC)
		fmt.Fprintf(&log, "%s stdout F %s\n", at.Format(time.RFC3339Nano), line)
	}
	return os.WriteFile(path, log.Bytes(), 0o600)
}

func (c *Cluster) createNodes(ctx context.Context) error {
	config, err := c.RESTConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	for i := range c.options.Nodes {
		_, err := client.CoreV1().Nodes().Create(ctx, node(i+1), metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	ready := 0
	err = wait.PollUntilContextTimeout(ctx, pollInterval, startTimeout, true, func(ctx context.Context) (bool, error) {
		nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		ready = 0
		for i := range nodes.Items {
			if c.isReady(&nodes.Items[i]) {
				ready++
			}
		}
		return ready >= c.options.Nodes, nil
	})
	if err != nil {
		return fmt.Errorf("%d of %d are ready: %w", ready, c.options.Nodes, err)
	}
	c.options.Log("%d fake nodes are ready", ready)
	return nil
}

func node(number int) *corev1.Node {
	name := fmt.Sprintf("node-%d", number)
	capacity := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("32"),
		corev1.ResourceMemory: resource.MustParse("256Gi"),
		corev1.ResourcePods:   resource.MustParse("1000"),
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{fakeNode: "fake"},
			Labels: map[string]string{
				corev1.LabelHostname:   name,
				corev1.LabelOSStable:   "linux",
				corev1.LabelArchStable: runtime.GOARCH,
			},
		},
		Status: corev1.NodeStatus{Capacity: capacity, Allocatable: capacity},
	}
}

// isReady also waits until the controller manager has taken away what keeps pods
// off a node that was not ready.
func (c *Cluster) isReady(node *corev1.Node) bool {
	for _, taint := range node.Spec.Taints {
		if taint.Key == corev1.TaintNodeNotReady && c.wants(ControllerManager) {
			return false
		}
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}
