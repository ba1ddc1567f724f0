// Package lookup reads objects by names that others have written: people in Decisions and
// plans, and whoever may create a pod in the owners that it claims to have.
package lookup

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Reader gives a reader to which an object of a name that no object can have is not there.
// Without it client-go does not even ask the API server, and its error, which is none of
// those that say that an object is missing, stays for ever.
func Reader(of client.Reader) client.Reader { return reader{of} }

// Client gives a client that reads as Reader does.
func Client(of client.WithWatch) client.WithWatch { return whole{of} }

type reader struct{ client.Reader }

func (r reader) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	return get(ctx, r.Reader, key, object, options)
}

type whole struct{ client.WithWatch }

func (w whole) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	return get(ctx, w.WithWatch, key, object, options)
}

func get(ctx context.Context, from client.Reader, key client.ObjectKey, object client.Object, options []client.GetOption) error {
	for _, name := range []string{key.Namespace, key.Name} {
		if problems := content.IsPathSegmentName(name); len(problems) > 0 {
			return &apierrors.StatusError{ErrStatus: metav1.Status{
				Status: metav1.StatusFailure, Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound,
				Message: fmt.Sprintf("no object can have the name %q: it %s", name, strings.Join(problems, ", ")),
			}}
		}
	}
	return from.Get(ctx, key, object, options...)
}
