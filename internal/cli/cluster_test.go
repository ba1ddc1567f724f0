package cli

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	responder = "firebreak-responder"
	manager   = "firebreak-incident-manager"
	viewer    = "firebreak-viewer"
	reporter  = "firebreak-reporter"
)

// incidentIn is the sample in a namespace of the API server.
func incidentIn(t *testing.T, namespace string) *v1alpha1.Incident {
	t.Helper()
	incident := sampleIncident()
	incident.Namespace = namespace
	return createIncident(t, incident)
}

func decisionsIn(t *testing.T, namespace string) []v1alpha1.Decision {
	t.Helper()
	list := &v1alpha1.DecisionList{}
	mustDo(t, admin.List(t.Context(), list, client.InNamespace(namespace)))
	return list.Items
}

func TestApprove(t *testing.T) {
	namespace := domain(t, responder)
	incidentIn(t, namespace)
	mustDo(t, admin.Create(t.Context(), &v1alpha1.ResponsePlan{
		ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: namespace},
		Spec: v1alpha1.ResponsePlanSpec{Roles: []v1alpha1.PlanRole{{Name: "IncidentManager",
			Subjects: []v1alpha1.RoleSubject{{Kind: v1alpha1.RoleSubjectGroup, Name: oncallGroup}}}}},
	}))
	manage(t, namespace, accepted)

	r := run(t.Context(), janeConfig, "approve", "k7f2a", "--reason", "seen, and judged", "-n", namespace)
	r.check(t, ExitOK, "Accepted: step ok-to-delete is approved (inc-20261121-k7f2a)\n  it is so\n", "Would delete Pod shop/cart-7f9.")
	for _, shown := range []string{"as jane@example.com", "Pod shop/cart-7f9  Pending", sampleDigest, "IncidentManager"} {
		if !strings.Contains(r.err, shown) {
			t.Errorf("what is approved must be shown, want %q in:\n%s", shown, r.err)
		}
	}
	want := v1alpha1.DecisionSpec{
		Subject: v1alpha1.DecisionSubject{Kind: v1alpha1.SubjectIncident, Name: sampleName},
		Type:    v1alpha1.DecisionApprove, By: jane, Groups: []string{oncallGroup}, Role: "IncidentManager",
		Reason: "seen, and judged", Step: "ok-to-delete", Digest: sampleDigest,
	}
	decisions := decisionsIn(t, namespace)
	if len(decisions) != 1 || !strings.HasPrefix(decisions[0].Name, "approve-") {
		t.Fatalf("want one Decision named approve-..., got %v", decisions)
	}
	if diff := cmp.Diff(want, decisions[0].Spec); diff != "" {
		t.Errorf("Decision (-want +got):\n%s", diff)
	}
}

func TestApproveDryRunCreatesNothing(t *testing.T) {
	namespace := domain(t, responder)
	incidentIn(t, namespace)
	r := run(t.Context(), janeConfig, "approve", "incident.firebreak.dev/"+sampleName, "ok-to-delete", "--reason", "r", "--dry-run=client", "-o", "yaml", "-n", namespace)
	if r.code != ExitOK {
		t.Fatalf("exit code %d: %s", r.code, r.err)
	}
	golden(t, "decision", strings.ReplaceAll(r.out, namespace, "security"))
	run(t.Context(), janeConfig, "approve", "k7f2a", "--reason", "r", "--dry-run=server", "-o", "name", "-n", namespace).check(t, ExitOK, "decision.firebreak.dev/approve-", "")
	if decisions := decisionsIn(t, namespace); len(decisions) > 0 {
		t.Errorf("the dry run has created %s", decisions[0].Name)
	}

	// What it prints is a plain `kubectl create -f`.
	decision := &v1alpha1.Decision{}
	mustDo(t, yaml.UnmarshalStrict([]byte(r.out), decision))
	if err := admin.Create(t.Context(), decision); err == nil || !strings.Contains(err.Error(), "`spec.by` must be 'admin'") {
		t.Errorf("in another's name it must be refused, got %v", err)
	}
}

// TestEveryDecision runs each command and looks at what it creates.
func TestEveryDecision(t *testing.T) {
	namespace := domain(t, manager)
	incident := sampleIncident()
	incident.Namespace = namespace
	for _, awaiting := range []v1alpha1.Awaiting{
		{Type: v1alpha1.AwaitingTask, Step: "delete-pod", Role: "Owner"}, {Type: v1alpha1.AwaitingFailure, Step: "isolate"}, {Type: v1alpha1.AwaitingClose},
	} {
		awaiting.SinceTime, awaiting.Message, awaiting.Command = at(1), "m", "c"
		incident.Status.Awaiting = append(incident.Status.Awaiting, awaiting)
	}
	createIncident(t, incident)
	original := sampleIncident()
	original.Namespace, original.Name = namespace, "inc-20261121-aaaaa"
	createIncident(t, original)
	event := &v1alpha1.SecurityEvent{
		ObjectMeta: metav1.ObjectMeta{Name: "falco-5f0c8a2e1b", Namespace: namespace},
		Spec: v1alpha1.SecurityEventSpec{Source: v1alpha1.EventSource{Kind: v1alpha1.SourceAutomatic}, SubmittedBy: "falco", Title: "t",
			Severity: v1alpha1.SeverityLow, ObservedTime: at(0)},
	}
	mustDo(t, admin.Create(t.Context(), event))
	manage(t, namespace, accepted)

	onIncident := v1alpha1.DecisionSubject{Kind: v1alpha1.SubjectIncident, Name: sampleName}
	onEvent := v1alpha1.DecisionSubject{Kind: v1alpha1.SubjectSecurityEvent, Name: event.Name}
	onPlan := v1alpha1.DecisionSubject{Kind: v1alpha1.SubjectResponsePlan, Name: "default"}
	for name, test := range map[string]struct {
		args []string
		out  string
		want v1alpha1.DecisionSpec
	}{
		"acknowledge": {[]string{"ack", "k7f2a"}, "is acknowledged", v1alpha1.DecisionSpec{Type: v1alpha1.DecisionAcknowledge, Subject: onIncident}},
		"reject": {[]string{"reject", "k7f2a", "--reason", "no"}, "step ok-to-delete is rejected",
			v1alpha1.DecisionSpec{Type: v1alpha1.DecisionReject, Subject: onIncident, Step: "ok-to-delete", Reason: "no", Role: "IncidentManager", Groups: []string{"everybody", oncallGroup}}},
		"task": {[]string{"task", "k7f2a", "--reason", "done by phone"}, "step delete-pod is done",
			v1alpha1.DecisionSpec{Type: v1alpha1.DecisionCompleteTask, Subject: onIncident, Step: "delete-pod", Reason: "done by phone", Role: "Owner", Groups: []string{"everybody", oncallGroup}}},
		"retry": {[]string{"retry", "k7f2a"}, "step isolate is begun anew", v1alpha1.DecisionSpec{Type: v1alpha1.DecisionRetryStep, Subject: onIncident, Step: "isolate"}},
		"skip": {[]string{"skip", "k7f2a", "ok-to-delete", "--reason", "gone"}, "step ok-to-delete is skipped",
			v1alpha1.DecisionSpec{Type: v1alpha1.DecisionSkipStep, Subject: onIncident, Step: "ok-to-delete", Reason: "gone"}},
		"stop one":   {[]string{"stop", "k7f2a", "--reason", "wait"}, "is paused", v1alpha1.DecisionSpec{Type: v1alpha1.DecisionPause, Subject: onIncident, Reason: "wait"}},
		"resume one": {[]string{"resume", "k7f2a"}, "goes on", v1alpha1.DecisionSpec{Type: v1alpha1.DecisionResume, Subject: onIncident}},
		"stop": {[]string{"stop", "--reason", "false alarms"}, "the automation of " + namespace + " is stopped",
			v1alpha1.DecisionSpec{Type: v1alpha1.DecisionStopAutomation, Subject: onPlan, Reason: "false alarms"}},
		"resume": {[]string{"resume"}, "runs again", v1alpha1.DecisionSpec{Type: v1alpha1.DecisionResumeAutomation, Subject: onPlan}},
		"severity": {[]string{"severity", "k7f2a", "critical", "--reason", "payment data"}, "is Critical now",
			v1alpha1.DecisionSpec{Type: v1alpha1.DecisionSetSeverity, Subject: onIncident, Severity: v1alpha1.SeverityCritical, Reason: "payment data"}},
		"detach": {[]string{"detach", "k7f2a", "falco-5f0c8a2e1b", "--reason", "the scanner"}, "is not about event falco-5f0c8a2e1b",
			v1alpha1.DecisionSpec{Type: v1alpha1.DecisionDetachEvent, Subject: onIncident, EventRef: v1alpha1.EventReference{Name: "falco-5f0c8a2e1b"}, Reason: "the scanner"}},
		"duplicate": {[]string{"duplicate", "k7f2a", "--of", "aaaaa", "--reason", "the same attack"}, "is a duplicate of inc-20261121-aaaaa",
			v1alpha1.DecisionSpec{Type: v1alpha1.DecisionMarkDuplicate, Subject: onIncident, IncidentRef: v1alpha1.IncidentReference{Name: "inc-20261121-aaaaa"}, Reason: "the same attack"}},
		"confirm": {[]string{"confirm", "k7f2a"}, "is confirmed", v1alpha1.DecisionSpec{Type: v1alpha1.DecisionConfirm, Subject: onIncident}},
		"determine": {[]string{"determine", "k7f2a", "personal-data-breach", "excluded", "--reason", "test data"}, "has personal-data-breach Excluded",
			v1alpha1.DecisionSpec{Type: v1alpha1.DecisionDetermine, Subject: onIncident, Reason: "test data",
				Determination: v1alpha1.Determination{Name: "personal-data-breach", Outcome: v1alpha1.DeterminationExcluded}}},
		"use-playbook": {[]string{"use-playbook", "k7f2a", "contain-hard", "--reason", "it spreads"}, "is answered by playbook contain-hard",
			v1alpha1.DecisionSpec{Type: v1alpha1.DecisionUsePlaybook, Subject: onIncident, PlaybookRef: v1alpha1.PlaybookReference{Name: "contain-hard"}, Reason: "it spreads"}},
		"add-resource": {[]string{"add-resource", "k7f2a", "pod", "shop/cart-8a1", "--reason", "the same image"}, "is about Pod shop/cart-8a1 too",
			v1alpha1.DecisionSpec{Type: v1alpha1.DecisionAddResource, Subject: onIncident, Reason: "the same image",
				Resource: v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "cart-8a1"}}},
		"run": {[]string{"run", "k7f2a", "isolate", "--target", "pods", "--reason", "it spreads"}, "has the action as a step of its own",
			v1alpha1.DecisionSpec{Type: v1alpha1.DecisionRunAction, Subject: onIncident, Reason: "it spreads",
				Action: &runtime.RawExtension{Raw: []byte(`{"isolate":{},"target":"Pods"}`)}}},
		"note": {[]string{"note", "k7f2a", "called", "the", "owner"}, "has your note", v1alpha1.DecisionSpec{Type: v1alpha1.DecisionNote, Subject: onIncident, Reason: "called the owner"}},
		"close": {[]string{"close", "k7f2a", "--resolution", "falsepositive", "--reason", "a test"}, "closes as FalsePositive",
			v1alpha1.DecisionSpec{Type: v1alpha1.DecisionClose, Subject: onIncident, Resolution: v1alpha1.ResolutionFalsePositive, Reason: "a test"}},
		"promote": {[]string{"promote", "5f0c8a2e1b", "--severity", "high", "--category", "intrusion", "--playbook", "contain"}, "is an incident now",
			v1alpha1.DecisionSpec{Type: v1alpha1.DecisionPromote, Subject: onEvent, Severity: v1alpha1.SeverityHigh, Category: v1alpha1.CategoryIntrusion, PlaybookRef: v1alpha1.PlaybookReference{Name: "contain"}}},
		"join": {[]string{"join", "5f0c8a2e1b", "k7f2a", "--reason", "the same host"}, "belongs to " + sampleName,
			v1alpha1.DecisionSpec{Type: v1alpha1.DecisionJoin, Subject: onEvent, IncidentRef: v1alpha1.IncidentReference{Name: sampleName}, Reason: "the same host"}},
		"dismiss": {[]string{"dismiss", event.Name, "--reason", "known"}, "is dismissed", v1alpha1.DecisionSpec{Type: v1alpha1.DecisionDismiss, Subject: onEvent, Reason: "known"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(decisionsIn(t, namespace))
			run(t.Context(), janeConfig, append(test.args, "-n", namespace)...).check(t, ExitOK, test.out, "")
			decisions := decisionsIn(t, namespace)
			if len(decisions) != before+1 {
				t.Fatalf("%d Decisions were created, want 1", len(decisions)-before)
			}
			test.want.By = jane
			for _, decision := range decisions {
				if decision.Spec.Type == test.want.Type {
					if diff := cmp.Diff(test.want, decision.Spec); diff != "" {
						t.Errorf("Decision (-want +got):\n%s", diff)
					}
					return
				}
			}
			t.Errorf("no Decision of type %s was created", test.want.Type)
		})
	}
}

func TestRefusedByTheManager(t *testing.T) {
	namespace := domain(t, responder)
	incidentIn(t, namespace)
	manage(t, namespace, func(*v1alpha1.Decision) metav1.Condition {
		return metav1.Condition{Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonStale, Message: "a target was added \x1b[2J"}
	})
	r := run(t.Context(), janeConfig, "approve", "k7f2a", "--reason", "r", "-n", namespace)
	r.check(t, ExitRefused, "", `Refused (Stale): a target was added \x1b[2J`)
	if !strings.Contains(r.err, "Run the same command again") || !strings.Contains(r.err, "Decision: approve-") {
		t.Errorf("what to do now is missing:\n%s", r.err)
	}
}

func TestRefusedByAdmission(t *testing.T) {
	for name, test := range map[string]struct {
		role string
		args []string
		want string
	}{
		"without the verb":        {responder, []string{"close", "k7f2a", "--resolution", "Resolved", "--reason", "r"}, "Refused: 'jane@example.com' must hold the RBAC verb 'close' on 'incidents'"},
		"without create":          {viewer, []string{"acknowledge", "k7f2a"}, "Refused: you are not permitted to create Decisions"},
		"against the CRD's rules": {manager, []string{"promote", "k7f2a", "--playbook", strings.Repeat("x", 300)}, "there is no event k7f2a"},
	} {
		t.Run(name, func(t *testing.T) {
			namespace := domain(t, test.role)
			incidentIn(t, namespace)
			r := run(t.Context(), janeConfig, append(test.args, "-n", namespace)...)
			code := ExitRefused
			if !strings.HasPrefix(test.want, "Refused") {
				code = ExitError
			}
			r.check(t, code, "", test.want)
			if decisions := decisionsIn(t, namespace); len(decisions) > 0 {
				t.Errorf("%s was created", decisions[0].Name)
			}
		})
	}
}

func TestRefusedByValidation(t *testing.T) {
	namespace := domain(t, manager)
	mustDo(t, admin.Create(t.Context(), &v1alpha1.SecurityEvent{
		ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: namespace},
		Spec:       v1alpha1.SecurityEventSpec{Source: v1alpha1.EventSource{Kind: v1alpha1.SourceHuman}, SubmittedBy: "x", Title: "t", Severity: v1alpha1.SeverityLow, ObservedTime: at(0)},
	}))
	r := run(t.Context(), janeConfig, "promote", "e", "--playbook", strings.Repeat("x", 300), "-n", namespace)
	r.check(t, ExitRefused, "", "Refused: spec.playbookRef.name: ")
	if strings.Contains(r.err, "firebreak.dev") || !strings.Contains(r.err, "253") {
		t.Errorf("want the rule, and not the object, in plain words:\n%s", r.err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	namespace := domain(t, responder)
	incidentIn(t, namespace)
	r := run(t.Context(), janeConfig, "acknowledge", "k7f2a", "-n", namespace, "--wait-for", "300ms")
	r.check(t, ExitError, "", "no answer within 300ms: the Decision acknowledge-")
	decisions := decisionsIn(t, namespace)
	if len(decisions) != 1 || !strings.Contains(r.err, "kubectl get decision "+decisions[0].Name+" -n "+namespace) {
		t.Errorf("the line to look must name the Decision:\n%s", r.err)
	}
	run(t.Context(), janeConfig, "acknowledge", "k7f2a", "-n", namespace, "--wait-for", "0").check(t, ExitOK, "The answer will be in its status", "")
}

func TestInterrupted(t *testing.T) {
	namespace := domain(t, responder)
	incidentIn(t, namespace)
	ctx, interrupt := context.WithCancel(t.Context())
	go func() {
		defer interrupt()
		decisions, err := admin.Watch(ctx, &v1alpha1.DecisionList{}, client.InNamespace(namespace))
		if err != nil {
			t.Errorf("watching: %v", err)
			return
		}
		<-decisions.ResultChan()
		decisions.Stop()
	}()
	run(ctx, janeConfig, "acknowledge", "k7f2a", "-n", namespace).check(t, ExitError, "", "interrupted")
}

func TestFindHints(t *testing.T) {
	namespace := domain(t, manager)
	incidentIn(t, namespace)
	other := sampleIncident()
	other.Namespace, other.Name = namespace, "inc-20261120-k7f2a"
	createIncident(t, other)
	run(t.Context(), janeConfig, "show", "k7f2a", "-n", namespace).check(t, ExitError, "", `"k7f2a" can be any of inc-20261120-k7f2a, inc-20261121-k7f2a`)
	run(t.Context(), janeConfig, "show", "zzzzz", "-n", namespace).check(t, ExitError, "", "there is no incident zzzzz in the namespace "+namespace)
	// In the namespace default nothing is guessed, but it is said where there is something.
	run(t.Context(), adminConfig, "show", "inc-20261120-k7f2a").check(t, ExitError, "", "The namespace default is not a response domain")
	run(t.Context(), adminConfig, "list").check(t, ExitOK, "No open incidents in the namespace default.", namespace)
	run(t.Context(), adminConfig, "stop", "--reason", "r").check(t, ExitError, "", "the namespace default is no response domain")
	run(t.Context(), janeConfig, "list").check(t, ExitError, "", "cannot list the incidents in the namespace default: you are not permitted to")
}

func TestListAndShow(t *testing.T) {
	namespace := domain(t, viewer)
	incidentIn(t, namespace)
	closed := sampleIncident()
	closed.Namespace, closed.Name, closed.Status.Phase, closed.Status.Awaiting = namespace, "inc-closed", v1alpha1.PhaseClosed, nil
	createIncident(t, closed)
	event := &v1alpha1.SecurityEvent{
		ObjectMeta: metav1.ObjectMeta{Name: "deferred", Namespace: namespace},
		Spec:       v1alpha1.SecurityEventSpec{Source: v1alpha1.EventSource{Kind: v1alpha1.SourceHuman}, SubmittedBy: "x", Title: "odd mail", Severity: v1alpha1.SeverityLow, ObservedTime: at(0)},
	}
	mustDo(t, admin.Create(t.Context(), event))
	event.Status.Assessment = v1alpha1.Assessment{Outcome: v1alpha1.OutcomeDeferred, Reason: v1alpha1.ReasonNoRuleMatched, By: "m", Time: at(0)}
	mustDo(t, admin.Status().Update(t.Context(), event))

	r := run(t.Context(), janeConfig, "list", "-n", namespace)
	r.check(t, ExitOK, "odd mail", "")
	if strings.Contains(r.out, "inc-closed") || !strings.Contains(r.out, sampleName) {
		t.Errorf("want what is open only:\n%s", r.out)
	}
	run(t.Context(), janeConfig, "ls", "--all", "-n", namespace).check(t, ExitOK, "inc-closed", "")
	run(t.Context(), janeConfig, "list", "-o", "name", "-n", namespace).check(t, ExitOK, "incident.firebreak.dev/"+sampleName, "")
	run(t.Context(), janeConfig, "list", "-o", "yaml", "-n", namespace).check(t, ExitOK, "kind: IncidentList", "")
	run(t.Context(), janeConfig, "list", "-o", "xml", "-n", namespace).check(t, ExitError, "", "it must be one of wide, json, yaml, name")
	run(t.Context(), adminConfig, "list", "-A").check(t, ExitOK, namespace, "")
	run(t.Context(), janeConfig, "list", "-A").check(t, ExitError, "", "cannot list the incidents of all namespaces")
	run(t.Context(), janeConfig, "show", "k7f2a", "-n", namespace).check(t, ExitOK, "WAITING FOR A PERSON", "")
	run(t.Context(), janeConfig, "show", "k7f2a", "-o", "json", "-n", namespace).check(t, ExitOK, `"kind": "Incident"`, "")
	run(t.Context(), janeConfig, "show", "inc-closed", "-w", "-n", namespace).check(t, ExitOK, "[x] Closed", "")
	run(t.Context(), janeConfig, "verify", "k7f2a", "-n", namespace).check(t, ExitOK, "The record is whole", "")
	run(t.Context(), janeConfig, "verify", "k7f2a", "-o", "json", "-n", namespace).check(t, ExitOK, `"intact": true`, "")
}

// TestListOfNoDomain: what nobody looks at is not passed over in silence.
func TestListOfNoDomain(t *testing.T) {
	ctx := t.Context()
	namespace := domain(t, viewer)
	incidentIn(t, namespace)
	for name, severity := range map[string]v1alpha1.Severity{"one": v1alpha1.SeverityCritical, "other": v1alpha1.SeverityLow, "new": v1alpha1.SeverityCritical} {
		event := &v1alpha1.SecurityEvent{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
			Spec:       v1alpha1.SecurityEventSpec{Source: v1alpha1.EventSource{Kind: v1alpha1.SourceHuman}, SubmittedBy: "x", Title: "odd mail", Severity: severity, ObservedTime: at(0)},
		}
		mustDo(t, admin.Create(ctx, event))
		if name != "new" {
			event.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAssessed, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonNotADomain, LastTransitionTime: at(0)}}
			mustDo(t, admin.Status().Update(ctx, event))
		}
	}
	want := "NOBODY LOOKS AT " + namespace + ": it is not a response domain, so that nobody assesses the 2 events there, at worst Critical, and nothing is done about its 1 open incident"
	run(ctx, janeConfig, "list", "-n", namespace).check(t, ExitOK, want, "")
	run(ctx, adminConfig, "list", "-A").check(t, ExitOK, want, "")
}

// TestDecideInNoDomain: who waits for an answer there hears why none comes.
func TestDecideInNoDomain(t *testing.T) {
	namespace := domain(t, viewer)
	incidentIn(t, namespace)
	unlabelled := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"`+v1alpha1.LabelDomain+`":null}}}`))
	mustDo(t, admin.Patch(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, unlabelled))
	run(t.Context(), adminConfig, "acknowledge", "k7f2a", "-n", namespace, "--wait-for", "300ms").check(t, ExitError, "", "is not a response domain, so that nobody looks at it")
	run(t.Context(), adminConfig, "list", "-n", namespace).check(t, ExitOK, "NOBODY LOOKS AT "+namespace+": it is not a response domain, and nothing is done about its 1 open incident", "")
}

func TestVerifyFindsABentTimeline(t *testing.T) {
	namespace := domain(t, viewer)
	incident := incidentIn(t, namespace)
	incident.Status.Timeline[1].Message = "nothing was done"
	mustDo(t, admin.Status().Update(t.Context(), incident))
	r := run(t.Context(), janeConfig, "verify", "k7f2a", "-n", namespace)
	r.check(t, ExitRefused, "BROKEN timeline: entry 2 was changed", "The record of inc-20261121-k7f2a is BROKEN: 1 problem.")
}

// signalWriter tells when a text was written to it.
type signalWriter struct {
	strings.Builder

	text string
	seen chan struct{}
}

func (w *signalWriter) Write(p []byte) (int, error) {
	n, err := w.Builder.Write(p)
	if w.text != "" && strings.Contains(w.String(), w.text) {
		w.text = ""
		close(w.seen)
	}
	return n, err
}

func TestShowFollowsUntilClosed(t *testing.T) {
	namespace := domain(t, viewer)
	incident := incidentIn(t, namespace)
	streams, _, _, errOut := genericiooptions.NewTestIOStreams()
	out := &signalWriter{text: "Following", seen: make(chan struct{})}
	streams.Out = out
	ctx, cancel := context.WithTimeout(t.Context(), setupTime)
	defer cancel()
	ended := make(chan int, 1)
	go func() {
		ended <- Run(ctx, []string{"show", "k7f2a", "-w", "-n", namespace, "--kubeconfig", janeConfig}, Config{Streams: streams, Location: time.UTC})
	}()
	select {
	case <-out.seen:
	case <-ctx.Done():
		t.Fatal("it never began to follow")
	}
	chain(incident, v1alpha1.TimelineEntry{Time: at(90), Actor: jane, Decision: "approve-abcde", Action: "Approve", Outcome: "Accepted", Step: "ok-to-delete"})
	incident.Status.Phase, incident.Status.Awaiting = v1alpha1.PhaseRecovery, nil
	mustDo(t, admin.Status().Update(ctx, incident))
	incident.Status.Phase, incident.Status.Resolution = v1alpha1.PhaseClosed, v1alpha1.ResolutionResolved
	mustDo(t, admin.Status().Update(ctx, incident))
	code := <-ended
	if code != ExitOK || !strings.Contains(out.String(), "12:01:30") || !strings.HasSuffix(out.String(), "Closed as Resolved.\n") {
		t.Errorf("exit code %d, output:\n%s\nerr:\n%s", code, out.String(), errOut)
	}
}

func TestShowSaysThatTheIncidentIsGone(t *testing.T) {
	namespace := domain(t, viewer)
	incident := incidentIn(t, namespace)
	streams, _, _, errOut := genericiooptions.NewTestIOStreams()
	out := &signalWriter{text: "Following", seen: make(chan struct{})}
	streams.Out = out
	ended := make(chan int, 1)
	go func() {
		ended <- Run(t.Context(), []string{"show", "k7f2a", "-w", "-n", namespace, "--kubeconfig", janeConfig}, Config{Streams: streams})
	}()
	<-out.seen
	mustDo(t, admin.Delete(t.Context(), incident))
	if code := <-ended; code != ExitError || !strings.Contains(errOut.String(), "was deleted") {
		t.Errorf("exit code %d, err:\n%s", code, errOut)
	}
}

func TestWrongUse(t *testing.T) {
	for want, args := range map[string][]string{
		"it must be kubectl firebreak approve INCIDENT [STEP]": {"approve"},
		`"c" is too much`:       {"approve", "a", "b", "c"},
		"unknown flag: --forse": {"close", "x", "--forse"},
		"unknown command \"clsoe\"\n  Did you mean close?":         {"clsoe"},
		"unknown command \"nonsense\"\n  Help: kubectl firebreak":  {"nonsense"},
		"--resolution Resolved, FalsePositive, AcceptedRisk":       {"close", "x", "--reason", "r"},
		`the severity "hgih" is not known`:                         {"severity", "x", "hgih", "--reason", "r"},
		"--dry-run=maybe is not known":                             {"acknowledge", "x", "--dry-run", "maybe"},
		"at most 1024 characters":                                  {"acknowledge", "x", "--reason", strings.Repeat("x", 1025)},
		"cannot tell which":                                        {"acknowledge", "x", "--context", "none"},
		"-w cannot be combined with -o":                            {"show", "x", "-w", "-o", "json"},
		"-o table is not known: it must be one of yaml, json, nam": {"acknowledge", "x", "-o", "table"},
	} {
		t.Run(args[0], func(t *testing.T) {
			run(t.Context(), adminConfig, args...).check(t, ExitError, "", want)
		})
	}
}

func TestAReasonIsAskedForAtATerminal(t *testing.T) {
	namespace := domain(t, responder)
	incidentIn(t, namespace)
	manage(t, namespace, accepted)
	for _, test := range []struct {
		name, typed, want string
		code, decisions   int
	}{
		{"no", "because\nn\n", "not approved: nothing was done", ExitError, 0},
		{"just Enter", "because\n\n", "not approved: nothing was done", ExitError, 0},
		{"end of input", "", "the reason is missing", ExitError, 0},
		{"yes", "because\ny\n", "Approve this? [y/N]", ExitOK, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			streams, in, out, errOut := genericiooptions.NewTestIOStreams()
			in.WriteString(test.typed)
			s := newSession(Config{Streams: streams})
			s.terminal.interactive = true
			root := newRootCommand(s)
			root.SetArgs([]string{"approve", "k7f2a", "-n", namespace, "--kubeconfig", janeConfig})
			code := report(errOut, s.style, root.ExecuteContext(t.Context()))
			decisions := decisionsIn(t, namespace)
			if code != test.code || !strings.Contains(errOut.String(), test.want) || len(decisions) != test.decisions {
				t.Errorf("exit code %d, %d Decisions\nout:\n%s\nerr:\n%s", code, len(decisions), out, errOut)
			}
			if len(decisions) == 1 && decisions[0].Spec.Reason != "because" {
				t.Errorf("the reason is %q", decisions[0].Spec.Reason)
			}
		})
	}
}

func TestCompletion(t *testing.T) {
	namespace := domain(t, viewer)
	incidentIn(t, namespace)
	complete(t.Context(), "-n", namespace, "--kubeconfig", janeConfig, "approve", "").check(t, ExitOK, sampleName+"\tCritical Shell in shop/cart\n", "")
	r := complete(t.Context(), "-n", namespace, "--kubeconfig", janeConfig, "approve", "k7f2a", "")
	r.check(t, ExitOK, "ok-to-delete\tAwaitingApproval\n", "")
	if strings.Contains(r.out, "isolate") {
		t.Errorf("only what waits for an approval can be approved:\n%s", r.out)
	}

	drill := sampleIncident()
	drill.Namespace, drill.Name, drill.Spec.Mode = namespace, "inc-20261121-drill", v1alpha1.ModeDrill
	createIncident(t, drill)
	complete(t.Context(), "-n", namespace, "--kubeconfig", janeConfig, "verify", "").check(t, ExitOK,
		sampleName+"\tCritical Shell in shop/cart\n"+drill.Name+"\tCritical DRILL: Shell in shop/cart\n", "")
	event := explainedEvent()
	event.Namespace, event.Spec.Mode = namespace, v1alpha1.ModeDrill
	status := event.Status
	mustDo(t, admin.Create(t.Context(), event))
	event.Status, event.Status.Assessment.Outcome = status, v1alpha1.OutcomeDeferred
	mustDo(t, admin.Status().Update(t.Context(), event))
	complete(t.Context(), "-n", namespace, "--kubeconfig", janeConfig, "explain", "").check(t, ExitOK, "falco-1\tHigh DRILL: A shell", "")
}

// complete is what the shell asks for; the word to be completed comes last.
func complete(ctx context.Context, args ...string) result {
	streams, _, out, errOut := genericiooptions.NewTestIOStreams()
	code := Run(ctx, append([]string{"__complete"}, args...), Config{Streams: streams})
	return result{code, out.String(), errOut.String()}
}
