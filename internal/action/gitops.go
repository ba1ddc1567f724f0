package action

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// What Flux and Argo CD write on the objects they manage.
const (
	fluxKustomization = "kustomize.toolkit.fluxcd.io/"
	fluxHelmRelease   = "helm.toolkit.fluxcd.io/"
	argoTracking      = "argocd.argoproj.io/tracking-id"
	argoInstance      = "argocd.argoproj.io/instance"
)

// gitOwner is the object by which Flux or Argo CD manages others.
type gitOwner struct{ product, kind, namespace, name string }

func (o *gitOwner) String() string {
	name := o.name
	if o.namespace != "" {
		name = o.namespace + "/" + name
	}
	return o.product + " " + o.kind + " " + name
}

// managedBy says which GitOps controller manages an object and puts back what others
// change on it: 'Flux Kustomization flux-system/shop'. It is nil where the object names
// none. It goes by what the object says of itself.
func managedBy(object metav1.Object) *gitOwner {
	labels, annotations := object.GetLabels(), object.GetAnnotations()
	for _, flux := range []struct{ prefix, kind string }{{fluxKustomization, "Kustomization"}, {fluxHelmRelease, "HelmRelease"}} {
		name, namespace := labels[flux.prefix+"name"], labels[flux.prefix+"namespace"]
		if isName(name) && isName(namespace) && !leftAlone(object, flux.prefix) {
			return &gitOwner{"Flux", flux.kind, namespace, name}
		}
	}
	// The tracking id is '<application>:<group>/<kind>:<namespace>/<name>', and an
	// application outside Argo CD's own namespace is '<namespace>_<name>'.
	application, _, tracked := strings.Cut(annotations[argoTracking], ":")
	if !tracked {
		application = labels[argoInstance]
	}
	if namespace, name, elsewhere := strings.Cut(application, "_"); elsewhere && isName(namespace) && isName(name) {
		return &gitOwner{"Argo CD", "Application", namespace, name}
	}
	if isName(application) {
		return &gitOwner{"Argo CD", "Application", "", application}
	}
	return nil
}

// leftAlone says that Flux was told not to touch an object that it has made.
func leftAlone(object metav1.Object, prefix string) bool {
	for _, told := range []map[string]string{object.GetAnnotations(), object.GetLabels()} {
		if told[prefix+"reconcile"] == "disabled" || told[prefix+"ssa"] == "Ignore" || told[prefix+"ssa"] == "IfNotPresent" {
			return true
		}
	}
	return false
}

// fighterOf gives who may take back what is changed on an object. One that manages itself
// does not: what is done to it is to stop it.
func fighterOf(object metav1.Object) *gitOwner {
	owner := managedBy(object)
	if owner == nil || owner.name != object.GetName() || owner.namespace != "" && owner.namespace != object.GetNamespace() {
		return owner
	}
	if typed, ok := object.(runtime.Object); ok && typed.GetObjectKind().GroupVersionKind().Kind == owner.kind {
		return nil
	}
	return owner
}

// fights says who may take back what is changed on an object; empty when nobody is known to.
func fights(name string, object metav1.Object) string {
	if owner := fighterOf(object); owner != nil {
		return say("%s is managed by %s, which may put it back as it is in git: suspend that first, or change it in git", name, owner)
	}
	return ""
}

// acting is the plan of a change of an object, with who may take it back.
func acting(name string, object metav1.Object, undo []byte, message string) lifecycle.Result {
	return lifecycle.Result{State: v1alpha1.TargetActing, Undo: string(undo), Message: say("%s", message), Warning: fights(name, object)}
}

// takenBack is a failure because something has taken a change back, with who may have.
func takenBack(object metav1.Object, format string, args ...any) lifecycle.Result {
	message := fmt.Sprintf(format, args...)
	if owner := fighterOf(object); owner != nil {
		message += fmt.Sprintf("; it is managed by %s: suspend that first, or change it in git", owner)
	}
	return failed("%s", message)
}

func isName(name string) bool { return len(validation.IsDNS1123Subdomain(name)) == 0 }
