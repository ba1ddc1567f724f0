package controller

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// provenFor is how long a proof counts.
	provenFor = time.Minute
	// unprovenFor is how long a failed proof counts: it is soon tried again.
	unprovenFor = time.Second
	// forgedUser is in whose name the forged Decision is; nobody can be called that.
	forgedUser = "firebreak.dev:forged"
)

// AdmissionGuard proves that the admission policies stand, by the dry run of a forged
// Decision that they must refuse. Without them anyone who can create a Decision could
// decide in anybody's name.
type AdmissionGuard struct {
	writer client.Client
	clock  clock.PassiveClock

	mu     sync.Mutex
	proofs map[string]proof
}

type proof struct {
	time   time.Time
	proven bool
	reason string
	why    string
}

var _ Guard = (*AdmissionGuard)(nil)

// NewAdmissionGuard makes a guard that forges as the manager itself.
func NewAdmissionGuard(writer client.Client, clock clock.PassiveClock) *AdmissionGuard {
	return &AdmissionGuard{writer: client.NewDryRunClient(writer), clock: clock, proofs: map[string]proof{}}
}

// Proven says whether the admission policies were proven to stand in a namespace, and if
// not, why.
func (g *AdmissionGuard) Proven(ctx context.Context, namespace string) (bool, string) {
	proof := g.prove(ctx, namespace)
	return proof.proven, proof.why
}

func (g *AdmissionGuard) prove(ctx context.Context, namespace string) proof {
	g.mu.Lock()
	known, ok := g.proofs[namespace]
	g.mu.Unlock()
	lasts := unprovenFor
	if known.proven {
		lasts = provenFor
	}
	if ok && g.clock.Since(known.time) < lasts {
		return known
	}
	fresh := g.try(ctx, namespace)
	g.mu.Lock()
	g.proofs[namespace] = fresh
	g.mu.Unlock()
	return fresh
}

func (g *AdmissionGuard) try(ctx context.Context, namespace string) proof {
	forged := &v1alpha1.Decision{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "forged-"},
		Spec: v1alpha1.DecisionSpec{
			Subject: v1alpha1.DecisionSubject{Kind: v1alpha1.SubjectIncident, Name: "forged"},
			Type:    v1alpha1.DecisionNote, By: forgedUser, Reason: "Firebreak proves that this is refused",
		},
	}
	err := g.writer.Create(ctx, forged)
	result := proof{time: g.clock.Now()}
	switch {
	case err == nil:
		result.reason = v1alpha1.ReasonForgeryAccepted
		result.why = "a Decision in the name of somebody else would be accepted: the ValidatingAdmissionPolicies of config/admission must be installed; until they are no Decision counts"
	case refusedByPolicy(err):
		result.proven, result.reason = true, v1alpha1.ReasonForgeryRefused
		result.why = "a forged Decision was refused"
	default:
		result.reason = v1alpha1.ReasonProbeFailed
		result.why = fmt.Sprintf("a forged Decision could not be tried: %v", err)
	}
	return result
}

// refusedByPolicy says that the guard of Decisions has refused, and not RBAC or another's policy.
func refusedByPolicy(err error) bool {
	refused := apierrors.IsInvalid(err) || apierrors.IsForbidden(err)
	return refused && strings.Contains(err.Error(), "ValidatingAdmissionPolicy 'firebreak-decisions'") && strings.Contains(err.Error(), "denied request")
}
