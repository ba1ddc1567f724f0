package action

import (
	"fmt"
	"slices"
	"strings"

	"github.com/firebreak-dev/firebreak/internal/action/isolation"
)

// describe says what the isolation is and what follows from it.
func (record *isolateRecord) describe(verb string, cut isolation.Cut) string {
	var text strings.Builder
	_, _ = fmt.Fprintf(&text, "%s %s cut by NetworkPolicy '%s'", describeCut(cut), agree(verb, cut), record.Policy)
	if record.ClusterPolicy != "" {
		_, _ = fmt.Fprintf(&text, " and ClusterNetworkPolicy '%s'", record.ClusterPolicy)
	}
	if len(record.Removed) == 0 {
		return text.String()
	}
	_, _ = fmt.Fprintf(&text, "; %s taken off the pod, because other policies allow traffic by it", quoteKeys(record.Removed))
	if !slices.ContainsFunc(record.Removed, func(label isolation.Label) bool { return label.Workload }) {
		return text.String()
	}
	switch record.Owner.Kind {
	case "StatefulSet":
		_, _ = fmt.Fprintf(&text, "; StatefulSet '%s' loses the pod and cannot replace it until it is deleted", record.Owner.Name)
	case "":
	default:
		_, _ = fmt.Fprintf(&text, "; %s '%s' loses the pod and starts a clean one", record.Owner.Kind, record.Owner.Name)
	}
	return text.String()
}

// agree makes the verb agree with what describeCut names.
func agree(verb string, cut isolation.Cut) string {
	if verb == "is" && cut.Ingress && cut.Egress {
		return "are"
	}
	return verb
}

func describeCut(cut isolation.Cut) string {
	text := "ingress and egress"
	switch {
	case !cut.Egress:
		return "ingress"
	case !cut.Ingress:
		text = "egress"
	}
	var open []string
	if cut.AllowDNS && cut.Egress {
		open = append(open, "name resolution")
	}
	if len(cut.AllowIngress)+len(cut.AllowEgress) > 0 {
		open = append(open, "what `allow` leaves open")
	}
	if len(open) > 0 {
		text += " (but for " + strings.Join(open, " and ") + ")"
	}
	return text
}

func quoteKeys(labels []isolation.Label) string {
	keys := make([]string, 0, len(labels))
	for _, label := range labels {
		keys = append(keys, "'"+label.Key+"'")
	}
	word := "label "
	if len(keys) > 1 {
		word = "labels "
	}
	return word + strings.Join(keys, ", ")
}

// mustStay says of a label that it cannot be taken away: the labels of other isolations,
// and those that a StatefulSet puts back on its pods by itself.
func (record *isolateRecord) mustStay(key string) bool {
	return isIsolationLabel(key) || record.Owner.Kind == "StatefulSet" && slices.Contains(identityLabels, key)
}

func isIsolationLabel(key string) bool { return strings.HasPrefix(key, isolationPrefix) }
