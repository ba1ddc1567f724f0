package harness

import (
	"encoding/json"
	"strings"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// describe shows an object without what only the API server needs.
func describe(object client.Object) string {
	shown, ok := object.DeepCopyObject().(client.Object)
	if !ok {
		return "unknown"
	}
	shown.SetManagedFields(nil)
	text, err := json.Marshal(shown)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func splitResource(full string) (resource, subresource string) {
	resource, subresource, _ = strings.Cut(full, "/")
	return resource, subresource
}

func hostOf(config *rest.Config) string {
	host := strings.TrimPrefix(config.Host, "https://")
	return strings.TrimSuffix(host, "/")
}
