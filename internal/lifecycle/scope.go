package lifecycle

import (
	"fmt"
	"slices"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// OutOfScope says why a playbook is not meant to act in a namespace; empty when it is. What
// is in no namespace is in every scope: only rights bound it.
func OutOfScope(playbook *v1alpha1.ResponsePlaybookSpec, namespace string) string {
	if playbook == nil || namespace == "" || len(playbook.Scope.Namespaces) == 0 ||
		slices.Contains(playbook.Scope.Namespaces, v1alpha1.ScopeNamespace(namespace)) {
		return ""
	}
	return fmt.Sprintf("namespace %s is none of the playbook's `scope.namespaces`, where it is meant to act", namespace)
}

// NamespaceOf is where an object is; a namespace is in itself.
func NamespaceOf(apiVersion, kind, namespace, name string) string {
	if apiVersion == "v1" && kind == "Namespace" {
		return name
	}
	return namespace
}

// lookAnew has every object looked at again for another playbook: that one has its own
// scope, limits and ServiceAccount. What a person has approved stays so.
func (m *machine) lookAnew() {
	for i := range m.status.Resources {
		resource := &m.status.Resources[i]
		if resource.State == v1alpha1.ResourcePresent && resource.ApprovedBy == "" {
			resource.State, resource.Hold = "", ""
		}
	}
	m.lookAgain()
}
