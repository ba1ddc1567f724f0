package integration

import (
	"strings"
	"testing"

	"github.com/firebreak-dev/firebreak/test/harness"
)

// badObject is a sample with a change that makes it wrong.
type badObject struct {
	name   string
	change string // JSON merge patch
	says   string
}

func refuse(t *testing.T, kind string, tests []badObject) {
	t.Helper()
	d := harness.Get(t).NewDomain(t)
	done(t, tryChanged(t, d, kind, `{}`))
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			says(t, tryChanged(t, d, kind, test.change), test.says)
		})
	}
}

func long(length int) string { return strings.Repeat("x", length) }

func TestBadSecurityEvents(t *testing.T) {
	refuse(t, "SecurityEvent", []badObject{
		{"without a spec", `{"spec":null}`, "spec: Required value"},
		{"without a source", `{"spec":{"source":null}}`, "spec.source: Required value"},
		{"a source of no kind", `{"spec":{"source":{"kind":"Robot"}}}`, `spec.source.kind: Unsupported value: "Robot": supported values: "Human", "Automatic"`},
		{"without a title", `{"spec":{"title":null}}`, "spec.title: Required value"},
		{"an empty title", `{"spec":{"title":""}}`, "spec.title: Invalid value"},
		{"a title too long", `{"spec":{"title":"` + long(257) + `"}}`, "spec.title: Too long: may not be more than 256"},
		{"a severity of no scale", `{"spec":{"severity":"Severe"}}`, `spec.severity: Unsupported value: "Severe": supported values: "Informational", "Low", "Medium", "High", "Critical"`},
		{"a mode that there is not", `{"spec":{"mode":"Exercise"}}`, `spec.mode: Unsupported value: "Exercise": supported values: "Live", "Drill"`},
		{"without a time", `{"spec":{"observedTime":null}}`, "spec.observedTime: Required value"},
		{"a time that is none", `{"spec":{"observedTime":"yesterday"}}`, "spec.observedTime"},
		{"without a submitter", `{"spec":{"submittedBy":null}}`, "spec.submittedBy: Required value"},
		{"an asset of no type", `{"spec":{"assets":[{"type":"Boat","identifier":"x"}]}}`, `spec.assets[0].type: Unsupported value: "Boat"`},
		{"an asset without identifier", `{"spec":{"assets":[{"type":"Device"}]}}`, "spec.assets[0].identifier: Required value"},
		{"no assets, said", `{"spec":{"assets":[]}}`, "spec.assets"},
		{"a pod of no namespace", `{"spec":{"resources":[{"apiVersion":"v1","kind":"Pod","name":"x"}]}}`, "`namespace` must be set for kind 'Pod'"},
		{"a resource of a bad kind", `{"spec":{"resources":[{"apiVersion":"v1","kind":"pods","namespace":"x","name":"x"}]}}`, "spec.resources[0].kind"},
		{"a resource of a bad namespace", `{"spec":{"resources":[{"apiVersion":"v1","kind":"Pod","namespace":"../x","name":"x"}]}}`, "spec.resources[0].namespace"},
		{"a resource of a bad name", `{"spec":{"resources":[{"apiVersion":"v1","kind":"Pod","namespace":"x","name":"x/y"}]}}`, "spec.resources[0].name"},
		{"33 resources", `{"spec":{"resources":[` + repeat(33, `{"apiVersion":"v1","kind":"Node","name":"x"}`) + `]}}`, "spec.resources: Too many: 33: must have at most 32 items"},
		{"an attack of nothing", `{"spec":{"attacks":[{}]}}`, "spec.attacks[0]"},
		{"a technique of no number", `{"spec":{"attacks":[{"technique":"shell"}]}}`, "spec.attacks[0].technique"},
		{"an attribute too long", `{"spec":{"attributes":{"a":"` + long(1025) + `"}}}`, "spec.attributes.a: Too long"},
		{"a hash that is none", `{"spec":{"rawDataHash":"` + long(71) + `"}}`, "spec.rawDataHash"},
	})
}

func repeat(count int, item string) string {
	return strings.TrimSuffix(strings.Repeat(item+",", count), ",")
}

func TestBadIncidents(t *testing.T) {
	refuse(t, "Incident", []badObject{
		{"without a title", `{"spec":{"title":null}}`, "spec.title: Required value"},
		{"without a severity", `{"spec":{"severity":null}}`, "spec.severity: Required value"},
		{"without a category", `{"spec":{"category":null}}`, "spec.category: Required value"},
		{"a mode that there is not", `{"spec":{"mode":"DryRun"}}`, `spec.mode: Unsupported value: "DryRun": supported values: "Live", "Drill"`},
		{"a category of no taxonomy", `{"spec":{"category":"Bad"}}`, `spec.category: Unsupported value: "Bad"`},
		{"a marking of no protocol", `{"spec":{"tlp":"White"}}`, `spec.tlp: Unsupported value: "White": supported values: "Red", "AmberStrict", "Amber", "Green", "Clear"`},
		{"an impact of no level", `{"spec":{"impact":{"integrity":"Medium"}}}`, `spec.impact.integrity: Unsupported value: "Medium": supported values: "None", "Low", "High"`},
		{"an impact on nothing", `{"spec":{"impact":{"confidentiality":null,"integrity":null,"availability":null}}}`, "spec.impact"},
		{"a playbook of no name", `{"spec":{"playbookRef":{"name":""}}}`, "spec.playbookRef.name"},
		{"a playbook of a name that nothing can have", `{"spec":{"playbookRef":{"name":"a/b"}}}`, "spec.playbookRef.name in body should match"},
		{"an event of a name that nothing can have", `{"spec":{"eventRefs":[{"name":".."}]}}`, "spec.eventRefs[0].name in body should match"},
		{"related to a name that nothing can have", `{"spec":{"relatedTo":{"name":"a%b"}}}`, "spec.relatedTo.name in body should match"},
		{"an event of no name", `{"spec":{"eventRefs":[{}]}}`, "spec.eventRefs[0].name: Required value"},
		{"a pod of no namespace", `{"spec":{"resources":[{"apiVersion":"v1","kind":"Pod","name":"x"}]}}`, "`namespace` must be set for kind 'Pod'"},
	})
}

func TestBadDecisions(t *testing.T) {
	const digest = `"digest":"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`
	refuse(t, "Decision", []badObject{
		{"a type of none", `{"spec":{"type":"Maybe"}}`, `spec.type: Unsupported value: "Maybe"`},
		{"without a subject", `{"spec":{"subject":null}}`, "spec.subject: Required value"},
		{"a subject of no name", `{"spec":{"subject":{"name":null}}}`, "spec.subject.name: Required value"},
		{"a subject of a name that nothing can have", `{"spec":{"subject":{"name":"a/b"}}}`, "spec.subject.name in body should match"},
		{"a duplicate of a name that nothing can have", `{"spec":{"type":"MarkDuplicate","incidentRef":{"name":"tenant/INC2"}}}`, "spec.incidentRef.name in body should match"},
		{"an event of a name that nothing can have", `{"spec":{"type":"DetachEvent","eventRef":{"name":".."}}}`, "spec.eventRef.name in body should match"},
		{"a playbook of a name that nothing can have", `{"spec":{"type":"UsePlaybook","playbookRef":{"name":"a%b"}}}`, "spec.playbookRef.name in body should match"},
		{"a subject of no kind that is decided about", `{"spec":{"subject":{"kind":"Pod"}}}`, `spec.subject.kind: Unsupported value: "Pod": supported values: "Incident", "SecurityEvent", "ResponsePlan"`},
		{"without `by`", `{"spec":{"by":null}}`, "spec.by: Required value"},
		{"promote an incident", `{"spec":{"type":"Promote"}}`, "`subject.kind` must be 'SecurityEvent' for 'Promote', 'Join' and 'Dismiss'"},
		{"acknowledge an event", `{"spec":{"subject":{"kind":"SecurityEvent"}}}`, "'Incident' for all other types"},
		{"stop an incident's automation", `{"spec":{"type":"StopAutomation"}}`, "'ResponsePlan' for 'StopAutomation' and 'ResumeAutomation'"},
		{"approve no step", `{"spec":{"type":"Approve",` + digest + `}}`, "`step` must be set for 'Approve', 'Reject', 'CompleteTask', 'SkipStep' and 'RetryStep'"},
		{"acknowledge a step", `{"spec":{"step":"x"}}`, "and for no other type"},
		{"approve without a digest", `{"spec":{"type":"Approve","step":"x"}}`, "`digest` must be set for 'Approve' (copy it from the incident's `status.awaiting`)"},
		{"reject with a digest", `{"spec":{"type":"Reject","step":"x",` + digest + `}}`, "`digest` must be set for 'Approve'"},
		{"a digest that is none", `{"spec":{"type":"Approve","step":"x","digest":"` + long(71) + `"}}`, "spec.digest"},
		{"close without a resolution", `{"spec":{"type":"Close"}}`, "`resolution` must be set for 'Close', and for no other type"},
		{"a resolution of none", `{"spec":{"type":"Close","resolution":"Fine"}}`, `spec.resolution: Unsupported value: "Fine"`},
		{"acknowledge with a resolution", `{"spec":{"resolution":"Resolved"}}`, "`resolution` must be set for 'Close', and for no other type"},
		{"set no severity", `{"spec":{"type":"SetSeverity"}}`, "`severity` must be set for 'SetSeverity'"},
		{"acknowledge with a severity", `{"spec":{"severity":"High"}}`, "`severity` must be set for 'SetSeverity', may be set for 'Promote', and for no other type"},
		{"acknowledge with a playbook", `{"spec":{"playbookRef":{"name":"x"}}}`, "`playbookRef` must be set for 'UsePlaybook', may be set for 'Promote', and for no other type"},
		{"use no playbook", `{"spec":{"type":"UsePlaybook"}}`, "`playbookRef` must be set for 'UsePlaybook'"},
		{"acknowledge with a category", `{"spec":{"category":"Other"}}`, "`category` must not be set but for 'Promote'"},
		{"join an incident to one", `{"spec":{"type":"Join","incidentRef":{"name":"x"}}}`, "`subject.kind` must be 'SecurityEvent' for 'Promote', 'Join' and 'Dismiss'"},
		{"join nothing", `{"spec":{"type":"Join","subject":{"kind":"SecurityEvent"}}}`, "`incidentRef` must be set for 'Join' and 'MarkDuplicate', and for no other type"},
		{"acknowledge with an incident", `{"spec":{"incidentRef":{"name":"x"}}}`, "`incidentRef` must be set for 'Join' and 'MarkDuplicate', and for no other type"},
		{"a duplicate of nothing", `{"spec":{"type":"MarkDuplicate"}}`, "`incidentRef` must be set for 'Join' and 'MarkDuplicate', and for no other type"},
		{"a duplicate without a reason", `{"spec":{"type":"MarkDuplicate","incidentRef":{"name":"x"},"reason":null}}`, "`reason` must say why"},
		{"an event that is a duplicate", `{"spec":{"type":"MarkDuplicate","incidentRef":{"name":"x"},"subject":{"kind":"SecurityEvent"}}}`, "`subject.kind` must be"},
		{"close as a duplicate", `{"spec":{"type":"Close","resolution":"Duplicate"}}`, "`resolution` must not be 'Duplicate': a Decision of type 'MarkDuplicate' names the incident that goes on"},
		{"determine nothing", `{"spec":{"type":"Determine"}}`, "`determination` must be set for 'Determine', and for no other type"},
		{"determine without a reason", `{"spec":{"type":"Determine","determination":{"name":"x","outcome":"Confirmed"},"reason":null}}`, "`reason` must say why"},
		{"determine perhaps", `{"spec":{"type":"Determine","determination":{"name":"x","outcome":"Maybe"}}}`, `spec.determination.outcome: Unsupported value: "Maybe": supported values: "Suspected", "Confirmed", "Excluded"`},
		{"acknowledge with a determination", `{"spec":{"determination":{"name":"x","outcome":"Confirmed"}}}`, "`determination` must be set for 'Determine', and for no other type"},
		{"detach nothing", `{"spec":{"type":"DetachEvent"}}`, "`eventRef` must be set for 'DetachEvent', and for no other type"},
		{"detach without a reason", `{"spec":{"type":"DetachEvent","eventRef":{"name":"x"},"reason":null}}`, "`reason` must say why"},
		{"add no resource", `{"spec":{"type":"AddResource"}}`, "`resource` must be set for 'AddResource', and for no other type"},
		{"add a pod of no namespace", `{"spec":{"type":"AddResource","resource":{"apiVersion":"v1","kind":"Pod","name":"x"}}}`, "`namespace` must be set for kind 'Pod'"},
		{"acknowledge with a resource", `{"spec":{"resource":{"apiVersion":"v1","kind":"Node","name":"x"}}}`, "`resource` must be set for 'AddResource', and for no other type"},
		{"run nothing", `{"spec":{"type":"RunAction"}}`, "`action` must be set for 'RunAction', and for no other type"},
		{"run what is no object", `{"spec":{"type":"RunAction","action":"collect"}}`, "spec.action"},
		{"acknowledge with an action", `{"spec":{"action":{"collect":{}}}}`, "`action` must be set for 'RunAction', and for no other type"},
		{"run without a reason", `{"spec":{"type":"RunAction","action":{"collect":{}},"reason":null}}`, "`reason` must say why"},
		{"close without a reason", `{"spec":{"type":"Close","resolution":"Resolved","reason":null}}`, "`reason` must say why for 'Approve', 'Reject', 'SkipStep', 'Close'"},
		{"a note of nothing", `{"spec":{"type":"Note","reason":null}}`, "`reason` must say why"},
		{"the same group twice", `{"spec":{"groups":["security-oncall","security-oncall"]}}`, "spec.groups[1]: Duplicate value"},
		{"17 groups", `{"spec":{"groups":["a","b","c","d","e","f","g","h","i","j","k","l","m","n","o","p","q"]}}`, "spec.groups: Too many: 17: must have at most 16 items"},
	})
}

func TestBadEvidence(t *testing.T) {
	refuse(t, "Evidence", []badObject{
		{"without an incident", `{"spec":{"incidentRef":null}}`, "`incidentRef` must name the incident; only a 'RetentionJournal' has none"},
		{"of an incident of a name that nothing can have", `{"spec":{"incidentRef":{"name":"a/b"}}}`, "spec.incidentRef.name in body should match"},
		{"a retention journal of an incident", `{"spec":{"type":"RetentionJournal"}}`, "`incidentRef` must name the incident; only a 'RetentionJournal' has none"},
		{"of no type", `{"spec":{"type":"Rumour"}}`, `spec.type: Unsupported value: "Rumour": supported values: "Manifest", "Log", "Events", "Journal"`},
		{"without a digest", `{"spec":{"digest":null}}`, "spec.digest: Required value"},
		{"a digest that is none", `{"spec":{"digest":"md5:d41d8cd98f00b204e9800998ecf8427e"}}`, "spec.digest"},
		{"without a size", `{"spec":{"sizeBytes":null}}`, "spec.sizeBytes: Required value"},
		{"a size below nothing", `{"spec":{"sizeBytes":-1}}`, "spec.sizeBytes"},
		{"without a tool", `{"spec":{"tool":null}}`, "spec.tool: Required value"},
		{"a tool of no version", `{"spec":{"tool":{"version":null}}}`, "spec.tool.version: Required value"},
		{"without a collector", `{"spec":{"collectedBy":null}}`, "spec.collectedBy: Required value"},
		{"without a method", `{"spec":{"method":null}}`, "spec.method: Required value"},
		{"without a time", `{"spec":{"collectedTime":null}}`, "spec.collectedTime: Required value"},
	})
}

func TestBadLessonsLearned(t *testing.T) {
	refuse(t, "LessonLearned", []badObject{
		{"from no incident", `{"spec":{"incidentRefs":null}}`, "spec.incidentRefs: Required value"},
		{"from no incident, said", `{"spec":{"incidentRefs":[]}}`, "spec.incidentRefs"},
		{"from one incident twice", `{"spec":{"incidentRefs":[{"name":"a"},{"name":"a"}]}}`, "spec.incidentRefs[1]: Duplicate value"},
		{"from an incident of a name that nothing can have", `{"spec":{"incidentRefs":[{"name":"a/b"}]}}`, "spec.incidentRefs[0].name in body should match"},
		{"a control of no annex", `{"spec":{"contributingControls":["8.16"]}}`, "spec.contributingControls[0]"},
		{"a cause of no category", `{"spec":{"rootCause":{"category":null}}}`, "spec.rootCause.category: Required value"},
		{"a marking of no protocol", `{"spec":{"tlp":"White"}}`, `spec.tlp: Unsupported value: "White"`},
		{"an empty finding", `{"spec":{"wentWell":[""]}}`, "spec.wentWell[0]"},
	})
}
