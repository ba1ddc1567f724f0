package lint

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firebreak-dev/firebreak/internal/manifest"
)

// right is a domain without a fault; tests break it.
const right = `apiVersion: v1
kind: ServiceAccount
metadata: {name: contain, namespace: security}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: contain, namespace: shop}
rules:
- {apiGroups: [""], resources: [pods], verbs: [get, patch]}
- {apiGroups: [""], resources: [pods/log], verbs: [get]}
- {apiGroups: [networking.k8s.io], resources: [networkpolicies], verbs: ["*"]}
- {apiGroups: [apps, batch, ""], resources: ["*"], verbs: [get, list, delete]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: contain, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: contain}
subjects: [{kind: ServiceAccount, name: contain, namespace: security}]
---
apiVersion: firebreak.dev/v1alpha1
kind: ResponsePlan
metadata: {name: default, namespace: security}
spec:
  serviceAccountName: contain
  roles:
  - {name: IncidentManager, subjects: [{kind: Group, name: oncall}]}
---
apiVersion: firebreak.dev/v1alpha1
kind: ResponsePlaybook
metadata: {name: contain, namespace: security}
spec:
  serviceAccountName: contain
  scope: {namespaces: [shop]}
  containment:
    steps:
    - name: preserve
      target: Pods
      collect: {logs: {tailLines: 100}}
    - name: isolate
      target: Pods
      isolate: {}
  eradication:
    steps:
    - name: ok
      approve:
        role: IncidentManager
        message: Delete it?
    - name: delete
      when: incident.severity == "High"
      target: Pods
      delete: {}
  recovery:
    steps:
    - name: release
      revert:
        steps: [isolate]
---
apiVersion: firebreak.dev/v1alpha1
kind: ClassificationPolicy
metadata: {name: runtime, namespace: security}
spec:
  rules:
  - name: shell
    match: event.submittedBy == "falco" && event.source.rule == "Shell"
    outcome: Promote
    correlate:
      by: [event.workload]
    incident:
      title: '"Shell in " + event.workload'
      category: Intrusion
      playbooks:
      - when: event.severity == "High"
        playbookRef: {name: contain}
`

func findings(t *testing.T, namespace string, paths []string, content string) (*Report, []string) {
	t.Helper()
	set, err := manifest.Read(paths, strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	report, err := Run(t.Context(), set, namespace)
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{}
	for _, f := range report.Findings {
		lines = append(lines, fmt.Sprintf("%s: %s %s %s: %s", f.Position, f.Severity, f.Reason, f.Field, f.Message))
	}
	return report, lines
}

func TestRun(t *testing.T) {
	const printed = "; 'kubectl firebreak rbac -f -' prints those that it needs"
	for name, test := range map[string]struct {
		old, now string
		want     []string
	}{
		"nothing is wrong": {},
		"an expression of a rule": {`event.source.rule ==`, `event.source.rul ==`, []string{
			"-:64: Error ExpressionError spec.rules[0].match: rule \"shell\" `match` 1:45: undefined field 'rul'"}},
		"an expression of an incident": {`'"Shell in " +`, `'1 +`, []string{
			"-:69: Error ExpressionError spec.rules[0].incident.title: rule \"shell\" `incident.title` 1:3: found no matching overload for '_+_' applied to '(int, string)'"}},
		"an expression beside other mistakes": {`category: Intrusion
      playbooks:
      - when: event.severity == "High"
        playbookRef: {name: contain}`, `category: Intrusion
      severity: Hihg
      colour: red
      playbooks:
      - when: event.severty == "High"
        playbookRef: {name: contains}`, []string{
			"-:71: Error Invalid spec.rules[0].incident.severity: `spec.rules[0].incident.severity` must be one of 'Informational', 'Low', 'Medium', 'High', 'Critical', is 'Hihg'",
			"-:72: Error UnknownField spec.rules[0].incident.colour: there is no field `spec.rules[0].incident.colour`: it must be one of `category`, `confirm`, `determinations`, `impact`, `playbooks`, `severity`, `severityExpression`, `title`, `tlp`",
			"-:74: Error ExpressionError spec.rules[0].incident.playbooks[0].when: rule \"shell\" `incident.playbooks[0].when` 1:6: undefined field 'severty'",
			"-:75: Error InvalidReference spec.rules[0].incident.playbooks[0].playbookRef.name: there is no ResponsePlaybook 'contains' in namespace 'security': it must be one of [\"contain\"]; did you mean 'contain'?"}},
		"a step beside another mistake": {`    - name: release
      revert:
        steps: [isolate]`, `    - name: release
      colour: red
      revert:
        steps: [isolat]`, []string{
			"-:55: Error UnknownField spec.recovery.steps[0].colour: there is no field `spec.recovery.steps[0].colour`",
			"-:57: Error InvalidReference spec.recovery.steps[release].revert.steps: recovery step \"release\": `revert.steps` names \"isolat\": it must be a step that comes before this one"}},
		"no duration": {`    - name: release`, `    - name: release
      timeout: soon`, []string{
			"-:55: Error Invalid spec.recovery.steps[0].timeout: `spec.recovery.steps[0].timeout` must be a duration, such as '30s' or '1h30m'"}},
		"an order of severities": {`event.severity == "High"`, `event.severity >= "High"`, []string{
			"-:72: Warning TextOrder spec.rules[0].incident.playbooks[0].when: severities are text, and the alphabet orders them otherwise (Critical, High, Informational, Low, Medium): what is compared with 'High' by <, <=, > or >= must be named, such as event.severity in [\"High\", \"Critical\"]"}},
		"an order in a severity": {`category: Intrusion`, `severityExpression: 'event.severity > "High" ? "Critical" : "Hihg"'
      category: Intrusion`, []string{
			"-:70: Error NoSuchValue spec.rules[0].incident.severityExpression: rule \"shell\" would yield the severity 'Hihg', which there is not, and defer the event to a person: it must be 'Informational', 'Low', 'Medium', 'High' or 'Critical'",
			"-:70: Warning TextOrder spec.rules[0].incident.severityExpression: severities are text, and the alphabet orders them otherwise (Critical, High, Informational, Low, Medium): what is compared with 'High' by <, <=, > or >= must be named, such as event.severity in [\"High\", \"Critical\"]"}},
		"an order in an objective": {"  roles:\n", "  objectives: [{severity: High, when: 'event.severity >= \"High\"', assessWithin: 5m}]\n  roles:\n", []string{
			"-:25: Warning TextOrder spec.objectives[0].when: severities are text, and the alphabet orders them otherwise (Critical, High, Informational, Low, Medium): what is compared with 'High' by <, <=, > or >= must be named, such as event.severity in [\"High\", \"Critical\"]"}},
		"no such value": {`event.severity == "High"`, `event.severity in ["Hihg", "Low"] || event.source.kind != "human"`, []string{
			"-:72: Warning NoSuchValue spec.rules[0].incident.playbooks[0].when: event.severity is never 'Hihg': it must be compared with one of [\"Informational\" \"Low\" \"Medium\" \"High\" \"Critical\"]; did you mean 'High'?",
			"-:72: Warning NoSuchValue spec.rules[0].incident.playbooks[0].when: event.source.kind is never 'human': it must be compared with one of [\"Human\" \"Automatic\"]; did you mean 'Human'?"}},
		"no such value of an incident": {`incident.severity == "High"`, `incident.phase == "Gone" && incident.title != "x" && incident.priority != ""`, []string{
			"-:49: Warning NoSuchValue spec.eradication.steps[1].when: incident.phase is never 'Gone': it must be compared with one of [\"Assessment\" \"Containment\" \"Eradication\" \"Recovery\" \"Review\" \"Closed\"]"}},
		"none of several rights": {"target: Pods\n      delete: {}", "target: Workloads\n      restart: {}", []string{
			"-:48: Error RightsMissing spec.eradication.steps[1]: ServiceAccount 'contain' may do none of [get, patch deployments.apps; get, patch statefulsets.apps; get, patch daemonsets.apps] in namespace 'shop', needed for step 'delete': a Role or ClusterRole bound to it must allow that" + printed}},
		"any submitter": {`event.submittedBy == "falco" && `, ``, []string{
			"-:64: Warning AnySubmitter spec.rules[0].match: rule \"shell\" `match` trusts any submitter: whoever may create events can open incidents by it and set off their playbooks. To be true, it must demand of `event.submittedBy`, which admission vouches for, that it is one that is written out, such as event.submittedBy == \"system:serviceaccount:falco:falco\" && …, or in a list of such, or that it startsWith \"system:serviceaccount:NAMESPACE:\"; where everybody is meant, it must say event.submittedBy != \"\" && …"}},
		"a playbook that is not there": {`playbookRef: {name: contain}`, `playbookRef: {name: contains}`, []string{
			"-:73: Error InvalidReference spec.rules[0].incident.playbooks[0].playbookRef.name: there is no ResponsePlaybook 'contains' in namespace 'security': it must be one of [\"contain\"]; did you mean 'contain'?"}},
		"a ServiceAccount that is not there": {"spec:\n  serviceAccountName: contain\n  roles", "spec:\n  serviceAccountName: reader\n  roles", []string{
			"-:24: Error InvalidReference spec.serviceAccountName: there is no ServiceAccount 'reader' in namespace 'security': it must be one of [\"contain\"]"}},
		"a step that is not there": {`steps: [isolate]`, `steps: [isolte]`, []string{
			"-:39: Warning NotReverted spec.containment.steps[1]: no later `revert` undoes step 'isolate': its effect stays until a person undoes it. A `revert` step in `recovery` would",
			"-:56: Error InvalidReference spec.recovery.steps[release].revert.steps: recovery step \"release\": `revert.steps` names \"isolte\": it must be a step that comes before this one"}},
		"an expression of a step": {`incident.severity == "High"`, `incident.sev == "High"`, []string{
			"-:49: Error ExpressionError spec.eradication.steps[delete].when: eradication step \"delete\": `when` 1:9: undefined field 'sev'"}},
		"a role that is not there": {`role: IncidentManager`, `role: IncidentManger`, []string{
			"-:46: Error InvalidReference spec.eradication.steps[0].approve.role: the plan has no role 'IncidentManger', so that nobody could answer: it must be one of [\"IncidentManager\"]; did you mean 'IncidentManager'?"}},
		"evidence is destroyed": {"collect: {logs: {tailLines: 100}}", "verify: {expression: 'true', for: 1s, within: 1m}", []string{
			"-:48: Error EvidenceLoss spec.eradication.steps[1]: step 'delete' (delete) may destroy evidence, and no step before it collects it: a step with `collect` and `target: Pods` must come before it, not in the same `parallel` group and not under another `when`; or the playbook must say `evidenceLoss: Allow`"}},
		"what no action acts on": {"      target: Pods\n      isolate", "      targets: '[{\"apiVersion\": \"v1\", \"kind\": \"Node\", \"name\": \"a\"}]'\n      isolate", []string{
			"-:39: Error InvalidTarget spec.containment.steps[1]: step 'isolate': `targets` names a Node, but 'isolate' acts on no such object: it must be Pod, Deployment (apps/v1), StatefulSet (apps/v1), DaemonSet (apps/v1), ReplicaSet (apps/v1), Job (batch/v1), ReplicationController"}},
		"a right is missing": {`resources: [pods], verbs: [get, patch]`, `resources: [pods], verbs: [get]`, []string{
			"-:39: Error RightsMissing spec.containment.steps[1]: ServiceAccount 'contain' may not patch pods in namespace 'shop', needed for step 'isolate': a Role or ClusterRole bound to it must allow that" + printed}},
		"nothing is bound": {`subjects: [{kind: ServiceAccount, name: contain,`, `subjects: [{kind: ServiceAccount, name: other,`, []string{
			"-:24: Warning RightsMissing spec.serviceAccountName: ServiceAccount 'contain' of the plan may do nothing, so that `event.workload`, which policy 'runtime' reads, is the pod itself: events of two pods of one workload do not belong together: it is among the manifests, but no RoleBinding or ClusterRoleBinding there gives it a role; the `subjects` of one must have {kind: ServiceAccount, name: contain, namespace: security}. 'kubectl firebreak rbac' prints those that a playbook needs of it",
			"-:32: Error RightsMissing spec.serviceAccountName: ServiceAccount 'contain' may do nothing: it is among the manifests, but no RoleBinding or ClusterRoleBinding there gives it a role; the `subjects` of one must have {kind: ServiceAccount, name: contain, namespace: security}. 'kubectl firebreak rbac -f -' prints those that it needs"}},
		"a rule that is never asked": {"  - name: shell\n", "  - {name: all, match: 'true', outcome: Defer}\n  - name: shell\n", []string{
			"-:64: Warning NeverAsked spec.rules[1]: rule \"shell\" is never asked: rule \"all\" before it matches every event, and the first that matches decides; it should be the last"}},
		"no apiVersion": {"apiVersion: firebreak.dev/v1alpha1\nkind: ClassificationPolicy", "kind: ClassificationPolicy", []string{
			"-:58: Error Invalid apiVersion: `apiVersion` must be set: it must be 'firebreak.dev/v1alpha1'"}},
		"another group": {"apiVersion: firebreak.dev/v1alpha1\nkind: ClassificationPolicy", "apiVersion: firebreak.io/v1alpha1\nkind: ClassificationPolicy", []string{
			"-:58: Error Invalid apiVersion: `apiVersion` must be 'firebreak.dev/v1alpha1', is 'firebreak.io/v1alpha1'"}},
		"a group of others": {"apiVersion: firebreak.dev/v1alpha1\nkind: ClassificationPolicy", "apiVersion: example.com/v1\nkind: ClassificationPolicy", nil},
		"an unknown field": {`correlate:`, `corelate:`, []string{
			"-:66: Error UnknownField spec.rules[0].corelate: there is no field `spec.rules[0].corelate`: did you mean `correlate`?"}},
		"a status": {"kind: ResponsePlan\n", "kind: ResponsePlan\nstatus: {}\n", []string{
			"-:22: Warning StatusIgnored status: `status` is not taken from a manifest: only Firebreak writes it, so leave it out"}},
	} {
		t.Run(name, func(t *testing.T) {
			if test.old != "" && strings.Count(right, test.old) != 1 {
				t.Fatalf("%q is there %d times", test.old, strings.Count(right, test.old))
			}
			_, got := findings(t, "", []string{"-"}, strings.Replace(right, test.old, test.now, 1))
			if diff := cmp.Diff(append([]string{}, test.want...), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestTrust: a rule must not be true of an event of just anybody.
func TestTrust(t *testing.T) {
	const falco = "system:serviceaccount:falco:falco"
	for match, trusted := range map[string]bool{
		`event.submittedBy == "` + falco + `" && event.source.rule == "Shell"`:                               true,
		`event.source.rule == "Shell" && "` + falco + `" == event.submittedBy`:                               true,
		`event.submittedBy in ["` + falco + `", "jane"] && (event.severity == "High" || event.title != "x")`: true,
		`event.submittedBy.startsWith("system:serviceaccount:falco:") && true`:                               true,
		`event.submittedBy.startsWith("oidc:")`:                                                              true,
		`event.submittedBy == "a" && event.severity == "Low" || event.submittedBy == "b"`:                    true,
		`event.severity == "Low" ? event.submittedBy == "a" : event.submittedBy == "b"`:                      true,
		`event.submittedBy == "a" ? event.severity == "Low" : false`:                                         true,
		`event.submittedBy != "" && event.severity == "Low"`:                                                 true,
		`event.severity == "Low"`: false,
		`event.submittedBy == "` + falco + `" || event.source.rule == "Shell"`:           false,
		`(event.submittedBy == "` + falco + `" || true) && event.source.rule == "Shell"`: false,
		`event.submittedBy != "system:serviceaccount:evil:evil"`:                         false,
		`event.submittedBy == event.submittedBy`:                                         false,
		`event.submittedBy == event.title`:                                               false,
		`event.submittedBy.startsWith("")`:                                               false,
		`event.submittedBy.startsWith("system:")`:                                        false,
		`event.submittedBy.startsWith("system:serviceaccount:")`:                         false,
		`event.submittedBy.startsWith("system:serviceaccount:falco")`:                    false,
		`event.submittedBy.startsWith(event.title)`:                                      false,
		`"system:serviceaccount:falco:falco".startsWith(event.submittedBy)`:              false,
		`event.submittedBy.contains("falco")`:                                            false,
		`event.submittedBy.endsWith(":falco")`:                                           false,
		`!(event.submittedBy == "` + falco + `")`:                                        false,
		`event.submittedBy in ["` + falco + `", event.title]`:                            false,
		`event.severity == "Low" ? event.submittedBy == "a" : true`:                      false,
		`event.submittedBy == "a" ? true : event.severity == "Low"`:                      false,
		`has(event.submittedBy)`:                                                         false,
		`["a"].exists(event, event == "a") && size(event.submittedBy) > 0`:               false,
		`event.submittedBy != "" || event.severity == "Low"`:                             false,
	} {
		content := strings.Replace(right, `match: event.submittedBy == "falco" && event.source.rule == "Shell"`, "match: >-\n      "+match, 1)
		_, got := findings(t, "", []string{"-"}, content)
		switch all := strings.Join(got, "\n"); {
		case trusted && len(got) > 0:
			t.Errorf("%s names whom it trusts, but\n%s", match, all)
		case !trusted && (len(got) != 1 || !strings.Contains(all, "Warning AnySubmitter spec.rules[0].match: rule \"shell\" `match` trusts any submitter")):
			t.Errorf("%s trusts anybody, but\n%s", match, all)
		}
	}
}

// TestNeverAsked: the first rule of a namespace that matches decides.
func TestNeverAsked(t *testing.T) {
	policy := func(name, namespace string, priority int, rules string) string {
		return fmt.Sprintf("---\napiVersion: firebreak.dev/v1alpha1\nkind: ClassificationPolicy\nmetadata: {name: %s, namespace: %s}\nspec:\n  priority: %d\n  rules: [%s]\n", name, namespace, priority, rules)
	}
	const all, same = "{name: all, match: ' true', outcome: Defer}", `{name: again, match: 'event.submittedBy == "falco" && event.source.rule == "Shell" ', outcome: Defer}`
	for name, test := range map[string]struct {
		content string
		want    []string
	}{
		"the last":          {right + policy("last", "security", -1, all), nil},
		"by its name":       {right + policy("zzz", "security", 0, all), nil},
		"another namespace": {right + policy("first", "tenant", 1, all), nil},
		"a higher priority": {policy("first", "security", 1, all) + "---\n" + right, []string{
			`Warning NeverAsked spec.rules[0]: rule "shell" is never asked: rule "all" of policy "first" (priority 1) before it matches every event, and the first that matches decides; it should be the last`}},
		"the same match": {right + policy("second", "security", 0, same), []string{
			"Warning NeverAsked spec.rules[0]: rule \"again\" never decides: rule \"shell\" of policy \"runtime\" (priority 0) before it has the same `match`, and the first that matches decides; they should be one, or differ"}},
		"all after it": {right + policy("last", "security", -1, all+",{name: second, match: 'event.severity == \"Low\"', outcome: Defer},{name: third, match: 'true', outcome: Defer}"), []string{
			`Warning NeverAsked spec.rules[1]: rule "second" is never asked: rule "all" before it matches every event, and the first that matches decides; it should be the last`,
			`Warning NeverAsked spec.rules[2]: rule "third" is never asked: rule "all" before it matches every event, and the first that matches decides; it should be the last`}},
		"a playbook": {strings.Replace(right, "      playbooks:\n", "      playbooks:\n      - playbookRef: {name: contain}\n", 1), []string{
			"Warning NeverAsked spec.rules[0].incident.playbooks[1]: playbook 'contain' of rule \"shell\" is never chosen: 'contain' before it has no `when` that could be false, and the first that is true is taken; it should be the last"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, got := findings(t, "", []string{"-"}, test.content)
			for i, line := range got {
				_, got[i], _ = strings.Cut(line, ": ")
			}
			if diff := cmp.Diff(append([]string{}, test.want...), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRightsMayBeElsewhere(t *testing.T) {
	report, got := findings(t, "", []string{"-"}, strings.Replace(right, `kind: Role, name: contain`, `kind: ClusterRole, name: admin`, 1))
	all := strings.Join(got, "\n")
	if report.Errors > 0 || report.Warnings == 0 || !strings.Contains(all, "It may be in ClusterRole 'admin', which is bound but not among the manifests") {
		t.Errorf("want warnings that name the role:\n%s", all)
	}
	_, got = findings(t, "", []string{"-"}, strings.Replace(right, "  scope: {namespaces: [shop]}\n", "", 1))
	if all := strings.Join(got, "\n"); !strings.Contains(all, "Error RightsMissing") || !strings.Contains(all, "may not get pods in all namespaces") {
		t.Errorf("a playbook without a scope needs its rights everywhere:\n%s", all)
	}
}

func TestNamespaceThatIsNotSaid(t *testing.T) {
	without := strings.ReplaceAll(right, "metadata: {name: contain, namespace: security}", "metadata: {name: contain}")
	without = strings.ReplaceAll(without, "metadata: {name: runtime, namespace: security}", "metadata: {name: runtime}")
	without = strings.ReplaceAll(without, "metadata: {name: default, namespace: security}", "metadata: {name: default}")
	if _, got := findings(t, "security", []string{"-"}, without); len(got) > 0 {
		t.Errorf("with the namespace nothing is wrong:\n%s", strings.Join(got, "\n"))
	}
	if _, got := findings(t, "", []string{"-"}, without); len(got) != 2 || !strings.Contains(got[0], "the namespace of the ResponsePlan is not known") || !strings.Contains(got[1], "of the ResponsePlaybook is not known") {
		t.Errorf("want two warnings:\n%s", strings.Join(got, "\n"))
	}
}

// TestNamesToMakeUp: the API server makes up the names of what is created with `generateName`.
func TestNamesToMakeUp(t *testing.T) {
	decision := `---
apiVersion: firebreak.dev/v1alpha1
kind: Decision
metadata: {generateName: close-, namespace: security}
spec: {type: Acknowledge, subject: {kind: Incident, name: inc-1}, by: jane, reason: I am on it.}
`
	playbook := strings.Replace(right[strings.Index(right, "apiVersion: firebreak.dev/v1alpha1\nkind: ResponsePlaybook"):strings.Index(right, "---\napiVersion: firebreak.dev/v1alpha1\nkind: ClassificationPolicy")],
		"name: contain, namespace", "generateName: contain-, namespace", 1)
	report, got := findings(t, "", []string{"-"}, right+decision+decision+"---\n"+playbook)
	if len(got) > 0 || report.Objects != 6 {
		t.Errorf("%d objects, findings\n%s", report.Objects, strings.Join(got, "\n"))
	}
	_, got = findings(t, "", []string{"-"}, strings.Replace(right, "playbookRef: {name: contain}", "playbookRef: {name: contains}", 1)+"---\n"+playbook)
	if len(got) != 1 || !strings.Contains(got[0], `must be one of ["contain"]`) {
		t.Errorf("what has no name yet must not be offered:\n%s", strings.Join(got, "\n"))
	}
	if _, got = findings(t, "", []string{"-"}, strings.Replace(right, "{name: default,", "{generateName: default-,", 1)); len(got) != 1 || !strings.Contains(got[0], "`metadata.name` must be 'default'") {
		t.Errorf("a plan's name is fixed:\n%s", strings.Join(got, "\n"))
	}
}

func TestCounts(t *testing.T) {
	report, got := findings(t, "", []string{"-"}, right+"---\n"+right[strings.LastIndex(right, "apiVersion"):]+"---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n---\na: b\n---\na: [\n")
	want := Report{Files: 1, Objects: 4, Ignored: 2, Errors: 2}
	report.Findings = nil
	if diff := cmp.Diff(want, *report); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(got) != 2 || !strings.Contains(got[0], "Error Duplicate metadata.name: ClassificationPolicy 'runtime' is there twice: it is in -:58 too") || !strings.Contains(got[1], "this is not YAML") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

// What ships must be an example of what is right.
func TestWhatShips(t *testing.T) {
	config := filepath.Join("..", "..", "config")
	for _, folder := range []string{"playbooks", "samples/demo", "samples/ci"} {
		report, got := findings(t, "", []string{filepath.Join(config, filepath.FromSlash(folder))}, "")
		if len(got) > 0 || folder == "playbooks" && report.Objects != 20 {
			t.Errorf("%s: %d objects, findings\n%s", folder, report.Objects, strings.Join(got, "\n"))
		}
	}
	// The samples of each kind go to whatever namespace people like, so that ServiceAccounts
	// and rights do not come with them.
	report, got := findings(t, "", []string{filepath.Join(config, "samples")}, "")
	if report.Errors > 0 || report.Warnings != 4 {
		t.Errorf("samples: want four warnings of ServiceAccounts that are not given:\n%s", strings.Join(got, "\n"))
	}
}
