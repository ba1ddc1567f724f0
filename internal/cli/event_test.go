package cli

import (
	"bufio"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func TestMoment(t *testing.T) {
	s, _, _ := testSession(terminal{}) // ten minutes past noon
	now := noon.Add(10 * time.Minute)
	for text, want := range map[string]time.Time{
		"":                     now,
		"now":                  now,
		"20m":                  now.Add(-20 * time.Minute),
		"2h30m ago":            now.Add(-150 * time.Minute),
		"11:30":                noon.Add(-30 * time.Minute),
		"23:30":                noon.Add(-12*time.Hour - 30*time.Minute),
		"2026-11-20 08:00":     time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC),
		"2026-11-20T08:00:00Z": time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC),
	} {
		got, err := s.moment("--when", text)
		if err != nil || !got.Time.Equal(want) {
			t.Errorf("%q: got %s, %v, want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]string{"yesterday": "must be a time such as", "-5m": "must be a time such as", "2027-01-01 10:00": "is in the future"} {
		if _, err := s.moment("--when", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func TestAskForEvent(t *testing.T) {
	s, _, errOut := testSession(terminal{interactive: true})
	// What was given is not asked for.
	s.answers = bufio.NewReader(strings.NewReader("suspectedmalware\n20m\nBerlin\nYou are hacked\nPulled the plug\n"))
	f := &eventFlags{title: "A shell on my screen", malfunction: "It is slow", severity: "High"}
	f.assets = []string{"device:LT-0042"}
	mustDo(t, s.askForEvent(t.Context(), f, func(flag string) bool { return flag == "description" }))
	if asked := errOut.String(); strings.Contains(asked, "does not work") || strings.Contains(asked, "What else") || !strings.Contains(asked, "10  SuspectedMalware: something may be infected") {
		t.Errorf("asked\n%s", asked)
	}
	spec, err := s.eventSpec(f)
	mustDo(t, err)
	want := &v1alpha1.SecurityEventSpec{
		Source: v1alpha1.EventSource{Kind: v1alpha1.SourceHuman}, Title: "A shell on my screen", Severity: v1alpha1.SeverityHigh,
		ObservedTime: metav1.NewTime(noon.Add(-10 * time.Minute)),
		Assets:       []v1alpha1.Asset{{Type: "Device", Identifier: "LT-0042"}, {Type: "Site", Identifier: "Berlin"}},
		Report:       v1alpha1.EventReport{Type: v1alpha1.ReportSuspectedMalware, Malfunction: "It is slow", ScreenMessages: "You are hacked", ActionsTaken: "Pulled the plug"},
	}
	if diff := cmp.Diff(want, spec); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What cannot be taken is asked for again, and what was said before is kept.
func TestAskAgain(t *testing.T) {
	s, _, errOut := testSession(terminal{interactive: true})
	s.answers = bufio.NewReader(strings.NewReader("\nA laptop is gone\n12\n5\n\nyesterday\n20m\n\n\n\n\nLT-0042\nDevice:LT-0042\n"))
	f := &eventFlags{severity: "Medium"}
	mustDo(t, s.askForEvent(t.Context(), f, func(string) bool { return false }))
	spec, err := s.eventSpec(f)
	mustDo(t, err)
	want := &v1alpha1.SecurityEventSpec{
		Source: v1alpha1.EventSource{Kind: v1alpha1.SourceHuman}, Title: "A laptop is gone", Severity: v1alpha1.SeverityMedium,
		ObservedTime: metav1.NewTime(noon.Add(-10 * time.Minute)), Assets: []v1alpha1.Asset{{Type: "Device", Identifier: "LT-0042"}},
		Report: v1alpha1.EventReport{Type: v1alpha1.ReportPhysicalBreach},
	}
	if diff := cmp.Diff(want, spec); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, want := range []string{"It must say in a few words", "must be one of IneffectiveControl", "must be a time such as", "must be TYPE:NAME"} {
		if !strings.Contains(errOut.String(), want) {
			t.Errorf("want %q in\n%s", want, errOut)
		}
	}
	// Nobody is asked for ever.
	s.answers = bufio.NewReader(strings.NewReader(strings.Repeat("\n", 40)))
	mustDo(t, s.askForEvent(t.Context(), &eventFlags{}, func(string) bool { return false }))
	// Who ends the input has not answered with nothing: what cannot be changed is not sent.
	for _, answers := range []string{"", "A laptop is gone\n", "A laptop is gone\n5\n\n\n\n\n\n\n"} {
		s.answers = bufio.NewReader(strings.NewReader(answers))
		err := s.askForEvent(t.Context(), &eventFlags{}, func(string) bool { return false })
		if code := report(errOut, s.style, err); code != ExitRefused {
			t.Errorf("%q: exit code %d, error %v", answers, code, err)
		}
	}
}

func TestEvent(t *testing.T) {
	ctx := t.Context()
	namespace := domain(t, "firebreak-responder")
	seesNamespace(t, namespace)
	r := run(ctx, janeConfig, "event", "A laptop was left on a train", "--type", "physicalbreach", "--asset", "Device:LT-0042", "--resource", "pod/shop/cart-1",
		"--actions-taken", "Called the office", "--reporter-user", "bob", "--reporter-email", "bob@example.com", "--where", "IC 524", "-n", namespace)
	r.check(t, ExitOK, "Reported as the event report-", "")
	r.check(t, ExitOK, "Write down at once what you have noticed", "")
	list := &v1alpha1.SecurityEventList{}
	mustDo(t, admin.List(ctx, list, client.InNamespace(namespace)))
	if len(list.Items) != 1 {
		t.Fatalf("%d events, want one", len(list.Items))
	}
	got := list.Items[0].Spec
	got.ObservedTime = metav1.Time{}
	want := v1alpha1.SecurityEventSpec{
		Source: v1alpha1.EventSource{Kind: v1alpha1.SourceHuman}, SubmittedBy: jane, Mode: v1alpha1.ModeLive, Title: "A laptop was left on a train", Severity: v1alpha1.SeverityMedium,
		Resources: []v1alpha1.ResourceReference{{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "cart-1"}},
		Assets:    []v1alpha1.Asset{{Type: "Device", Identifier: "LT-0042"}, {Type: "Site", Identifier: "IC 524"}},
		Report:    v1alpha1.EventReport{Type: v1alpha1.ReportPhysicalBreach, ActionsTaken: "Called the office"},
		Reporter:  v1alpha1.Reporter{User: "bob", Email: "bob@example.com"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	event := func(args ...string) result {
		return run(ctx, janeConfig, append([]string{"event", "-n", namespace}, args...)...)
	}
	event("x", "--type", "other", "--dry-run", "client").check(t, ExitOK, "generateName: report-", "")
	event("x", "--type", "other", "--dry-run", "server", "-o", "name").check(t, ExitOK, "securityevent.firebreak.dev/report-", "")
	event("x", "--type", "other", "--drill", "--dry-run", "client").check(t, ExitOK, "mode: Drill", "")
	event("x", "--type", "other", "--drill", "--dry-run", "server", "-o", "yaml").check(t, ExitOK, "mode: Drill", "")
	event("x").check(t, ExitError, "", "--type is missing: it must be one of IneffectiveControl")
	event("--type", "other").check(t, ExitError, "", "the title is missing")
	event("x", "--type", "other", "--asset", "LT-1").check(t, ExitError, "", "must be TYPE:NAME")
	event("x", "--type", "other", "--resource", "Widget/a").check(t, ExitError, "", "the API version of the kind is not known")
	event("x", "--type", "other", "--malfunction", strings.Repeat("x", 2049)).check(t, ExitError, "", "--malfunction must be at most 2048 characters long, is 2049")
	event("x", "--type", "other", "--reporter-email", "nobody").check(t, ExitRefused, "", "No SecurityEvent was created.")
	mustDo(t, admin.List(ctx, list, client.InNamespace(namespace)))
	if len(list.Items) != 1 {
		t.Errorf("%d events, want one", len(list.Items))
	}
}

// awaitForged waits until a person can, or cannot, open an incident in the name of a rule.
func awaitForged(ctx context.Context, t *testing.T, namespace string, can bool) {
	t.Helper()
	mustDo(t, wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, setupTime, true, func(ctx context.Context) (bool, error) {
		forged := &v1alpha1.Incident{ObjectMeta: metav1.ObjectMeta{Name: "forged", Namespace: namespace},
			Spec: v1alpha1.IncidentSpec{Title: "x", Severity: v1alpha1.SeverityLow, Category: v1alpha1.CategoryOther, Rule: "a/b"}}
		return (admin.Create(ctx, forged, client.DryRunAll) == nil) == can, nil
	}))
}

func TestDeclare(t *testing.T) {
	ctx := t.Context()
	mustDo(t, install(ctx, "../../config/admission/incidents.yaml"))
	namespace := domain(t, "firebreak-incident-manager")
	awaitForged(ctx, t, namespace, false)
	t.Cleanup(func() { // other tests open incidents as rules do
		ctx := context.WithoutCancel(ctx)
		mustDo(t, admin.Delete(ctx, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "firebreak-incidents"}}))
		awaitForged(ctx, t, namespace, true)
	})
	seesNamespace(t, namespace)
	mustDo(t, admin.Create(ctx, &v1alpha1.ResponsePlaybook{ObjectMeta: metav1.ObjectMeta{Name: "leak", Namespace: namespace},
		Spec: v1alpha1.ResponsePlaybookSpec{ServiceAccountName: "contain", Containment: v1alpha1.PlaybookPhase{
			Steps: []v1alpha1.PlaybookStep{{Name: "cut", Target: v1alpha1.TargetPods, Isolate: &v1alpha1.IsolateAction{}}}}}}))
	r := run(ctx, janeConfig, "declare", "Customer data on a public share", "--severity", "high", "--category", "informationcontentsecurity",
		"--impact", "high,low,none", "--tlp", "red", "--playbook", "leak", "--resource", "Deployment/shop/cart", "--occurred", "3h", "-n", namespace)
	r.check(t, ExitOK, "Declared the incident inc-", "")
	list := &v1alpha1.IncidentList{}
	mustDo(t, admin.List(ctx, list, client.InNamespace(namespace)))
	if len(list.Items) != 1 {
		t.Fatalf("%d incidents, want one", len(list.Items))
	}
	got := list.Items[0].Spec
	if got.OccurredTime == nil || got.DetectedTime == nil || got.DetectedTime.Sub(got.OccurredTime.Time).Round(time.Minute) != 3*time.Hour {
		t.Errorf("occurred %s, detected %s", got.OccurredTime, got.DetectedTime)
	}
	got.OccurredTime, got.DetectedTime = nil, nil
	want := v1alpha1.IncidentSpec{
		Title: "Customer data on a public share", Mode: v1alpha1.ModeLive, Severity: v1alpha1.SeverityHigh, Category: v1alpha1.CategoryInformationContentSecurity, TLP: v1alpha1.TLPRed,
		Impact:      v1alpha1.Impact{Confidentiality: v1alpha1.ImpactHigh, Integrity: v1alpha1.ImpactLow, Availability: v1alpha1.ImpactNone},
		PlaybookRef: v1alpha1.PlaybookReference{Name: "leak"}, Resources: []v1alpha1.ResourceReference{{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "cart"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	declare := func(namespace string, args ...string) result {
		return run(ctx, janeConfig, append([]string{"declare", "x", "-n", namespace}, args...)...)
	}
	declare(namespace, "--severity", "High", "--category", "Other", "--playbook", "nope").check(t, ExitError, "", "there is no playbook nope in the namespace "+namespace+". No Incident was created\n  There is: leak")
	declare(namespace, "--severity", "High").check(t, ExitError, "", "--severity and --category must be given")
	declare(namespace, "--severity", "High", "--category", "Other", "--impact", "High").check(t, ExitError, "", "must be three of None, Low, High")
	declare(namespace, "--severity", "High", "--category", "Other", "--dry-run", "client").check(t, ExitOK, "kind: Incident", "")
	declare(namespace, "--severity", "High", "--category", "Other", "--drill").check(t, ExitOK, "Declared the drill inc-", "")
	mustDo(t, admin.List(ctx, list, client.InNamespace(namespace), client.MatchingFields{"spec.mode": string(v1alpha1.ModeDrill)}))
	if len(list.Items) != 1 || list.Items[0].Spec.Mode != v1alpha1.ModeDrill {
		t.Errorf("%d drills, want one", len(list.Items))
	}
	// To create is not enough: it takes the verb 'declare' too.
	responders := domain(t, "firebreak-responder")
	declare(responders, "--severity", "High", "--category", "Other").check(t, ExitRefused, "", "Refused: you are not permitted to create Incidents in the namespace "+responders)
	declare(responders, "--severity", "High", "--category", "Other").check(t, ExitRefused, "", "ClusterRole firebreak-incident-manager")
	mustDo(t, admin.Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "creator"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{v1alpha1.GroupName}, Resources: []string{"incidents"}, Verbs: []string{"create", "list"}}}}))
	creators := domain(t, "creator")
	declare(creators, "--severity", "High", "--category", "Other").check(t, ExitRefused, "", "must hold the RBAC verb 'declare' on 'incidents' to declare an incident")
}
