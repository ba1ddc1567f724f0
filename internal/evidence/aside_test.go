package evidence

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// TestTwoManagersOnOneVolume has another manager preserve the bytes that one removes which does
// not lead any more, at every moment of it.
func TestTwoManagersOnOneVolume(t *testing.T) {
	const location = string(domain) + "/" + helloDigits
	for name, test := range map[string]struct {
		// At which look for Evidence the other stores the bytes, and at which it makes Evidence.
		stores, makes int
		// killed says that it is killed then, and does not look after them.
		killed bool
	}{
		"at the first look":                               {1, 1, false},
		"at the second look":                              {2, 2, false},
		"stored at the first, made at the second":         {1, 2, false},
		"stored at the first, made at the second, killed": {1, 2, true},
		"stored at the first, made after both":            {1, 3, false},
		"stored at the second, made after both":           {2, 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			url := "file://" + t.TempDir()
			deposed, leader := open(t, url), open(t, url)
			if _, err := deposed.Put(t.Context(), domain, strings.NewReader("hello")); err != nil {
				t.Fatal(err)
			}
			looks, evidence, held := 0, false, (*Held)(nil)
			work := func() {
				if looks == test.stores {
					var err error
					if held, err = leader.PutHeld(t.Context(), domain, strings.NewReader("hello")); err != nil {
						t.Fatal(err)
					}
					t.Cleanup(held.Release)
				}
				if looks == test.makes {
					evidence = true
					if test.killed {
						return
					}
					if err := held.Ensure(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			err := deposed.Remove(t.Context(), []string{location}, func(context.Context, []string) (map[string]bool, error) {
				looks++
				work()
				return map[string]bool{location: evidence}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for looks < test.makes {
				looks++
				work()
			}
			if err := leader.Check(t.Context(), location, DigestPrefix+helloDigits); err != nil {
				t.Errorf("there is Evidence of the bytes, but: %v", err)
			}
		})
	}
}

// TestWhatWasSetAsideIsNotForgotten kills a manager when it has set bytes aside: they can be read,
// and the next removal ends what was begun, or puts them back.
func TestWhatWasSetAsideIsNotForgotten(t *testing.T) {
	const location = string(domain) + "/" + helloDigits
	killed := errors.New("the test kills the manager here")
	for name, url := range map[string]string{"file": "file://" + t.TempDir(), "mem": "mem://"} {
		t.Run(name, func(t *testing.T) {
			store := open(t, url)
			there := func(want bool, what string) {
				t.Helper()
				err := store.Check(t.Context(), location, DigestPrefix+helloDigits)
				if (err == nil) != want || err != nil && !errors.Is(err, ErrNotStored) {
					t.Errorf("%s: the bytes are there must be %t, but: %v", what, want, err)
				}
			}
			kill := func() {
				t.Helper()
				if _, err := store.Put(t.Context(), domain, strings.NewReader("hello")); err != nil {
					t.Fatal(err)
				}
				looks := 0
				err := store.Remove(t.Context(), []string{location}, func(context.Context, []string) (map[string]bool, error) {
					if looks++; looks == 2 {
						return nil, killed
					}
					return nil, nil
				})
				if !errors.Is(err, killed) {
					t.Fatalf("got %v", err)
				}
				there(true, "set aside")
			}
			remove := func(referred bool) {
				t.Helper()
				err := store.Remove(t.Context(), []string{location}, func(context.Context, []string) (map[string]bool, error) {
					return map[string]bool{location: referred}, nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			asides := func(want int) {
				t.Helper()
				if keys, err := store.asides(t.Context(), asidePrefix); err != nil || len(keys) != want {
					t.Errorf("set aside is %q, %v", keys, err)
				}
			}
			kill()
			remove(true)
			there(true, "put back")
			asides(0)
			kill()
			remove(false)
			there(false, "removed")
			asides(0)
			kill()
			asides(1)
			if err := store.Recover(t.Context(), location); err != nil {
				t.Fatal(err)
			}
			asides(0)
			there(true, "recovered")
			kill()
			other := string(domain) + "/" + strings.Repeat("0", 64)
			err := store.Remove(t.Context(), []string{other}, func(context.Context, []string) (map[string]bool, error) { return nil, nil })
			if err != nil {
				t.Fatal(err)
			}
			there(false, "removed with another")
		})
	}
}
