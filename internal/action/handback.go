package action

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/firebreak-dev/firebreak/internal/action/isolation"
)

// handbackPrefix begins the annotation by which a step that is undone, while others still
// hold the pod, leaves to them the labels that are to be given back. The last gives them.
const handbackPrefix = "labels.firebreak.dev/"

// maxHandback is how many labels left by others are given back at most.
const maxHandback = 64

// handback is which labels a pod is given back when a step lets go of it.
type handback struct {
	labels      map[string]any
	annotations map[string]any
	restored    []isolation.Label
	changed     []isolation.Label
	workload    []isolation.Label
	held        []isolation.Label
	// holder is who else holds the pod; empty when nobody does.
	holder string
}

// handBack decides which labels are given back when the step with that mark lets go of a
// pod: none that somebody has set since, none while another isolation or quarantine of any
// incident holds the pod, and those of the workload only on demand.
func handBack(pod *corev1.Pod, mark string, removed []isolation.Label, readopt bool) *handback {
	back := &handback{labels: map[string]any{}, annotations: map[string]any{}, holder: otherHolder(pod, mark)}
	if _, marked := pod.Labels[mark]; marked {
		back.labels[mark] = nil
	}
	if back.holder == "" {
		removed = slices.Concat(removed, leftLabels(pod))
		for key := range pod.Annotations {
			if strings.HasPrefix(key, handbackPrefix) {
				back.annotations[key] = nil
			}
		}
	}
	var left []isolation.Label
	seen := map[string]bool{}
	for _, label := range removed {
		value, present := pod.Labels[label.Key]
		kept := label.Workload && !readopt
		switch {
		case seen[label.Key]:
		case present && value == label.Value:
			back.restored = append(back.restored, label)
		case present:
			back.changed = append(back.changed, label)
		case back.holder != "":
			back.held = append(back.held, label)
			if !kept {
				left = append(left, isolation.Label{Key: label.Key, Value: label.Value})
			}
		case kept:
			back.workload = append(back.workload, label)
		default:
			back.labels[label.Key] = label.Value
			back.restored = append(back.restored, label)
		}
		seen[label.Key] = true
	}
	if text, err := json.Marshal(left); err == nil && len(left) > 0 {
		_, name, _ := strings.Cut(mark, "/")
		back.annotations[handbackPrefix+name] = string(text)
	}
	return back
}

// leftLabels are those that steps which were undone have left to be given back. Whoever may
// write the pod may forge them, and could as well set the labels.
func leftLabels(pod *corev1.Pod) []isolation.Label {
	var left []isolation.Label
	for _, key := range slices.Sorted(maps.Keys(pod.Annotations)) {
		var some []isolation.Label
		if !strings.HasPrefix(key, handbackPrefix) || json.Unmarshal([]byte(pod.Annotations[key]), &some) != nil {
			continue
		}
		for _, label := range some {
			if isGivable(label) && len(left) < maxHandback {
				left = append(left, isolation.Label{Key: label.Key, Value: label.Value})
			}
		}
	}
	return left
}

// isGivable says that a label can be one that was taken off a pod.
func isGivable(label isolation.Label) bool {
	return !isIsolationLabel(label.Key) && !strings.HasPrefix(label.Key, quarantinePrefix) &&
		len(validation.IsQualifiedName(label.Key)) == 0 && len(validation.IsValidLabelValue(label.Value)) == 0
}

// otherHolder says which other isolation or quarantine holds a pod that a mark is taken off;
// empty when none does.
func otherHolder(pod *corev1.Pod, own string) string {
	others := holdMarksOf(metav1.Object(pod), quarantinePrefix, "")
	delete(others, own)
	if len(others) > 0 {
		return holders(others) + " has it in quarantine"
	}
	for key := range pod.Labels {
		if isIsolationLabel(key) && key != own {
			return "another isolation holds it"
		}
	}
	return ""
}

// words say what becomes of the labels.
func (back *handback) words() []string {
	var parts []string
	for _, part := range []struct {
		says   string
		labels []isolation.Label
	}{
		{"given back: ", back.restored},
		{"left as somebody has set it since: ", back.changed},
		{"given back only later, because " + back.holder + ": ", back.held},
	} {
		if len(part.labels) > 0 {
			parts = append(parts, part.says+quoteKeys(part.labels))
		}
	}
	return parts
}
