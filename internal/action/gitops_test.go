package action

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestManagedBy(t *testing.T) {
	tests := map[string]struct {
		labels, annotations map[string]string
		want                string
	}{
		"nobody":            {},
		"any label":         {labels: map[string]string{"app.kubernetes.io/instance": "shop"}},
		"a Kustomization":   {labels: map[string]string{"kustomize.toolkit.fluxcd.io/name": "shop", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}, want: "Flux Kustomization flux-system/shop"},
		"a HelmRelease":     {labels: map[string]string{"helm.toolkit.fluxcd.io/name": "shop", "helm.toolkit.fluxcd.io/namespace": "apps"}, want: "Flux HelmRelease apps/shop"},
		"half of Flux":      {labels: map[string]string{"helm.toolkit.fluxcd.io/name": "shop"}},
		"Argo CD":           {annotations: map[string]string{"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/cart"}, want: "Argo CD Application shop"},
		"Argo CD elsewhere": {annotations: map[string]string{"argocd.argoproj.io/tracking-id": "team-a_shop:apps/Deployment:shop/cart"}, want: "Argo CD Application team-a/shop"},
		"Argo CD by label":  {labels: map[string]string{"argocd.argoproj.io/instance": "shop"}, want: "Argo CD Application shop"},
		"left alone by Flux": {
			labels:      map[string]string{"kustomize.toolkit.fluxcd.io/name": "shop", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"},
			annotations: map[string]string{"kustomize.toolkit.fluxcd.io/reconcile": "disabled"},
		},
		"not enforced by Flux": {
			labels: map[string]string{"kustomize.toolkit.fluxcd.io/name": "shop", "kustomize.toolkit.fluxcd.io/namespace": "flux-system", "kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent"},
		},
		"hostile": {annotations: map[string]string{"argocd.argoproj.io/tracking-id": "\x1b[2Jshop:x"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := ""
			if owner := managedBy(&metav1.ObjectMeta{Labels: test.labels, Annotations: test.annotations}); owner != nil {
				got = owner.String()
			}
			if got != test.want {
				t.Errorf("managedBy() = %q, want %q", got, test.want)
			}
		})
	}
}

// TestFights tells what manages itself, which is to be stopped, from what others manage.
func TestFights(t *testing.T) {
	flux := map[string]string{"kustomize.toolkit.fluxcd.io/name": "flux-system", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}
	argo := map[string]string{"argocd.argoproj.io/instance": "argocd"}
	tests := map[string]struct {
		kind, namespace, name string
		labels                map[string]string
		want                  string
	}{
		"nobody's":                    {kind: "Deployment", namespace: "shop", name: "cart"},
		"another's":                   {kind: "Kustomization", namespace: "flux-system", name: "shop", labels: flux, want: "X is managed by Flux Kustomization flux-system/flux-system, which may put it back"},
		"of its name, in another":     {kind: "Kustomization", namespace: "shop", name: "flux-system", labels: flux, want: "X is managed by Flux"},
		"of its name, another kind":   {kind: "Namespace", name: "argocd", labels: argo, want: "X is managed by Argo CD Application argocd, "},
		"a Kustomization of itself":   {kind: "Kustomization", namespace: "flux-system", name: "flux-system", labels: flux},
		"an Application of itself":    {kind: "Application", namespace: "argocd", name: "argocd", labels: argo},
		"an Application of another's": {kind: "Application", namespace: "argocd", name: "shop", labels: argo, want: "X is managed by Argo CD Application argocd, "},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			object := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{Kind: test.kind}}
			object.SetNamespace(test.namespace)
			object.SetName(test.name)
			object.SetLabels(test.labels)
			if got := fights("X", object); !strings.HasPrefix(got, test.want) || (got == "") != (test.want == "") {
				t.Errorf("fights() = %q, want %q", got, test.want)
			}
		})
	}
}
