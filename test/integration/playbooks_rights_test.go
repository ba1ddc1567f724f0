package integration

import (
	"path/filepath"
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/test/harness"
)

// computedTargets are rights on what `targets` takes from the alert: the steps do not tell
// their kinds before they run.
var computedTargets = map[string][]string{
	"crypto-miner":       {"get cronjobs.batch"},
	"leaked-credentials": {"get serviceaccounts"},
	"node-compromise":    {"watch nodes"},
	"vulnerable-image":   {"watch deployments.apps", "watch statefulsets.apps", "watch daemonsets.apps"},
	"privilege-escalation": {
		"get rolebindings.rbac.authorization.k8s.io", "get clusterrolebindings.rbac.authorization.k8s.io",
		"patch rolebindings.rbac.authorization.k8s.io", "patch clusterrolebindings.rbac.authorization.k8s.io",
		"delete rolebindings.rbac.authorization.k8s.io", "delete clusterrolebindings.rbac.authorization.k8s.io",
		"bind clusterroles.rbac.authorization.k8s.io",
	},
	"denial-of-service": {"get ingresses.networking.k8s.io", "patch ingresses.networking.k8s.io"},
}

// TestReadyMadePlaybooksHaveNoMoreRightsThanTheyNeed compares each rbac.yaml with what the
// actions say they need. That nothing is missing is what `Authorized` says, and the runs show.
func TestReadyMadePlaybooksHaveNoMoreRightsThanTheyNeed(t *testing.T) {
	root := harness.Get(t).Root
	for name := range readyMades {
		t.Run(name, func(t *testing.T) {
			objects, err := harness.Load(filepath.Join(root, "config", "playbooks", name))
			done(t, err)
			needed := computedTargets[name]
			var granted []string
			for _, object := range objects {
				switch object.GetKind() {
				case "ResponsePlaybook":
					playbook := &v1alpha1.ResponsePlaybook{}
					done(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, playbook))
					for _, step := range action.PlaybookRights(&playbook.Spec) {
						for _, right := range step.Rights {
							needed = append(needed, each(right.Verbs, right.Group, right.Resource)...)
						}
					}
				case "Role", "ClusterRole":
					role := &rbacv1.ClusterRole{}
					done(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, role))
					for _, rule := range role.Rules {
						for _, resource := range rule.Resources {
							granted = append(granted, each(rule.Verbs, rule.APIGroups[0], resource)...)
						}
					}
				}
			}
			if (len(granted) == 0) != readyMades[name].people {
				t.Errorf("got the rights %v, want some unless people do everything", granted)
			}
			for _, right := range granted {
				if !slices.Contains(needed, right) {
					t.Errorf("rbac.yaml grants %q, which no step needs; they need %q", right, needed)
				}
			}
		})
	}
}

// each says verbs on a resource in words, one by one: 'get deployments.apps'.
func each(verbs []string, group, resource string) []string {
	rights := make([]string, 0, len(verbs))
	for _, verb := range verbs {
		right := verb + " " + resource
		if group != "" {
			right += "." + group
		}
		rights = append(rights, right)
	}
	return rights
}
