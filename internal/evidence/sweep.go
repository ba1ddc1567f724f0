package evidence

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"gocloud.dev/gcerrors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// uses keep bytes from being removed while somebody stores the same ones: until there is
// Evidence that names them nothing refers to them.
type uses struct {
	mu sync.Mutex
	// held counts who has stored the bytes of a location and not made their Evidence yet.
	held map[string]int
	// doomed are the locations that are about to be removed.
	doomed map[string]bool
}

// hold keeps a location until the function it gives is called. One that is about to be removed
// is not any more.
func (u *uses) hold(location string) (release func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.held == nil {
		u.held = map[string]int{}
	}
	u.held[location]++
	delete(u.doomed, location)
	return sync.OnceFunc(func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.held[location]--; u.held[location] == 0 {
			delete(u.held, location)
		}
	})
}

// doom begins to remove locations, but those that somebody holds. It gives what it has begun.
func (u *uses) doom(locations []string) []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.doomed == nil {
		u.doomed = map[string]bool{}
	}
	var doomed []string
	for _, location := range locations {
		if u.held[location] == 0 && !u.doomed[location] {
			u.doomed[location] = true
			doomed = append(doomed, location)
		}
	}
	return doomed
}

func (u *uses) spare(locations []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, location := range locations {
		delete(u.doomed, location)
	}
}

// Remove removes the bytes of locations that nothing refers to: those that referred does not
// give. What is stored anew meanwhile stays, and what is not there is no error.
func (s *Store) Remove(ctx context.Context, locations []string, referred func(context.Context) (map[string]bool, error)) error {
	for _, location := range locations {
		if !locationForm.MatchString(location) {
			return fmt.Errorf("evidence: location '%s' must be the UID of a namespace, a slash, and 64 hexadecimal digits", location)
		}
	}
	doomed := s.uses.doom(locations)
	defer s.uses.spare(doomed)
	if len(doomed) == 0 {
		return nil
	}
	kept, err := referred(ctx)
	if err != nil {
		return err
	}
	for _, location := range doomed {
		if kept[location] {
			continue
		}
		if err := s.remove(ctx, location); err != nil {
			return fmt.Errorf("evidence %s: removing it: %w", location, err)
		}
	}
	return nil
}

// remove removes the bytes of a location that is doomed still. Who stores the same bytes waits.
func (s *Store) remove(ctx context.Context, location string) error {
	s.uses.mu.Lock()
	defer s.uses.mu.Unlock()
	if !s.uses.doomed[location] {
		return nil
	}
	if err := s.bucket.Delete(ctx, location); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return err
	}
	if s.directory == "" {
		return nil
	}
	directory, err := os.Open(filepath.Join(s.directory, filepath.Dir(filepath.FromSlash(location))))
	if errors.Is(err, os.ErrNotExist) {
		return nil // nothing of the domain was ever stored here
	}
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

// RemoveBytes removes the bytes of Evidence that was deleted, as far as no other Evidence of the
// domain has the same. Domains share none.
func (r *Recorder) RemoveBytes(ctx context.Context, namespace string, locations []string) error {
	domain, err := r.domain(ctx, namespace)
	if err != nil {
		return err
	}
	// What a domain of the same name has left is not this one's.
	locations = slices.DeleteFunc(slices.Clone(locations), func(location string) bool { return !strings.HasPrefix(location, string(domain)+"/") })
	return r.Store.Remove(ctx, locations, func(ctx context.Context) (map[string]bool, error) {
		referred := map[string]bool{}
		err := r.EachEvidence(ctx, namespace, func(piece *v1alpha1.Evidence) {
			// Also what does not say yet where its bytes are.
			referred[string(domain)+"/"+piece.Spec.Digest[len(DigestPrefix):]] = true
			referred[piece.Status.Location] = true
		})
		return referred, err
	})
}

// EachEvidence goes through the Evidence of a namespace, a page at a time and without a cache.
func (r *Recorder) EachEvidence(ctx context.Context, namespace string, look func(*v1alpha1.Evidence), options ...client.ListOption) error {
	next := ""
	for {
		list := &v1alpha1.EvidenceList{}
		page := append([]client.ListOption{client.InNamespace(namespace), client.Limit(listPage), client.Continue(next)}, options...)
		if err := r.Client.List(ctx, list, page...); err != nil {
			return fmt.Errorf("listing the evidence of namespace '%s': %w", namespace, err)
		}
		for i := range list.Items {
			look(&list.Items[i])
		}
		if next = list.Continue; next == "" {
			return nil
		}
	}
}
