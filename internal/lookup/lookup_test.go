package lookup

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestNamesNoObjectCanHave: an object of such a name is not there, and nobody is asked for it.
func TestNamesNoObjectCanHave(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		asked = append(asked, request.URL.Path)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"cart"}}`))
	}))
	defer server.Close()
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace)
	bare, err := client.NewWithWatch(&rest.Config{Host: server.URL}, client.Options{Scheme: scheme.Scheme, Mapper: mapper})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []client.ObjectKey{
		{Namespace: "shop", Name: "tenant/cart"}, {Namespace: "shop", Name: ".."}, {Namespace: "shop", Name: "."},
		{Namespace: "shop", Name: "a%b"}, {Namespace: "shop/x", Name: "cart"}, {Namespace: "..", Name: "cart"},
	} {
		if err := bare.Get(t.Context(), key, &corev1.Pod{}); err == nil || apierrors.IsNotFound(err) {
			t.Errorf("%s: without this package the error is %v", key, err)
		}
		for what, from := range map[string]client.Reader{"reader": Reader(bare), "client": Client(bare)} {
			if err := from.Get(t.Context(), key, &corev1.Pod{}); !apierrors.IsNotFound(err) {
				t.Errorf("%s: the error of the %s is %v, must be one that says that it is not there", key, what, err)
			}
		}
	}
	for _, from := range []client.Reader{Reader(bare), Client(bare)} {
		if err := from.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: "cart"}, &corev1.Pod{}); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff([]string{"/api/v1/namespaces/shop/pods/cart", "/api/v1/namespaces/shop/pods/cart"}, asked); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
}
