package harness

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Patience is how long tests wait for what happens within a second on an idle machine.
const Patience = 2 * time.Minute

// Eventually asks until check gives no error, and fails the test with the last error
// when it does not within that time.
func Eventually(t testing.TB, within time.Duration, what string, check func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if err := poll(ctx, check); err != nil {
		t.Fatalf("waiting for %s: %s", what, Brief(err.Error()))
	}
}

// WaitFor reads object until holds is true of it, and fails the test when it is not
// within Patience.
func WaitFor[T client.Object](t testing.TB, reader client.Reader, object T, what string, holds func(T) bool) T {
	t.Helper()
	key := client.ObjectKeyFromObject(object)
	Eventually(t, Patience, fmt.Sprintf("%s (%T %s)", what, object, key), func(ctx context.Context) error {
		if err := reader.Get(ctx, key, object); err != nil {
			return err
		}
		if !holds(object) {
			return fmt.Errorf("not yet; it is: %s", Describe(object))
		}
		return nil
	})
	return object
}

// Always holds check to give no error for that long.
func Always(t testing.TB, during time.Duration, what string, check func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	errBroken := errors.New("held")
	var broken error
	_ = poll(ctx, func(context.Context) error {
		if broken = check(t.Context()); broken != nil {
			return nil
		}
		return errBroken
	})
	if broken != nil {
		t.Fatalf("%s must hold: %s", what, Brief(broken.Error()))
	}
}
