package fault

import (
	"fmt"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ignoreRace leaves out that somebody else has changed the object, or that it is gone.
func ignoreRace(err error) error {
	if apierrors.IsConflict(err) {
		return nil
	}
	return client.IgnoreNotFound(err)
}

// noteThing keeps what becomes of the objects that the actions act on, state after state.
func (w *world) noteThing(change watch.Event) {
	if w.things == nil {
		return
	}
	object, ok := change.Object.(client.Object)
	if !ok {
		return
	}
	name, state := w.thing(object)
	if name == "" {
		return
	}
	switch change.Type {
	case watch.Deleted:
		state = "gone"
	case watch.Added:
		state = "made " + state
	}
	if states := w.things[name]; len(states) == 0 || states[len(states)-1] != state {
		w.things[name] = append(states, state)
	}
}

// thing names an object, alike in every incident, and says in which state it is; the name
// is empty when it is none of the playbook's.
func (w *world) thing(object client.Object) (name, state string) {
	kind := strings.TrimPrefix(fmt.Sprintf("%T", object), "*v1.")
	name = kind + " " + strings.TrimSuffix(object.GetName(), w.Namespace)
	ours := strings.HasSuffix(object.GetName(), w.Namespace)
	switch object := object.(type) {
	case *corev1.ConfigMap:
		return name, fmt.Sprint(object.Data)
	case *batchv1.CronJob:
		return name, fmt.Sprintf("suspend=%t", object.Spec.Suspend != nil && *object.Spec.Suspend)
	case *appsv1.Deployment:
		return name, fmt.Sprintf("replicas=%d image=%s restarts=%d", *object.Spec.Replicas, object.Spec.Template.Spec.Containers[0].Image, w.restartsOf(object))
	case *rbacv1.RoleBinding:
		names := make([]string, 0, len(object.Subjects))
		for _, subject := range object.Subjects {
			names = append(names, subject.Name)
		}
		slices.Sort(names)
		return name, fmt.Sprint(names)
	case *corev1.Node:
		if !ours {
			return "", ""
		}
		taints := make([]string, 0, len(object.Spec.Taints))
		for _, taint := range object.Spec.Taints {
			taints = append(taints, taint.Key+":"+string(taint.Effect))
		}
		return name, fmt.Sprintf("unschedulable=%t taints=%v", object.Spec.Unschedulable, taints)
	case *batchv1.Job:
		return w.numbered(kind, object.UID), ""
	case *admissionv1.ValidatingAdmissionPolicy, *admissionv1.ValidatingAdmissionPolicyBinding:
		if w.incident == "" || !strings.Contains(object.GetName(), w.incident) {
			return "", ""
		}
		return w.numbered(kind, object.GetUID()), ""
	}
	return "", ""
}

// numbered names an object whose own name is different in every incident.
func (w *world) numbered(kind string, uid types.UID) string {
	if !slices.Contains(w.met[kind], uid) {
		if w.met == nil {
			w.met = map[string][]types.UID{}
		}
		w.met[kind] = append(w.met[kind], uid)
	}
	return fmt.Sprintf("%s %d", kind, slices.Index(w.met[kind], uid)+1)
}

// restartsOf counts how often a workload was restarted.
func (w *world) restartsOf(workload *appsv1.Deployment) int {
	at := workload.Spec.Template.Annotations["kubectl.kubernetes.io/restartedAt"]
	key := workload.Name + " " + at
	if w.restarts == nil {
		w.restarts = map[string]bool{}
	}
	if at != "" {
		w.restarts[key] = true
	}
	count := 0
	for known := range w.restarts {
		if strings.HasPrefix(known, workload.Name+" ") {
			count++
		}
	}
	return count
}
