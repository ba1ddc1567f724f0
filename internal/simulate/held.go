package simulate

import (
	"fmt"
	"slices"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// held says what would keep a step from acting at once on what leads to its targets, as far
// as names tell.
func (k *simulation) held(named []v1alpha1.ResourceReference, result *Step) {
	limit := int(k.playbook.Spec.Limits.MaxTargets)
	if k.incident.Spec.Severity == v1alpha1.SeverityCritical {
		limit += limit / 2
	}
	if limit > 0 && len(result.Targets) > limit {
		result.Notes = append(result.Notes, fmt.Sprintf("%d targets are more than `limits.maxTargets` allows (%d): what is beyond waits for an approval", len(result.Targets), limit))
	}
	for i := range named {
		one := &named[i]
		if why := k.hold(lifecycle.NamespaceOf(one.APIVersion, one.Kind, one.Namespace, one.Name)); why != "" {
			addNew(&result.Notes, why+": what is in it waits for an approval")
		}
	}
}

// hold says why nothing is written in a namespace without an approval.
func (k *simulation) hold(namespace string) string {
	if !slices.Contains(k.playbook.Spec.Limits.AllowProtected, v1alpha1.ProtectedNamespace(namespace)) {
		switch {
		case namespace == "kube-system", namespace == v1alpha1.SystemNamespace:
			return fmt.Sprintf("namespace '%s' is protected", namespace)
		case k.domain.Protected[namespace]:
			return fmt.Sprintf("namespace '%s' is protected by its label %s", namespace, v1alpha1.LabelProtected)
		}
	}
	return lifecycle.OutOfScope(&k.playbook.Spec, namespace)
}
