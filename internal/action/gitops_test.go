package action

import (
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
		"a Kustomization":   {labels: map[string]string{"kustomize.toolkit.fluxcd.io/name": "shop", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}, want: "managed by Flux Kustomization flux-system/shop"},
		"a HelmRelease":     {labels: map[string]string{"helm.toolkit.fluxcd.io/name": "shop", "helm.toolkit.fluxcd.io/namespace": "apps"}, want: "managed by Flux HelmRelease apps/shop"},
		"half of Flux":      {labels: map[string]string{"helm.toolkit.fluxcd.io/name": "shop"}},
		"Argo CD":           {annotations: map[string]string{"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/cart"}, want: "managed by Argo CD Application shop"},
		"Argo CD elsewhere": {annotations: map[string]string{"argocd.argoproj.io/tracking-id": "team-a_shop:apps/Deployment:shop/cart"}, want: "managed by Argo CD Application team-a/shop"},
		"Argo CD by label":  {labels: map[string]string{"argocd.argoproj.io/instance": "shop"}, want: "managed by Argo CD Application shop"},
		"hostile":           {annotations: map[string]string{"argocd.argoproj.io/tracking-id": "\x1b[2Jshop:x"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := managedBy(&metav1.ObjectMeta{Labels: test.labels, Annotations: test.annotations}); got != test.want {
				t.Errorf("managedBy() = %q, want %q", got, test.want)
			}
		})
	}
}
