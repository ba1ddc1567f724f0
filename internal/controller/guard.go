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

	// trying lets one worker forge, and not all that wait for the same proof.
	trying sync.Mutex
	mu     sync.Mutex
	proofs map[string]proof
}

type proof struct {
	time   time.Time
	trust  Trust
	reason string
	why    string
}

// Trust says whether Decisions can be trusted.
type Trust int

const (
	// TrustUnknown means that it could not be found out: Decisions wait.
	TrustUnknown Trust = iota
	// TrustProven means that a forged Decision was refused.
	TrustProven
	// TrustRefuted means that a forged Decision would be accepted: nobody can tell who
	// created those that are there, and none of them counts, also not later.
	TrustRefuted
)

// Guard says whether Decisions can be trusted.
type Guard interface {
	// Trust says whether these Decisions can be trusted, and if not, why.
	Trust(ctx context.Context, namespace string, decisions []v1alpha1.Decision) (trust Trust, why string)
}

var _ Guard = (*AdmissionGuard)(nil)

// NewAdmissionGuard makes a guard that forges as the manager itself.
func NewAdmissionGuard(writer client.Client, clock clock.PassiveClock) *AdmissionGuard {
	return &AdmissionGuard{writer: client.NewDryRunClient(writer), clock: clock, proofs: map[string]proof{}}
}

// Trust says whether Decisions can be trusted. Only a proof that is younger than all of
// them counts: an older one says nothing about when they were created.
func (g *AdmissionGuard) Trust(ctx context.Context, namespace string, decisions []v1alpha1.Decision) (Trust, string) {
	var since time.Time
	for i := range decisions {
		// Creation times are in whole seconds.
		if created := decisions[i].CreationTimestamp.Add(time.Second); created.After(since) {
			since = created
		}
	}
	proof := g.prove(ctx, namespace, since)
	return proof.trust, proof.why
}

// prove gives a proof that is not older than a minute, nor than a given time as far as
// that has passed.
func (g *AdmissionGuard) prove(ctx context.Context, namespace string, since time.Time) proof {
	if known, ok := g.known(namespace, since); ok {
		return known
	}
	g.trying.Lock()
	defer g.trying.Unlock()
	if known, ok := g.known(namespace, since); ok {
		return known
	}
	fresh := g.try(ctx, namespace)
	g.mu.Lock()
	g.proofs[namespace] = fresh
	g.mu.Unlock()
	return fresh
}

// known gives a proof that still counts.
func (g *AdmissionGuard) known(namespace string, since time.Time) (proof, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	known, ok := g.proofs[namespace]
	lasts := unprovenFor
	if known.trust == TrustProven {
		lasts = provenFor
	}
	return known, ok && g.clock.Since(known.time) < lasts && !known.time.Before(since)
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
		result.trust, result.reason = TrustRefuted, v1alpha1.ReasonForgeryAccepted
		result.why = "a Decision in the name of somebody else would be accepted: the ValidatingAdmissionPolicies of config/admission must be installed; until they are no Decision counts"
	case refusedByPolicy(err):
		result.trust, result.reason = TrustProven, v1alpha1.ReasonForgeryRefused
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
	return refused && strings.Contains(err.Error(), "ValidatingAdmissionPolicy 'firebreak-decisions'") && strings.Contains(err.Error(), "`spec.by` must be")
}
