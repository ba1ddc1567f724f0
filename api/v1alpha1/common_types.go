package v1alpha1

// Severity says how bad an event or incident is, in the captions of the Open
// Cybersecurity Schema Framework (OCSF severity_id 1 to 5).
// +kubebuilder:validation:Enum=Informational;Low;Medium;High;Critical
type Severity string

// The severities, from the least to the worst.
const (
	SeverityInformational Severity = "Informational"
	SeverityLow           Severity = "Low"
	SeverityMedium        Severity = "Medium"
	SeverityHigh          Severity = "High"
	SeverityCritical      Severity = "Critical"
)

// Rank orders severities: Informational is 1, Critical is 5, anything else 0.
func (s Severity) Rank() int {
	switch s {
	case SeverityInformational:
		return 1
	case SeverityLow:
		return 2
	case SeverityMedium:
		return 3
	case SeverityHigh:
		return 4
	case SeverityCritical:
		return 5
	default:
		return 0
	}
}

// Priority says what to work on first: P1 before P4. It follows from impact and
// severity.
// +kubebuilder:validation:Enum=P1;P2;P3;P4
type Priority string

// The priorities, the most pressing first.
const (
	PriorityP1 Priority = "P1"
	PriorityP2 Priority = "P2"
	PriorityP3 Priority = "P3"
	PriorityP4 Priority = "P4"
)

// Category is the kind of an incident, by the Reference Security Incident
// Taxonomy (RSIT).
// +kubebuilder:validation:Enum=AbusiveContent;MaliciousCode;InformationGathering;IntrusionAttempt;Intrusion;Availability;InformationContentSecurity;Fraud;Vulnerable;Other;Test
type Category string

// The categories of the Reference Security Incident Taxonomy.
const (
	CategoryAbusiveContent             Category = "AbusiveContent"
	CategoryMaliciousCode              Category = "MaliciousCode"
	CategoryInformationGathering       Category = "InformationGathering"
	CategoryIntrusionAttempt           Category = "IntrusionAttempt"
	CategoryIntrusion                  Category = "Intrusion"
	CategoryAvailability               Category = "Availability"
	CategoryInformationContentSecurity Category = "InformationContentSecurity"
	CategoryFraud                      Category = "Fraud"
	CategoryVulnerable                 Category = "Vulnerable"
	CategoryOther                      Category = "Other"
	CategoryTest                       Category = "Test"
)

// TLP is the Traffic Light Protocol 2.0 marking: with whom a record may be shared.
// +kubebuilder:validation:Enum=Red;AmberStrict;Amber;Green;Clear
type TLP string

// The markings of the Traffic Light Protocol, the narrowest first.
const (
	TLPRed         TLP = "Red"
	TLPAmberStrict TLP = "AmberStrict"
	TLPAmber       TLP = "Amber"
	TLPGreen       TLP = "Green"
	TLPClear       TLP = "Clear"
)

// Mode says whether something is the real thing, or an exercise (ISO/IEC 27002:2022, 5.24).
// +kubebuilder:validation:Enum=Live;Drill
type Mode string

// The modes.
const (
	// ModeLive is the real thing.
	ModeLive Mode = "Live"
	// ModeDrill is an exercise: nothing takes effect, and it never mixes with the real thing.
	ModeDrill Mode = "Drill"
)

// OrLive is the mode, where empty means 'Live'.
func (m Mode) OrLive() Mode {
	if m == "" {
		return ModeLive
	}
	return m
}

// Confirmation says whether a person must confirm an incident before it is eradicated.
// +kubebuilder:validation:Enum=Automatic;Required
type Confirmation string

// The ways an incident is confirmed.
const (
	// ConfirmAutomatic means that nobody needs to.
	ConfirmAutomatic Confirmation = "Automatic"
	// ConfirmRequired means that eradication and recovery wait for a Decision 'Confirm'.
	ConfirmRequired Confirmation = "Required"
)

// DeterminationOutcome is what was found about one question of an incident.
// +kubebuilder:validation:Enum=Suspected;Confirmed;Excluded
type DeterminationOutcome string

// The outcomes of determinations.
const (
	DeterminationSuspected DeterminationOutcome = "Suspected"
	DeterminationConfirmed DeterminationOutcome = "Confirmed"
	DeterminationExcluded  DeterminationOutcome = "Excluded"
)

// Determination is one question of an incident on which duties hang, such as
// 'personal-data-breach', and what was found.
type Determination struct {
	// name of the question.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name,omitempty"`

	// outcome is what was found: 'Suspected', 'Confirmed' or 'Excluded'.
	// +required
	Outcome DeterminationOutcome `json:"outcome,omitempty"`
}

// ImpactLevel is the effect on one protection goal, by FIPS 199 without its middle.
// +kubebuilder:validation:Enum=None;Low;High
type ImpactLevel string

// The impact levels.
const (
	ImpactNone ImpactLevel = "None"
	ImpactLow  ImpactLevel = "Low"
	ImpactHigh ImpactLevel = "High"
)

// Impact is the effect on each of the three protection goals.
// +kubebuilder:validation:MinProperties=1
type Impact struct {
	// confidentiality is the effect on who may know. Empty means not assessed.
	// +optional
	Confidentiality ImpactLevel `json:"confidentiality,omitempty"`

	// integrity is the effect on what is right. Empty means not assessed.
	// +optional
	Integrity ImpactLevel `json:"integrity,omitempty"`

	// availability is the effect on what can be used. Empty means not assessed.
	// +optional
	Availability ImpactLevel `json:"availability,omitempty"`
}

// ResourceReference names one object of the cluster that an event or incident is
// about. It is the only reference that may point outside the response domain.
// +kubebuilder:validation:XValidation:rule="self.kind != 'Pod' || has(self.namespace)",message="`namespace` must be set for kind 'Pod'"
type ResourceReference struct {
	// apiVersion is the object's group and version, such as 'v1' or 'apps/v1'.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?v[a-z0-9]+$`
	APIVersion string `json:"apiVersion,omitempty"`

	// kind is the object's kind, such as 'Pod'.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Z][A-Za-z0-9]*$`
	Kind string `json:"kind,omitempty"`

	// namespace is the object's namespace. Empty for cluster-scoped kinds.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespace string `json:"namespace,omitempty"`

	// name is the object's name.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9A-Z]([-a-z0-9A-Z.:_]*[a-z0-9A-Z])?$`
	Name string `json:"name,omitempty"`

	// uid is the object's UID. When set, an object that came back under the same
	// name is not taken for this one. When empty, the object of that name at the
	// time of the first look is meant.
	// +optional
	UID ObjectUID `json:"uid,omitempty"`

	// container is the container of the pod in which it happened. Empty means not known.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Container string `json:"container,omitempty"`

	// image is the container's image, best with its digest. Empty means not known.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`

	// node is the node the pod ran on. Empty means not known.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node,omitempty"`
}

// AssetType is the type of a thing outside the cluster.
// +kubebuilder:validation:Enum=Device;File;Account;Site;Service;Other
type AssetType string

// Asset names a thing outside the cluster that an event or incident is about.
type Asset struct {
	// type is the type of the asset.
	// +required
	Type AssetType `json:"type,omitempty"`

	// identifier is the asset's name in the inventory of its owner, such as 'LT-0042'.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Identifier string `json:"identifier,omitempty"`

	// owner is who is responsible for the asset. Empty means not known.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Owner string `json:"owner,omitempty"`
}

// Attack is a tactic or technique of MITRE ATT&CK.
// +kubebuilder:validation:MinProperties=1
type Attack struct {
	// tactic is the tactic's name, such as 'Execution'. Empty means not known.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Tactic string `json:"tactic,omitempty"`

	// technique is the identifier of a technique or sub-technique, such as 'T1059' or 'T1059.004'.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^T[0-9]{4}(\.[0-9]{3})?$`
	Technique string `json:"technique,omitempty"`
}

// IncidentReference names an Incident in the same namespace.
type IncidentReference struct {
	// name of the Incident.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name,omitempty"`
}

// EventReference names a SecurityEvent in the same namespace.
type EventReference struct {
	// name of the SecurityEvent.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name,omitempty"`
}

// PlaybookReference names a ResponsePlaybook in the same namespace.
type PlaybookReference struct {
	// name of the ResponsePlaybook.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name,omitempty"`
}

// DecisionReference names a Decision in the same namespace.
type DecisionReference struct {
	// name of the Decision.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name,omitempty"`
}

// ObjectUID is the UID of an object of the cluster.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=64
type ObjectUID string
