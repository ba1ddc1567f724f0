package workload

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Recent asks the API server for an object as it has it in memory, usually some milliseconds old,
// which spares it a question to etcd. It is for what hardly ever changes while the object is there, as
// its owner and its selector, or what is judged anew later.
var Recent client.GetOption = &client.GetOptions{Raw: &metav1.GetOptions{ResourceVersion: "0"}}

// GetRecent reads an object by Recent; and as it is now, when it is not there or is another than
// the one with this UID. An empty UID means any.
func GetRecent(ctx context.Context, reader client.Reader, key client.ObjectKey, object client.Object, uid types.UID) error {
	err := reader.Get(ctx, key, object, Recent)
	if apierrors.IsNotFound(err) || err == nil && uid != "" && object.GetUID() != uid {
		return reader.Get(ctx, key, object)
	}
	return err
}
