package action

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// What Flux and Argo CD write on the objects they manage.
const (
	fluxKustomization = "kustomize.toolkit.fluxcd.io/"
	fluxHelmRelease   = "helm.toolkit.fluxcd.io/"
	argoTracking      = "argocd.argoproj.io/tracking-id"
	argoInstance      = "argocd.argoproj.io/instance"
)

// managedBy says which GitOps controller manages an object and puts back what others
// change on it: 'managed by Flux Kustomization flux-system/shop'. It is empty where the
// object names none. It goes by what the object says of itself.
func managedBy(object metav1.Object) string {
	labels, annotations := object.GetLabels(), object.GetAnnotations()
	for _, flux := range []struct{ prefix, kind string }{{fluxKustomization, "Kustomization"}, {fluxHelmRelease, "HelmRelease"}} {
		if name, namespace := labels[flux.prefix+"name"], labels[flux.prefix+"namespace"]; isName(name) && isName(namespace) {
			return fmt.Sprintf("managed by Flux %s %s/%s", flux.kind, namespace, name)
		}
	}
	// The tracking id is '<application>:<group>/<kind>:<namespace>/<name>', and an
	// application outside Argo CD's own namespace is '<namespace>_<name>'.
	application, _, tracked := strings.Cut(annotations[argoTracking], ":")
	if !tracked {
		application = labels[argoInstance]
	}
	if namespace, name, elsewhere := strings.Cut(application, "_"); elsewhere && isName(namespace) && isName(name) {
		return fmt.Sprintf("managed by Argo CD Application %s/%s", namespace, name)
	}
	if isName(application) {
		return "managed by Argo CD Application " + application
	}
	return ""
}

// fightWarning ends a message with who may put back what is changed; empty when nobody is known to.
func fightWarning(object metav1.Object) string {
	by := managedBy(object)
	if by == "" {
		return ""
	}
	return fmt.Sprintf("; it is %s, which may put back what is changed: suspend that first, or change it in git", by)
}

func isName(name string) bool { return len(validation.IsDNS1123Subdomain(name)) == 0 }
