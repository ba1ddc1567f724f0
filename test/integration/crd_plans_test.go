package integration

import "testing"

func TestBadResponsePlans(t *testing.T) {
	refuse(t, "ResponsePlan", []badObject{
		{"a second plan", `{"metadata":{"name":"another"}}`, "`metadata.name` must be 'default': there is one plan a namespace"},
		{"a response of none", `{"spec":{"response":"Maybe"}}`, `spec.response: Unsupported value: "Maybe": supported values: "Enforce", "DryRun", "Paused"`},
		{"a role of nobody", `{"spec":{"roles":[{"name":"A","subjects":[]}]}}`, "spec.roles[0].subjects"},
		{"a role twice", `{"spec":{"roles":[{"name":"A","subjects":[{"kind":"User","name":"x"}]},{"name":"A","subjects":[{"kind":"User","name":"x"}]}]}}`, "spec.roles[1]: Duplicate value"},
		{"a role of a bad name", `{"spec":{"roles":[{"name":"1","subjects":[{"kind":"User","name":"x"}]}]}}`, "spec.roles[0].name"},
		{"a role of an account", `{"spec":{"roles":[{"name":"A","subjects":[{"kind":"ServiceAccount","name":"x"}]}]}}`, `spec.roles[0].subjects[0].kind: Unsupported value: "ServiceAccount": supported values: "User", "Group"`},
		{"an account of a bad name", `{"spec":{"serviceAccountName":"a/b"}}`, "spec.serviceAccountName"},
		{"a role told by a channel that is not there", `{"spec":{"roles":[{"name":"A","subjects":[{"kind":"User","name":"x"}],"channels":["fax"]}]}}`, "`roles[].channels` must be names of `channels`"},
		{"a channel that nobody reads", `{"spec":{"serviceAccountName":null,"channels":[` + channelOf("a") + `]}}`, "`serviceAccountName` must be set with `channels`"},
		{"a channel twice", `{"spec":{"channels":[` + repeat(2, channelOf("a")) + `]}}`, "spec.channels[1]: Duplicate value"},
		{"a channel of a bad name", `{"spec":{"channels":[` + channelOf("A b") + `]}}`, "spec.channels[0].name"},
		{"a channel for any marking", `{"spec":{"channels":[{"name":"a","urlSecretKeyRef":{"name":"a","key":"b"}}]}}`, "spec.channels[0].tlp: Required value"},
		{"a channel with no URL", `{"spec":{"channels":[{"name":"a","tlp":"Amber"}]}}`, "spec.channels[0].urlSecretKeyRef: Required value"},
		{"a channel in a Secret of a name that nothing can have", `{"spec":{"channels":[{"name":"a","tlp":"Amber","urlSecretKeyRef":{"name":"a/b","key":"b"}}]}}`, "spec.channels[0].urlSecretKeyRef.name in body should match"},
		{"incidents kept for an hour", `{"spec":{"retention":{"closedIncidents":"1h"}}}`, "`closedIncidents` must be from '24h' to '876000h'"},
		{"incidents kept for too long", `{"spec":{"retention":{"closedIncidents":"876001h"}}}`, "`closedIncidents` must be from '24h' to '876000h'"},
		{"evidence kept for an hour", `{"spec":{"retention":{"evidence":"1h"}}}`, "`evidence` must be from '24h' to '876000h'"},
		{"lessons from no severity", `{"spec":{"lessons":{"requiredFrom":"Bad"}}}`, `spec.lessons.requiredFrom: Unsupported value: "Bad"`},
	})
}

func channelOf(name string) string {
	return `{"name":"` + name + `","tlp":"Amber","urlSecretKeyRef":{"name":"a","key":"b"}}`
}

func TestBadClassificationPolicies(t *testing.T) {
	rules := func(rules string) string { return `{"spec":{"rules":[` + rules + `]}}` }
	const incident = `"incident":{"category":"Intrusion"}`
	refuse(t, "ClassificationPolicy", []badObject{
		{"without rules", `{"spec":{"rules":null}}`, "spec.rules: Required value"},
		{"with no rules", rules(``), "spec.rules"},
		{"a priority too high", `{"spec":{"priority":1000001}}`, "spec.priority"},
		{"a rule of a bad name", rules(`{"name":"A b","match":"true","outcome":"Dismiss"}`), "spec.rules[0].name"},
		{"a rule twice", rules(repeat(2, `{"name":"a","match":"true","outcome":"Dismiss"}`)), "spec.rules[1]: Duplicate value"},
		{"a rule that matches nothing", rules(`{"name":"a","match":"","outcome":"Dismiss"}`), "spec.rules[0].match"},
		{"an outcome of none", rules(`{"name":"a","match":"true","outcome":"Promoted"}`), `spec.rules[0].outcome: Unsupported value: "Promoted": supported values: "Promote", "Dismiss", "Defer"`},
		{"promote to no incident", rules(`{"name":"a","match":"true","outcome":"Promote"}`), "`incident` must be set when `outcome` is 'Promote'"},
		{"dismiss to an incident", rules(`{"name":"a","match":"true","outcome":"Dismiss",` + incident + `}`), "`incident`, `correlate` and `threshold` must not be set otherwise"},
		{"dismiss by a threshold", rules(`{"name":"a","match":"true","outcome":"Dismiss","threshold":{"occurrences":2,"within":"1m"}}`), "`threshold` must not be set otherwise"},
		{"a threshold of one", rules(`{"name":"a","match":"true","outcome":"Promote",` + incident + `,"threshold":{"occurrences":1,"within":"1m"}}`), "spec.rules[0].threshold.occurrences"},
		{"a threshold within no time", rules(`{"name":"a","match":"true","outcome":"Promote",` + incident + `,"threshold":{"occurrences":2}}`), "spec.rules[0].threshold.within: Required value"},
		{"a threshold within seconds", rules(`{"name":"a","match":"true","outcome":"Promote",` + incident + `,"threshold":{"occurrences":2,"within":"59s"}}`), "`within` must be from '1m' to '24h'"},
		{"correlate by nothing", rules(`{"name":"a","match":"true","outcome":"Promote",` + incident + `,"correlate":{"by":[]}}`), "spec.rules[0].correlate.by"},
		{"correlate for no time", rules(`{"name":"a","match":"true","outcome":"Promote",` + incident + `,"correlate":{"by":["'x'"],"within":"0s"}}`), "`within` must be a positive duration such as '1h'"},
		{"an incident of no category", rules(`{"name":"a","match":"true","outcome":"Promote","incident":{"severity":"High"}}`), "spec.rules[0].incident.category: Required value"},
		{"a severity said twice", rules(`{"name":"a","match":"true","outcome":"Promote","incident":{"category":"Other","severity":"High","severityExpression":"event.severity"}}`),
			"`severity` and `severityExpression` must not both be set"},
		{"a choice of no playbook", rules(`{"name":"a","match":"true","outcome":"Promote","incident":{"category":"Other","playbooks":[{}]}}`), "playbookRef: Required value"},
		{"a choice of a playbook of a name that nothing can have", rules(`{"name":"a","match":"true","outcome":"Promote","incident":{"category":"Other","playbooks":[{"playbookRef":{"name":"a/b"}}]}}`), "playbookRef.name in body should match"},
	})
}

func TestBadResponsePlaybooks(t *testing.T) {
	steps := func(steps string) string { return `{"spec":{"containment":{"steps":[` + steps + `]}}}` }
	refuse(t, "ResponsePlaybook", []badObject{
		{"without an account", `{"spec":{"serviceAccountName":null}}`, "spec.serviceAccountName: Required value"},
		{"an account of a bad name", `{"spec":{"serviceAccountName":"a/b"}}`, "spec.serviceAccountName"},
		{"without a phase", `{"spec":{"containment":null,"eradication":null,"recovery":null}}`, "at least one of `containment`, `eradication` and `recovery` must be set"},
		{"a phase of no steps", steps(``), "spec.containment.steps"},
		{"a runbook of no scheme", `{"spec":{"runbookURL":"file:///etc/passwd"}}`, "spec.runbookURL"},
		{"no targets at all", `{"spec":{"limits":{"maxTargets":0}}}`, "spec.limits.maxTargets"},
		{"too many targets", `{"spec":{"limits":{"maxTargets":129}}}`, "spec.limits.maxTargets"},
		{"a step of a bad name", steps(`{"name":"A b","wait":{"duration":"1s"}}`), "spec.containment.steps[0].name"},
		{"a step twice", steps(repeat(2, `{"name":"a","wait":{"duration":"1s"}}`)), "spec.containment.steps[1]: Duplicate value"},
		{"a step of no action", steps(`{"name":"a"}`), "exactly one of the fields in [collect isolate quarantine scale suspend cordon drain taint revokeAccess blockImage patch apply delete evict restart rollback job http notify approve task verify wait revert] must be set"},
		{"a step of two actions", steps(`{"name":"a","wait":{"duration":"1s"},"revert":{}}`), "exactly one of the fields in"},
		{"a URL in a Secret of a name that nothing can have", steps(`{"name":"a","http":{"urlFrom":{"name":"a/b","key":"b"}}}`), "http.urlFrom.name in body should match"},
		{"isolate nothing", steps(`{"name":"a","isolate":{}}`), "`target` or `targets` must be set: this action acts on objects"},
		{"isolate nodes", steps(`{"name":"a","target":"Nodes","isolate":{}}`), "`target` must be 'Pods' for 'quarantine' and 'evict', and 'Pods' or 'Workloads' for 'isolate'"},
		{"isolate what is no target", steps(`{"name":"a","target":"Planets","isolate":{}}`), `target: Unsupported value: "Planets": supported values: "Pods", "Workloads", "Nodes", "Namespaces", "ServiceAccounts", "Images"`},
		{"two kinds of targets", steps(`{"name":"a","target":"Pods","targets":"[]","collect":{}}`), "`target` and `targets` must not both be set"},
		{"scale pods", steps(`{"name":"a","target":"Pods","scale":{"replicas":0}}`), "`target` must be 'Workloads' for 'scale', 'suspend', 'restart' and 'rollback'"},
		{"scale to nothing said", steps(`{"name":"a","target":"Workloads","scale":{}}`), "scale.replicas: Required value"},
		{"drain pods", steps(`{"name":"a","target":"Pods","drain":{}}`), "`target` must be 'Nodes' for 'cordon', 'drain' and 'taint'"},
		{"block pods", steps(`{"name":"a","target":"Pods","blockImage":{}}`), "`target` must be 'Images' for 'blockImage', and for nothing else"},
		{"delete images", steps(`{"name":"a","target":"Images","delete":{}}`), "`target` must be 'Images' for 'blockImage', and for nothing else"},
		{"revoke the access of pods", steps(`{"name":"a","target":"Pods","revokeAccess":{}}`), "`target` must be 'ServiceAccounts' for 'revokeAccess'"},
		{"patch nothing", steps(`{"name":"a","target":"Pods","patch":{}}`), "exactly one of the fields in [fields expression] must be set"},
		{"apply to pods", steps(`{"name":"a","target":"Pods","apply":{"expression":"{}"}}`), "`target` and `targets` must not be set for actions that act on no object"},
		{"send without encryption", steps(`{"name":"a","http":{"url":"http://example.com"}}`), `should match '^https://`},
		{"send to nobody", steps(`{"name":"a","http":{}}`), "exactly one of the fields in [url urlFrom] must be set"},
		{"tell nobody", steps(`{"name":"a","notify":{}}`), "at least one of the fields in [channels roles] must be set"},
		{"tell pods", steps(`{"name":"a","target":"Pods","notify":{"channels":["a"]}}`), "`target` and `targets` must not be set for actions that act on no object"},
		{"wait for pods", steps(`{"name":"a","target":"Pods","wait":{"duration":"1s"}}`), "`target` and `targets` must not be set for actions that act on no object"},
		{"wait for ever", steps(`{"name":"a","wait":{"duration":"721h"}}`), "`duration` must be more than '0s' and at most '720h'"},
		{"wait for no time", steps(`{"name":"a","wait":{"duration":"0s"}}`), "`duration` must be more than '0s'"},
		{"verify nothing", steps(`{"name":"a","verify":{}}`), "exactly one of the fields in [expression noEventsFor] must be set"},
		{"verify an expression of no target", steps(`{"name":"a","verify":{"expression":"true"}}`), "`target` or `targets` must be set: this action acts on objects"},
		{"verify silence for a time twice", steps(`{"name":"a","verify":{"noEventsFor":"1m","for":"1m"}}`), "`for` must not be set without `expression`"},
		{"verify within no time", steps(`{"name":"a","verify":{"noEventsFor":"1m","within":"0s"}}`), "`within` must be a positive duration such as '10m'"},
		{"approve by nobody", steps(`{"name":"a","approve":{"count":0}}`), "approve.count"},
		{"approve by too many", steps(`{"name":"a","approve":{"count":9}}`), "approve.count"},
		{"approve within no time", steps(`{"name":"a","approve":{"within":"-1m"}}`), "`within` must be a positive duration such as '30m'"},
		{"a task of nothing", steps(`{"name":"a","task":{}}`), "task.message: Required value"},
		{"a timeout of no time", steps(`{"name":"a","target":"Pods","delete":{},"timeout":"0s"}`), "`timeout` must be from '1s' to '24h'"},
		{"a backoff too long", steps(`{"name":"a","target":"Pods","delete":{},"retry":{"backoff":"6m"}}`), "`backoff` must be from '10ms' to '5m'"},
		{"no attempts", steps(`{"name":"a","target":"Pods","delete":{},"retry":{"attempts":0}}`), "retry.attempts"},
		{"a failure of no policy", steps(`{"name":"a","target":"Pods","delete":{},"onFailure":"Ignore"}`), `onFailure: Unsupported value: "Ignore": supported values: "Abort", "Continue", "Escalate"`},
		{"a grace period below nothing", steps(`{"name":"a","target":"Pods","delete":{"gracePeriodSeconds":-1}}`), "gracePeriodSeconds"},
		{"no log lines", steps(`{"name":"a","target":"Pods","collect":{"logs":{"tailLines":0}}}`), "tailLines"},
	})
}
