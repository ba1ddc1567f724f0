package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
)

const (
	sampleName = "inc-20261121-k7f2a"
	podUID     = v1alpha1.ObjectUID("0b6f6f8e-5d5c-4a53-9c1a-2f4c6c1c0001")
	managerSA  = "system:serviceaccount:firebreak-system:firebreak-manager"
	playbookSA = "system:serviceaccount:security:contain-intrusion"
	// hostile is what an attacker writes to rule a responder's terminal.
	hostile = "Shell in shop/cart\x1b[2J\x1b]0;pwned\x07\u202egnp.exe \u009b31m \xff fine"
)

var (
	noon         = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	sampleDigest = "sha256:" + strings.Repeat("ab", 32)
)

func at(seconds int) metav1.Time {
	return metav1.NewTime(noon.Add(time.Duration(seconds) * time.Second))
}
func atP(seconds int) *metav1.Time { t := at(seconds); return &t }

func podTarget(state v1alpha1.TargetState) v1alpha1.StepTarget {
	return v1alpha1.StepTarget{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "cart-7f9", UID: podUID, State: state}
}

// sampleIncident waits for the approval to delete an isolated pod.
func sampleIncident() *v1alpha1.Incident {
	isolated := podTarget(v1alpha1.TargetSucceeded)
	isolated.Proof, isolated.Message = v1alpha1.ProofComputed, "no policy allows traffic any more"
	incident := &v1alpha1.Incident{
		ObjectMeta: metav1.ObjectMeta{Name: sampleName, Namespace: "security", UID: "u", CreationTimestamp: at(0)},
		Spec: v1alpha1.IncidentSpec{
			Title: "Shell in shop/cart", Severity: v1alpha1.SeverityHigh, Category: v1alpha1.CategoryIntrusion, TLP: v1alpha1.TLPAmber,
			Impact:      v1alpha1.Impact{Confidentiality: v1alpha1.ImpactHigh, Availability: v1alpha1.ImpactLow},
			PlaybookRef: v1alpha1.PlaybookReference{Name: "contain"}, Rule: "runtime/shell-in-container",
		},
		Status: v1alpha1.IncidentStatus{
			Phase: v1alpha1.PhaseEradication, Severity: v1alpha1.SeverityCritical, Priority: v1alpha1.PriorityP1, Category: v1alpha1.CategoryIntrusion,
			EventCount: 31,
			Playbook:   v1alpha1.PinnedPlaybook{Name: "contain", Generation: 3, Revision: "r", ServiceAccountName: "contain-intrusion"},
			Resources: []v1alpha1.IncidentResource{{
				ResourceReference: v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "cart-7f9", UID: podUID},
				State:             v1alpha1.ResourcePresent,
				Workload:          v1alpha1.WorkloadReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "cart", UID: "d"},
			}},
			Steps: []v1alpha1.IncidentStep{
				{Name: "preserve", Phase: v1alpha1.PhaseContainment, Action: "collect", State: v1alpha1.StepSucceeded, Attempts: 1,
					StartTime: atP(1), EndTime: atP(3), Message: "3 pieces of evidence", Targets: []v1alpha1.StepTarget{podTarget(v1alpha1.TargetSucceeded)}},
				{Name: "isolate", Phase: v1alpha1.PhaseContainment, Action: "isolate", State: v1alpha1.StepSucceeded, Attempts: 2,
					StartTime: atP(1), EndTime: atP(2), Targets: []v1alpha1.StepTarget{isolated}},
				{Name: "ok-to-delete", Phase: v1alpha1.PhaseEradication, Action: "approve", State: v1alpha1.StepAwaitingApproval, Attempts: 1,
					StartTime: atP(4), DeadlineTime: atP(1804), Digest: sampleDigest, Message: "waits",
					Targets: []v1alpha1.StepTarget{podTarget(v1alpha1.TargetPending)}},
				{Name: "delete-pod", Phase: v1alpha1.PhaseEradication, Action: "delete", State: v1alpha1.StepPending},
			},
			Awaiting: []v1alpha1.Awaiting{{
				Type: v1alpha1.AwaitingApproval, Step: "ok-to-delete", SinceTime: at(4), DueTime: atP(1804), Role: "IncidentManager", Digest: sampleDigest,
				Message: "Delete the pod? Its replacement is running.\nWould delete Pod shop/cart-7f9.",
				Command: `kubectl firebreak -n security approve inc-20261121-k7f2a ok-to-delete --reason "WHY"`,
			}},
		},
	}
	chain(incident,
		v1alpha1.TimelineEntry{Time: at(0), Actor: managerSA, Action: "IncidentOpened", Message: "by rule runtime/shell-in-container, from event falco-5f0c8a2e1b"},
		v1alpha1.TimelineEntry{Time: at(2), Actor: playbookSA, Action: "StepSucceeded", Outcome: "Succeeded", Step: "isolate", Resource: "Pod/shop/cart-7f9", Message: "no policy allows traffic any more"},
		v1alpha1.TimelineEntry{Time: at(60), Actor: jane, Decision: "acknowledge-x2x4x", Action: "Acknowledge", Outcome: "Accepted", Message: "jane@example.com has taken it on"},
	)
	return incident
}

func chain(incident *v1alpha1.Incident, entries ...v1alpha1.TimelineEntry) {
	if err := audit.Append(&incident.Status, entries...); err != nil {
		panic(err)
	}
}

func sampleEvidence() []v1alpha1.Evidence {
	size := int64(4711)
	stored := []metav1.Condition{{Type: v1alpha1.ConditionStored, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonDigestMatches}}
	pod := &v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "cart-7f9"}
	return []v1alpha1.Evidence{
		{ObjectMeta: metav1.ObjectMeta{Name: "evd-1"}, Spec: v1alpha1.EvidenceSpec{Type: v1alpha1.EvidenceManifest, Resource: pod, SizeBytes: &size},
			Status: v1alpha1.EvidenceStatus{Conditions: stored}},
		{ObjectMeta: metav1.ObjectMeta{Name: "evd-2"}, Spec: v1alpha1.EvidenceSpec{Type: v1alpha1.EvidenceLog, Resource: pod}},
	}
}

// testSession writes to buffers, ten minutes past noon.
func testSession(t terminal) (*session, *bytes.Buffer, *bytes.Buffer) {
	streams, _, out, errOut := genericiooptions.NewTestIOStreams()
	s := newSession(Config{Streams: streams, Version: "test", Clock: clocktesting.NewFakePassiveClock(noon.Add(10 * time.Minute)), Location: time.UTC})
	s.terminal, s.style = t, style{on: t.color}
	return s, out, errOut
}

// golden compares text with a file in testdata; go test -update writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		mustDo(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	mustDo(t, err)
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got, `go test ./internal/cli -update` writes it):\n%s", path, diff)
	}
}
