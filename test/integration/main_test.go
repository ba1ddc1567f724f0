// Package integration holds the tests on a real API server: what the CRDs and the
// admission policies refuse, what the shipped roles allow, and the whole loop.
package integration

import (
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// refused holds an error to be a refusal by admission or RBAC that says this.
func refused(t *testing.T, err error, says string) {
	t.Helper()
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), says) {
		t.Errorf("got: %v\nwant a refusal (Forbidden) that says: %s", err, says)
	}
}

// done fails the test when something that must be allowed is not.
func done(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("must be allowed, but: %v", err)
	}
}

// patch changes an object by a merge patch from what it was.
func patch[T client.Object](t *testing.T, as client.Client, object T, change func(T)) error {
	t.Helper()
	before, ok := object.DeepCopyObject().(T)
	if !ok {
		t.Fatalf("no copy of %T", object)
	}
	change(object)
	return as.Patch(t.Context(), object, client.MergeFrom(before))
}

// patchStatus is patch for the status.
func patchStatus[T client.Object](t *testing.T, as client.Client, object T, change func(T)) error {
	t.Helper()
	before, ok := object.DeepCopyObject().(T)
	if !ok {
		t.Fatalf("no copy of %T", object)
	}
	change(object)
	return as.Status().Patch(t.Context(), object, client.MergeFrom(before))
}

// says holds an error to say something.
func says(t *testing.T, err error, what string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), what) {
		t.Errorf("got: %v\nwant an error that says: %s", err, what)
	}
}
