package evidence

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestRemove(t *testing.T) {
	const location = string(domain) + "/" + helloDigits
	nothing := func(context.Context, []string) (map[string]bool, error) { return nil, nil }
	directory := t.TempDir()
	for name, url := range map[string]string{"file": "file://" + directory, "mem": "mem://"} {
		t.Run(name, func(t *testing.T) {
			store := open(t, url)
			put := func() func() {
				t.Helper()
				held, err := store.PutHeld(t.Context(), domain, strings.NewReader("hello"))
				if err != nil {
					t.Fatal(err)
				}
				return held.Release
			}
			there := func(want bool, what string) {
				t.Helper()
				err := store.Check(t.Context(), location, DigestPrefix+helloDigits)
				if (err == nil) != want || err != nil && !errors.Is(err, ErrNotStored) {
					t.Errorf("%s: the bytes are there must be %t, but: %v", what, want, err)
				}
			}
			remove := func(referred func(context.Context, []string) (map[string]bool, error)) {
				t.Helper()
				if err := store.Remove(t.Context(), []string{location}, referred); err != nil {
					t.Fatal(err)
				}
			}
			release := put()
			remove(nothing)
			there(true, "their Evidence is being made")
			release()
			remove(func(context.Context, []string) (map[string]bool, error) { return map[string]bool{location: true}, nil })
			there(true, "other Evidence names them")
			remove(func(context.Context, []string) (map[string]bool, error) { put()(); return nil, nil })
			there(true, "somebody has stored them anew")
			failed := errors.New("no list")
			if err := store.Remove(t.Context(), []string{location}, func(context.Context, []string) (map[string]bool, error) { return nil, failed }); !errors.Is(err, failed) {
				t.Errorf("got %v", err)
			}
			there(true, "nobody knows who names them")
			remove(nothing)
			there(false, "nobody names them")
			remove(nothing)
			put()()
			there(true, "they were stored again")
		})
	}
	for _, location := range []string{"", "../" + helloDigits, string(domain) + "/..", "/etc/passwd", string(domain)} {
		if err := open(t, "mem://").Remove(t.Context(), []string{location}, nothing); err == nil {
			t.Errorf("location %q must be refused", location)
		}
	}
}
