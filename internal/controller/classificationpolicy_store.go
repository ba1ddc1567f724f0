package controller

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
)

// PolicyStore keeps compiled ClassificationPolicies in memory, each generation compiled
// once. The last generation that compiled stays in force while a newer one does not.
// The zero value is ready to use.
type PolicyStore struct {
	mu       sync.Mutex
	policies map[types.NamespacedName]*storedPolicy
}

type storedPolicy struct {
	uid        types.UID
	generation int64
	inForce    *classify.Policy
	err        error
}

// InForce gives what is in force for a policy as it was read, and why its own text is
// not when it does not compile.
func (s *PolicyStore) InForce(source *v1alpha1.ClassificationPolicy) (*classify.Policy, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := client.ObjectKeyFromObject(source)
	stored := s.policies[key]
	if stored == nil || stored.uid != source.UID {
		stored = &storedPolicy{uid: source.UID}
	}
	if stored.inForce == nil || stored.generation != source.Generation {
		compiled, err := classify.Compile(source)
		stored.generation, stored.err = source.Generation, err
		switch {
		case err == nil:
			stored.inForce = compiled
		case stored.inForce == nil || stored.inForce.Broken():
			stored.inForce = classify.Unusable(source, err)
		}
	}
	if s.policies == nil {
		s.policies = map[types.NamespacedName]*storedPolicy{}
	}
	s.policies[key] = stored
	return stored.inForce, stored.err
}

// Forget drops a policy that was deleted.
func (s *PolicyStore) Forget(key types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.policies, key)
}
