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
	// proofSlack is by how much the clocks of the manager and of API servers may differ, and
	// how long the policies take to reach the last of these.
	proofSlack = 5 * time.Second
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
	// time is when it was begun: it says nothing about what was created later.
	time   time.Time
	trust  Trust
	reason string
	why    string
	// refuted says that a forged Decision would have been accepted since the policies were
	// last proven to stand.
	refuted bool
	// doubted is before when a Decision may have been forged; zero if never.
	doubted time.Time
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

// Verdict says which of some Decisions can be trusted.
type Verdict struct {
	// Trust says whether Decisions that are created now can be.
	Trust Trust
	// Why says why they cannot be.
	Why string
	// Doubted is before when a Decision may have been forged; zero if never.
	Doubted time.Time
}

// Refused says why a Decision does not count; it is empty for one that does. It means
// nothing while the trust is unknown.
func (v Verdict) Refused(decision *v1alpha1.Decision) string {
	if v.Trust == TrustRefuted {
		return v.Why
	}
	if decision.CreationTimestamp.Time.Before(v.Doubted) {
		return fmt.Sprintf("it was created before %s, until when a Decision in the name of somebody else may have been accepted: nobody can tell who created it; whoever stands by it must create it again",
			v.Doubted.UTC().Format(time.RFC3339))
	}
	return ""
}

// Guard says whether Decisions can be trusted.
type Guard interface {
	// Trust says which of these Decisions can be trusted, and if not, why.
	Trust(ctx context.Context, namespace string, decisions []v1alpha1.Decision) Verdict
}

var _ Guard = (*AdmissionGuard)(nil)

// NewAdmissionGuard makes a guard that forges as the manager itself.
func NewAdmissionGuard(writer client.Client, clock clock.PassiveClock) *AdmissionGuard {
	return &AdmissionGuard{writer: client.NewDryRunClient(writer), clock: clock, proofs: map[string]proof{}}
}

// Trust says which Decisions can be trusted. Only a proof that is younger than all of them
// counts: an older one says nothing about when they were created. And when it follows one of
// the contrary, what was created before it may be forged. A manager that starts knows of none.
func (g *AdmissionGuard) Trust(ctx context.Context, namespace string, decisions []v1alpha1.Decision) Verdict {
	var since time.Time
	for i := range decisions {
		// Creation times are in whole seconds.
		if created := decisions[i].CreationTimestamp.Add(time.Second); created.After(since) {
			since = created
		}
	}
	proof := g.prove(ctx, namespace, since)
	return Verdict{Trust: proof.trust, Why: proof.why, Doubted: proof.doubted}
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
	return g.keep(namespace, g.try(ctx, namespace))
}

// keep remembers a proof, and with it the doubt that those before it have left.
func (g *AdmissionGuard) keep(namespace string, fresh proof) proof {
	g.mu.Lock()
	defer g.mu.Unlock()
	last := g.proofs[namespace]
	fresh.refuted, fresh.doubted = last.refuted || fresh.trust == TrustRefuted, last.doubted
	if fresh.trust == TrustProven && fresh.refuted {
		fresh.refuted, fresh.doubted = false, g.clock.Now().Add(proofSlack).Truncate(time.Second)
	}
	g.proofs[namespace] = fresh
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
	result := proof{time: g.clock.Now()}
	err := g.writer.Create(ctx, forged)
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
