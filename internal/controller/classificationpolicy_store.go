package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
)

// PolicyStore keeps compiled ClassificationPolicies in memory, each generation compiled
// once. The last generation that compiled stays in force while a newer one does not; after
// a restart its text is read back from where the ClassificationPolicyReconciler has kept it.
type PolicyStore struct {
	// Live reads kept texts without a cache. Nil means that none can be read.
	Live client.Reader

	mu       sync.Mutex
	policies map[types.NamespacedName]*storedPolicy
}

type storedPolicy struct {
	uid        types.UID
	generation int64
	counts     policyInForce
	looked     bool // whether a kept text was looked for
}

var (
	errDeleted = errors.New("the policy was deleted")
	errForeign = errors.New("it does not belong to the policy")
)

// policyInForce is what of a policy counts.
type policyInForce struct {
	// compiled is what events are assessed by; broken when nothing is in force.
	compiled *classify.Policy
	// text is what was compiled; nil when nothing is in force.
	text *v1alpha1.ClassificationPolicy
	// problem is why the policy's own text is not in force; nil when it is.
	problem error
}

// inForce gives what is in force for a policy as it was read. The error says that it cannot
// be told: the text that was in force before a restart could not be read.
func (s *PolicyStore) inForce(ctx context.Context, source *v1alpha1.ClassificationPolicy) (policyInForce, error) {
	counts, lost := s.compile(source)
	if !lost {
		return counts, nil
	}
	kept, err := s.readKept(ctx, source)
	if err != nil {
		return policyInForce{}, fmt.Errorf("read what was in force of policy %q: %w", source.Name, err)
	}
	return s.adopt(source, kept), nil
}

// compile compiles what is new. lost says that nothing of the policy compiles, but something
// was in force before and may be kept.
func (s *PolicyStore) compile(source *v1alpha1.ClassificationPolicy) (counts policyInForce, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := client.ObjectKeyFromObject(source)
	stored := s.policies[key]
	if stored == nil || stored.uid != source.UID {
		stored = &storedPolicy{uid: source.UID}
	}
	if stored.counts.compiled == nil || stored.generation != source.Generation {
		compiled, err := classify.Compile(source)
		stored.generation, stored.counts.problem = source.Generation, err
		switch {
		case err == nil:
			stored.counts.compiled, stored.counts.text = compiled, source.DeepCopy()
		case stored.counts.text == nil:
			stored.counts.compiled = classify.Unusable(source, err)
		}
	}
	if s.policies == nil {
		s.policies = map[types.NamespacedName]*storedPolicy{}
	}
	s.policies[key] = stored
	return stored.counts, stored.counts.text == nil && !stored.looked && s.Live != nil && source.Status.InForce.Revision != ""
}

// readKept reads the text that was in force; nil when it is gone or not what was kept.
func (s *PolicyStore) readKept(ctx context.Context, source *v1alpha1.ClassificationPolicy) (*v1alpha1.ClassificationPolicy, error) {
	kept := source.Status.InForce
	revision := &appsv1.ControllerRevision{}
	err := s.Live.Get(ctx, types.NamespacedName{Namespace: source.Namespace, Name: kept.Revision}, revision)
	if client.IgnoreNotFound(err) != nil {
		return nil, err
	}
	if err == nil && !metav1.IsControlledBy(revision, source) {
		err = errForeign
	}
	var text *v1alpha1.ClassificationPolicy
	if err == nil {
		text, err = classify.Revised(source, kept, revision.Data.Raw)
	}
	if err != nil {
		log.FromContext(ctx).Error(err, "the text that was in force cannot be used", "policy", source.Name, "generation", kept.Generation, "revision", kept.Revision)
		return nil, nil //nolint:nilerr // the policy says that nothing is in force
	}
	return text, nil
}

// adopt puts in force what was read back, unless something else is by now.
func (s *PolicyStore) adopt(source, kept *v1alpha1.ClassificationPolicy) policyInForce {
	s.mu.Lock()
	defer s.mu.Unlock()
	stored := s.policies[client.ObjectKeyFromObject(source)]
	if stored == nil || stored.uid != source.UID { // it was deleted meanwhile
		return policyInForce{compiled: classify.Unusable(source, errDeleted), problem: errDeleted}
	}
	stored.looked = true
	if kept == nil || stored.counts.text != nil {
		return stored.counts
	}
	if compiled, err := classify.Compile(kept); err == nil {
		stored.counts.compiled, stored.counts.text = compiled, kept
	}
	return stored.counts
}

// Forget drops a policy that was deleted.
func (s *PolicyStore) Forget(key types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.policies, key)
}
