package evidence

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// fewLocations are so few that the API server is asked who names each, and not for all Evidence.
const fewLocations = 16

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

// RemoveBytes removes the bytes of Evidence that was deleted, as far as no other Evidence of the
// domain has the same. Domains share none.
func (r *Recorder) RemoveBytes(ctx context.Context, namespace string, locations []string) error {
	domain, err := r.domain(ctx, namespace)
	if err != nil {
		return err
	}
	// What a domain of the same name has left is not this one's.
	locations = slices.DeleteFunc(slices.Clone(locations), func(location string) bool { return !strings.HasPrefix(location, string(domain)+"/") })
	return r.Store.Remove(ctx, locations, func(ctx context.Context, locations []string) (map[string]bool, error) {
		return r.referred(ctx, namespace, string(domain), locations)
	})
}

// referred says which of some locations Evidence of a domain names, also such that does not say yet
// where its bytes are.
func (r *Recorder) referred(ctx context.Context, namespace, domain string, locations []string) (map[string]bool, error) {
	referred, asked := map[string]bool{}, map[string]bool{}
	for _, location := range locations {
		asked[location] = true
	}
	look := func(piece *v1alpha1.Evidence) {
		for _, location := range []string{domain + "/" + strings.TrimPrefix(piece.Spec.Digest, DigestPrefix), piece.Status.Location} {
			if asked[location] {
				referred[location] = true
			}
		}
	}
	if len(locations) > fewLocations {
		return referred, r.EachEvidence(ctx, namespace, look)
	}
	for _, location := range locations {
		_, digits, _ := strings.Cut(location, "/")
		if err := r.EachEvidence(ctx, namespace, look, client.MatchingFields{"spec.digest": DigestPrefix + digits}); err != nil {
			return nil, err
		}
	}
	return referred, nil
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
