package v1alpha1

// ReportType says what a person reports (ISO/IEC 27002:2022, 6.8).
// +kubebuilder:validation:Enum=IneffectiveControl;ExpectationBreach;HumanError;NonCompliance;PhysicalBreach;UncontrolledChange;Malfunction;AccessViolation;Vulnerability;SuspectedMalware;Other
type ReportType string

// The types of reports.
const (
	// ReportIneffectiveControl: a security control does not do what it should.
	ReportIneffectiveControl ReportType = "IneffectiveControl"
	// ReportExpectationBreach: something is not as confidential, intact or available as expected.
	ReportExpectationBreach ReportType = "ExpectationBreach"
	// ReportHumanError: somebody made a mistake.
	ReportHumanError ReportType = "HumanError"
	// ReportNonCompliance: a policy, rule or standard was not kept to.
	ReportNonCompliance ReportType = "NonCompliance"
	// ReportPhysicalBreach: somebody or something came where it must not, or was lost or stolen.
	ReportPhysicalBreach ReportType = "PhysicalBreach"
	// ReportUncontrolledChange: a system was changed without change management.
	ReportUncontrolledChange ReportType = "UncontrolledChange"
	// ReportMalfunction: software or hardware behaves oddly.
	ReportMalfunction ReportType = "Malfunction"
	// ReportAccessViolation: somebody had access who must not.
	ReportAccessViolation ReportType = "AccessViolation"
	// ReportVulnerability: something can be abused.
	ReportVulnerability ReportType = "Vulnerability"
	// ReportSuspectedMalware: something may be infected.
	ReportSuspectedMalware ReportType = "SuspectedMalware"
	// ReportOther: none of the others.
	ReportOther ReportType = "Other"
)

// EventReport is what a person is asked for beside title and description (ISO/IEC
// 27002:2022, 6.8).
type EventReport struct {
	// type is what is reported.
	// +required
	Type ReportType `json:"type,omitempty"`

	// malfunction says what does not work as it should. Empty means nothing was noticed.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	Malfunction string `json:"malfunction,omitempty"`

	// screenMessages are the messages that were on the screen, word by word. Empty means none.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	ScreenMessages string `json:"screenMessages,omitempty"`

	// actionsTaken says what the reporter has done about it. Empty means nothing.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	ActionsTaken string `json:"actionsTaken,omitempty"`
}

// Reporter is the person who noticed something. It is what the submitter says: nobody
// vouches for it, as admission does for submittedBy.
// +kubebuilder:validation:MinProperties=1
type Reporter struct {
	// user is the person's user name. Empty means not known.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	User string `json:"user,omitempty"`

	// email is where the person can be asked. Nothing is sent there by Firebreak. Empty means
	// not known.
	// +optional
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=254
	// +kubebuilder:validation:Pattern=`^[^@\s]+@[^@\s]+$`
	Email string `json:"email,omitempty"`
}
