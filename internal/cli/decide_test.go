package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func TestGroupsForRole(t *testing.T) {
	group := func(name string) v1alpha1.RoleSubject {
		return v1alpha1.RoleSubject{Kind: v1alpha1.RoleSubjectGroup, Name: name}
	}
	plan := &v1alpha1.ResponsePlan{Spec: v1alpha1.ResponsePlanSpec{Roles: []v1alpha1.PlanRole{
		{Name: "IncidentManager", Subjects: []v1alpha1.RoleSubject{group("oncall"), group("managers"), {Kind: v1alpha1.RoleSubjectUser, Name: "staff"}}},
		{Name: "Legal", Subjects: []v1alpha1.RoleSubject{group("lawyers")}},
		{Name: "Everybody", Subjects: []v1alpha1.RoleSubject{group("system:authenticated")}},
	}}}
	many := make([]string, 20)
	for i := range many {
		many[i] = "group-" + string(rune('a'+i))
	}
	own := []string{"oncall", "staff", "lawyers", "oncall", "system:authenticated"}
	for name, test := range map[string]struct {
		plan *v1alpha1.ResponsePlan
		role string
		own  []string
		want []string
	}{
		"no role asked":            {plan, "", own, nil},
		"those that hold it":       {plan, "IncidentManager", own, []string{"oncall"}},
		"another role":             {plan, "Legal", own, []string{"lawyers"}},
		"one of Kubernetes":        {plan, "Everybody", own, []string{"system:authenticated"}},
		"a role nobody knows":      {plan, "Unknown", own, nil},
		"none that holds it":       {plan, "Legal", []string{"oncall"}, nil},
		"no plan to be read":       {nil, "IncidentManager", own, []string{"lawyers", "oncall", "staff"}},
		"no plan, too many groups": {nil, "IncidentManager", many, many[:16]},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, groupsForRole(test.plan, test.role, test.own)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAwaitedApproval(t *testing.T) {
	for name, test := range map[string]struct {
		step, digest string
		bend         func(*v1alpha1.Incident)
		code         int
		want         string
	}{
		"waits":                      {step: "ok-to-delete"},
		"the digest that was shown":  {step: "ok-to-delete", digest: sampleDigest},
		"another digest":             {step: "ok-to-delete", digest: "sha256:other", code: ExitRefused, want: "has changed"},
		"done already":               {step: "isolate", code: ExitError, want: "does not wait for an approval: it is Succeeded"},
		"targets are not known yet":  {step: "ok-to-delete", bend: func(i *v1alpha1.Incident) { i.Status.Awaiting[0].Digest = "" }, code: ExitError, want: "no digest yet"},
		"a task is not an approval":  {step: "ok-to-delete", bend: func(i *v1alpha1.Incident) { i.Status.Awaiting[0].Type = v1alpha1.AwaitingTask }, code: ExitError, want: "does not wait for an approval: it is AwaitingApproval"},
		"nothing waits for a person": {step: "ok-to-delete", bend: func(i *v1alpha1.Incident) { i.Status.Awaiting = nil }, code: ExitError, want: "does not wait"},
	} {
		t.Run(name, func(t *testing.T) {
			incident := sampleIncident()
			if test.bend != nil {
				test.bend(incident)
			}
			s, _, errOut := testSession(terminal{})
			got, err := s.awaitedApproval(incident, test.step, test.digest)
			if code := report(errOut, s.style, err); code != test.code || !strings.Contains(errOut.String(), test.want) {
				t.Errorf("exit code %d, want %d with %q in:\n%s", code, test.code, test.want, errOut)
			}
			if err == nil && (got.Digest != sampleDigest || got.Role != "IncidentManager") {
				t.Errorf("digest %q and role %q are not those of the step", got.Digest, got.Role)
			}
		})
	}
}

func TestChooseStep(t *testing.T) {
	approve := stepCommand{use: "approve INCIDENT", kind: v1alpha1.DecisionApprove, awaited: []v1alpha1.AwaitingType{v1alpha1.AwaitingApproval}}
	task := stepCommand{use: "task INCIDENT", kind: v1alpha1.DecisionCompleteTask, awaited: []v1alpha1.AwaitingType{v1alpha1.AwaitingTask}}
	two := func(i *v1alpha1.Incident) {
		other := i.Status.Awaiting[0]
		other.Step, other.Message = "delete-pod", hostile
		i.Status.Awaiting = append(i.Status.Awaiting, other)
	}
	for name, test := range map[string]struct {
		command stepCommand
		named   []string
		bend    func(*v1alpha1.Incident)
		want    string
		err     []string
	}{
		"the only one that waits": {command: approve, want: "ok-to-delete"},
		"named":                   {command: approve, named: []string{"delete-pod"}, want: "delete-pod"},
		"a typing error":          {command: approve, named: []string{"delete-pots"}, err: []string{`has no step "delete-pots"`, "preserve, isolate, ok-to-delete, delete-pod"}},
		"two wait":                {command: approve, bend: two, err: []string{"2 steps of inc-20261121-k7f2a wait: name one", "approve inc-20261121-k7f2a delete-pod -n security"}},
		"none waits":              {command: task, err: []string{"waits to be done by a person", "kubectl firebreak show inc-20261121-k7f2a -n security"}},
		"no steps":                {command: task, named: []string{"x"}, bend: func(i *v1alpha1.Incident) { i.Status.Steps = nil }, err: []string{"has no steps (yet)"}},
	} {
		t.Run(name, func(t *testing.T) {
			incident := sampleIncident()
			if test.bend != nil {
				test.bend(incident)
			}
			s, _, errOut := testSession(terminal{})
			got, err := s.chooseStep(incident, test.named, test.command)
			report(errOut, s.style, err)
			if got != test.want || (err != nil) != (test.err != nil) {
				t.Errorf("got %q, %v; want %q", got, err, test.want)
			}
			for _, want := range test.err {
				if !strings.Contains(errOut.String(), want) {
					t.Errorf("want %q in:\n%s", want, errOut)
				}
			}
			if hasUnprintable(errOut.String()) {
				t.Errorf("not all printable: %q", errOut)
			}
		})
	}
}

func TestKebab(t *testing.T) {
	for give, want := range map[string]string{"Approve": "approve", "CompleteTask": "complete-task", "StopAutomation": "stop-automation"} {
		if got := kebab(give); got != want {
			t.Errorf("kebab(%s) = %s, want %s", give, got, want)
		}
	}
}

func TestMatching(t *testing.T) {
	names := []string{"inc-20261121-k7f2a", "inc-20261121-aaaaa", "inc-20261120-k7f2b"}
	for part, want := range map[string][]string{
		"k7f2a": {"inc-20261121-k7f2a"}, "inc-20261121": {"inc-20261121-k7f2a", "inc-20261121-aaaaa"}, "7f2": nil, "inc-20261120": {"inc-20261120-k7f2b"},
	} {
		if diff := cmp.Diff(want, matching(names, part)); diff != "" {
			t.Errorf("matching(%s) (-want +got):\n%s", part, diff)
		}
	}
}

func TestRefusal(t *testing.T) {
	decisions := schema.GroupResource{Group: v1alpha1.GroupName, Resource: "decisions"}
	denied := apierrors.NewForbidden(decisions, "approve-", nil)
	denied.ErrStatus.Message = `decisions.firebreak.dev "approve-" is forbidden: ValidatingAdmissionPolicy 'firebreak-decisions' with binding 'firebreak-decisions' denied request: 'jane' must hold the RBAC verb 'close' on 'incidents'`
	for name, test := range map[string]struct {
		err  error
		code int
		want []string
	}{
		"admission": {denied, ExitRefused, []string{"Refused: 'jane' must hold the RBAC verb", "No Decision was created.", "firebreak-responder"}},
		"RBAC":      {apierrors.NewForbidden(decisions, "", nil), ExitRefused, []string{"Refused: you are not permitted to create Decisions in the namespace security"}},
		"no CRDs": {&apierrors.StatusError{ErrStatus: metav1.Status{Reason: metav1.StatusReasonNotFound, Code: 404, Message: "the server could not find the requested resource",
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: metav1.CauseTypeUnexpectedServerResponse}}}}}, ExitError, []string{"cannot create it: the API server does not know Firebreak's kinds"}},
		"too busy":     {apierrors.NewTooManyRequests("later", 1), ExitError, []string{"cannot create it: later"}},
		"unknown user": {apierrors.NewUnauthorized("no"), ExitError, []string{"does not know you", "kubectl auth whoami"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := refusal(test.err, "security")
			if err == nil {
				err = explain(test.err, "create it")
			}
			s, _, errOut := testSession(terminal{})
			if code := report(errOut, s.style, err); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			for _, want := range test.want {
				if !strings.Contains(errOut.String(), want) {
					t.Errorf("want %q in:\n%s", want, errOut)
				}
			}
		})
	}
}

func TestReasonsThatSayNothing(t *testing.T) {
	for reason, want := range map[string]bool{"": false, " ": false, "...": false, "…": false, "seen and judged": true} {
		if got := says(reason); got != want {
			t.Errorf("says(%q) = %v, want %v", reason, got, want)
		}
	}
}

// What stands in the way of closing is named by the manager; the line to type comes with it.
func TestCloseRefused(t *testing.T) {
	s, _, _ := testSession(terminal{})
	d := decision{namespace: "security", spec: v1alpha1.DecisionSpec{Type: v1alpha1.DecisionClose, Subject: v1alpha1.DecisionSubject{Kind: v1alpha1.SubjectIncident, Name: sampleName}}}
	answer := &metav1.Condition{Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonGateOpen, Message: "step 'cut' of Containment is Failed (do it, or waive it with SkipStep and a reason)"}
	err := s.printAnswer(&decisionFlags{}, d, &v1alpha1.Decision{}, answer)
	var refused *failure
	if want := "kubectl firebreak skip " + sampleName + ` STEP --reason "WHY" -n security`; !errors.As(err, &refused) || !strings.Contains(strings.Join(refused.hints, "\n"), want) {
		t.Errorf("got %+v, want %q in its hints", refused, want)
	}
}
