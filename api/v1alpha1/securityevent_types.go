package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// SourceKind says whether a person or a machine reported.
// +kubebuilder:validation:Enum=Human;Automatic
type SourceKind string

// The kinds of sources.
const (
	SourceHuman     SourceKind = "Human"
	SourceAutomatic SourceKind = "Automatic"
)

// EventSource says what reported an event.
type EventSource struct {
	// kind says whether a person or a machine reported.
	// +required
	Kind SourceKind `json:"kind,omitempty"`

	// product is the reporting product in lower case, such as 'falco'. Empty means not known.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Product string `json:"product,omitempty"`

	// rule is the rule of the product that fired. Empty means not known.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Rule string `json:"rule,omitempty"`

	// instance is the instance of the product that saw it, such as a node's name. Empty means not known.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Instance string `json:"instance,omitempty"`
}

// AttributeValue is the text of one attribute of an event.
// +kubebuilder:validation:MaxLength=1024
type AttributeValue string

// SecurityEventSpec is what was reported. It never changes (ISO/IEC 27002:2022, 5.25, 6.8).
type SecurityEventSpec struct {
	// source says what reported.
	// +required
	Source EventSource `json:"source,omitzero"`

	// submittedBy is the Kubernetes user who submitted the event. It must be the
	// authenticated user; only the receiver may name another, the sender it has
	// authenticated. Rules may rely on it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	SubmittedBy string `json:"submittedBy,omitempty"`

	// mode says whether it is the real thing, 'Live', or an exercise, 'Drill'. A drill is counted,
	// assessed and answered apart from what is live, and what answers it takes no effect.
	// Empty means 'Live'.
	// +optional
	// +kubebuilder:default=Live
	Mode Mode `json:"mode,omitempty"`

	// title says in one line what happened.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Title string `json:"title,omitempty"`

	// description says what happened in full. Empty means that the title says it all.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Description string `json:"description,omitempty"`

	// severity is the reporter's view of how bad it is; the classification policy decides.
	// +required
	Severity Severity `json:"severity,omitempty"`

	// observedTime is when it was seen, by the reporter's clock.
	// +required
	ObservedTime metav1.Time `json:"observedTime,omitzero"`

	// fingerprint tells repeats: equal fingerprints of one submitter, source and mode are
	// the same thing seen again. Empty means that the event repeats nothing.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Fingerprint string `json:"fingerprint,omitempty"`

	// resources are the objects of the cluster it is about; the first is the one it
	// happened to.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Resources []ResourceReference `json:"resources,omitempty"`

	// assets are the things outside the cluster it is about.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Assets []Asset `json:"assets,omitempty"`

	// attacks are the tactics and techniques of MITRE ATT&CK that the reporter recognised.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Attacks []Attack `json:"attacks,omitempty"`

	// attributes are further facts of the report, such as 'proc.cmdline', as text.
	// At most 64, each of at most 1024 characters; what is longer was cut by the receiver.
	// +optional
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=64
	Attributes map[string]AttributeValue `json:"attributes,omitempty"`

	// rawDataHash is the SHA-256 of the report as it was received, as
	// 'sha256:' and 64 hexadecimal digits. Empty for reports made by hand.
	// +optional
	// +kubebuilder:validation:MinLength=71
	// +kubebuilder:validation:MaxLength=71
	// +kubebuilder:validation:Pattern=`^sha256:[0-9a-f]{64}$`
	RawDataHash string `json:"rawDataHash,omitempty"`

	// report is what a person was asked for. Empty for reports of machines.
	// +optional
	Report EventReport `json:"report,omitzero"`

	// reporter is the person who noticed it, where that is another than submittedBy or more
	// is known. Empty means nothing more is known.
	// +optional
	Reporter Reporter `json:"reporter,omitzero"`
}

// EventMinute is how often an event was seen again within one minute.
type EventMinute struct {
	// minuteTime is the start of the minute, by the reporter's clock.
	// +required
	MinuteTime metav1.Time `json:"minuteTime,omitzero"`

	// count is how many repeats were seen in it.
	// +required
	// +kubebuilder:validation:Minimum=1
	Count int64 `json:"count,omitempty"`
}

// EventCounter is how often one receiver has seen an event again.
type EventCounter struct {
	// spool names the receiver replica that counts here; no other writes this entry.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Spool string `json:"spool,omitempty"`

	// count is how many repeats this receiver has acknowledged, beyond the report
	// that created the event. It is absolute and never falls.
	// +required
	// +kubebuilder:validation:Minimum=1
	Count int64 `json:"count,omitempty"`

	// lastObservedTime is when the last of them was seen, by the reporter's clock.
	// +optional
	LastObservedTime *metav1.Time `json:"lastObservedTime,omitempty"`

	// recent are the minutes in which they were seen, the earliest first; at most the last
	// 60. Thresholds of rules count by it.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=60
	Recent []EventMinute `json:"recent,omitempty"`

	// sequence is the highest of the numbers, which the receiver gives the reports it takes,
	// that is in count. By it a receiver that was killed knows what it has counted. It never
	// falls. Empty means that none was numbered.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Sequence int64 `json:"sequence,omitempty"`
}

// AssessmentOutcome is what was decided about an event (ISO/IEC 27002:2022, 5.25).
// +kubebuilder:validation:Enum=Promoted;Joined;Dismissed;Deferred
type AssessmentOutcome string

// The outcomes of an assessment.
const (
	// OutcomePromoted means that the event opened an incident.
	OutcomePromoted AssessmentOutcome = "Promoted"
	// OutcomeJoined means that the event belongs to an incident that was open already.
	OutcomeJoined AssessmentOutcome = "Joined"
	// OutcomeDismissed means that the event is not an incident.
	OutcomeDismissed AssessmentOutcome = "Dismissed"
	// OutcomeDeferred means that no rule decided, or one failed: a person must.
	OutcomeDeferred AssessmentOutcome = "Deferred"
)

// PolicyGeneration names the exact text of a ClassificationPolicy.
type PolicyGeneration struct {
	// name of the ClassificationPolicy.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// generation of the ClassificationPolicy that was in force.
	// +required
	// +kubebuilder:validation:Minimum=1
	Generation int64 `json:"generation,omitempty"`
}

// RuleAnswer is what the last rule of a policy that was asked has said of an event.
// +kubebuilder:validation:Enum=Matched;BelowThreshold;NotMatched;Failed;NotUsable
type RuleAnswer string

// The answers.
const (
	// AnswerMatched means that the rule has decided.
	AnswerMatched RuleAnswer = "Matched"
	// AnswerBelowThreshold means that the rule matched, and the event was not seen often enough.
	AnswerBelowThreshold RuleAnswer = "BelowThreshold"
	// AnswerNotMatched means that no rule of the policy matched.
	AnswerNotMatched RuleAnswer = "NotMatched"
	// AnswerFailed means that the rule could not be evaluated: a person must decide.
	AnswerFailed RuleAnswer = "Failed"
	// AnswerNotUsable means that no rule of the policy could be asked, as it does not compile.
	AnswerNotUsable RuleAnswer = "NotUsable"
)

// AskedPolicy is one policy that was asked about an event, in which text, and what its rules said.
type AskedPolicy struct {
	// name of the ClassificationPolicy.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// generation of the ClassificationPolicy that was asked. Its text is among the policy's
	// `status.revisions` as long as that is kept.
	// +required
	// +kubebuilder:validation:Minimum=1
	Generation int64 `json:"generation,omitempty"`

	// answer is what the last rule that was asked said; all before it did not match. 'NotMatched'
	// is what all of them said.
	// +required
	Answer RuleAnswer `json:"answer,omitempty"`

	// rules are the names of the rules that were asked, in their order, as far as there is room
	// for them: all names of an assessment together are at most 1024 bytes long.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	Rules []string `json:"rules,omitempty"`

	// moreRules is how many rules were asked after those named in `rules`. Empty means none.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=64
	MoreRules int32 `json:"moreRules,omitempty"`
}

// Assessment is one decision about an event, detailed enough to be made again
// (ISO/IEC 27002:2022, 5.25).
type Assessment struct {
	// outcome is what was decided.
	// +required
	Outcome AssessmentOutcome `json:"outcome,omitempty"`

	// policy is the policy that decided. Empty when no policy did.
	// +optional
	Policy PolicyGeneration `json:"policy,omitzero"`

	// rule is the name of the policy's rule that decided. Empty when no rule did.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Rule string `json:"rule,omitempty"`

	// reason is one word for why, such as 'RuleMatched', 'ThresholdNotReached',
	// 'NoRuleMatched', 'RuleError' or 'DecidedByPerson'.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Reason string `json:"reason,omitempty"`

	// message says why in words.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`

	// workload is the top owner of the first resource as the rules saw it.
	// Empty when the event names no resource.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Workload string `json:"workload,omitempty"`

	// by is who decided: the manager, or the person of the Decision.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	By string `json:"by,omitempty"`

	// decisionRef is the Decision by which a person decided. Empty when a rule did.
	// +optional
	DecisionRef DecisionReference `json:"decisionRef,omitzero"`

	// time is when it was decided.
	// +required
	Time metav1.Time `json:"time,omitzero"`

	// asked are the policies whose rules were asked, in their order: all, or where there are more
	// than 16 the first 15 and the last. Empty when a person decided, or there was no policy.
	// `kubectl firebreak explain` asks them again, in the text that was in force.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Asked []AskedPolicy `json:"asked,omitempty"`

	// moreAsked is how many policies were asked before the last one of `asked` and are not named
	// there. Empty means none.
	// +optional
	// +kubebuilder:validation:Minimum=1
	MoreAsked int32 `json:"moreAsked,omitempty"`
}

// SecurityEventStatus is what became of the event.
type SecurityEventStatus struct {
	// conditions are Assessed: 'False' while nobody has decided, or a person must, and with
	// the reason 'Overdue' when that has taken longer than the plan's objectives allow.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that this status speaks of.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// counters are the repeats, each receiver's own. Only receivers write here.
	// +optional
	// +listType=map
	// +listMapKey=spool
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Counters []EventCounter `json:"counters,omitempty"`

	// occurrences is how often the thing was seen: once, and the repeats of all counters.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Occurrences int64 `json:"occurrences,omitempty"`

	// assessment is the decision in force. Empty while there is none: before the first one, and
	// while the event is below the threshold of a rule and may reach it yet.
	// +optional
	Assessment Assessment `json:"assessment,omitzero"`

	// earlierAssessments are the decisions before it, the oldest first; at most the last 16. When
	// these are deferrals in a row, the first of them is the first of all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	EarlierAssessments []Assessment `json:"earlierAssessments,omitempty"`

	// incidentRef is the incident the event opened or joined. Empty while it belongs to none.
	// +optional
	IncidentRef IncidentReference `json:"incidentRef,omitzero"`

	// advice is what the person who has reported the event should do now, in plain words: to note
	// the details, and to do nothing that is not coordinated (ISO/IEC 27002:2022, 5.24 and 6.8).
	// Empty for events of alerting systems, and before the manager has looked at one.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Advice string `json:"advice,omitempty"`
}

// SecurityEvent is one report of something that may be an incident, by a person or
// an alerting system (ISO/IEC 27002:2022, 6.8 and 5.25).
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=sev,categories=firebreak
// +kubebuilder:printcolumn:name=Sev,type=string,JSONPath=`.spec.severity`
// +kubebuilder:printcolumn:name=Mode,type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name=Outcome,type=string,JSONPath=`.status.assessment.outcome`
// +kubebuilder:printcolumn:name=Why,type=string,JSONPath=`.status.conditions[?(@.type=='Assessed')].reason`
// +kubebuilder:printcolumn:name=Incident,type=string,JSONPath=`.status.incidentRef.name`
// +kubebuilder:printcolumn:name=Count,type=integer,JSONPath=`.status.occurrences`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name=Title,type=string,JSONPath=`.spec.title`
// +kubebuilder:printcolumn:name=Rule,type=string,JSONPath=`.status.assessment.rule`,priority=1
// +kubebuilder:printcolumn:name=Submitter,type=string,JSONPath=`.spec.submittedBy`,priority=1
// +kubebuilder:selectablefield:JSONPath=`.spec.severity`
// +kubebuilder:selectablefield:JSONPath=`.spec.mode`
// +kubebuilder:selectablefield:JSONPath=`.status.assessment.outcome`
type SecurityEvent struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is what was reported. It cannot be changed.
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="`spec` must not change: an event is a record; report a new one"
	Spec SecurityEventSpec `json:"spec,omitzero"`

	// status is what became of it. Only Firebreak writes it.
	// +optional
	Status SecurityEventStatus `json:"status,omitzero"`
}

// SecurityEventList is a list of SecurityEvents.
// +kubebuilder:object:root=true
type SecurityEventList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []SecurityEvent `json:"items"`
}
