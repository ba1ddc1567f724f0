package v1alpha1

// IsolateAction cuts the network of a pod, or of all pods of a workload.
// +kubebuilder:validation:XValidation:rule="!has(self.probe) || self.ingress == 'Deny' && self.survivingConnections == 'Report'",message="`probe` must not be set but with `ingress: Deny` and `survivingConnections: Report`"
type IsolateAction struct {
	// ingress says whether connections to the pod are cut. Empty means 'Deny'.
	// +optional
	// +kubebuilder:default=Deny
	Ingress TrafficVerdict `json:"ingress,omitempty"`

	// egress says whether connections from the pod are cut. Empty means 'Deny'.
	// +optional
	// +kubebuilder:default=Deny
	Egress TrafficVerdict `json:"egress,omitempty"`

	// dns says whether name resolution is cut too. Empty means 'Deny'.
	// +optional
	// +kubebuilder:default=Deny
	DNS TrafficVerdict `json:"dns,omitempty"`

	// allow keeps traffic open, such as a forensic workstation's. Empty means none.
	// +optional
	Allow IsolateAllow `json:"allow,omitzero"`

	// clusterNetworkPolicy says whether a ClusterNetworkPolicy of the Admin tier denies the
	// traffic too, where the cluster has that API; of ingress only that from pods. Empty means 'Ignore'.
	// +optional
	// +kubebuilder:default=Ignore
	ClusterNetworkPolicy ClusterPolicyUse `json:"clusterNetworkPolicy,omitempty"`

	// survivingConnections is about those that are open, which some network plugins let go on:
	// 'Report' says so; 'Delete', only for pods, deletes the isolated pod. Empty means 'Report'.
	// +optional
	// +kubebuilder:default=Report
	SurvivingConnections SurvivingConnections `json:"survivingConnections,omitempty"`

	// readopt says whether undoing gives back the labels the workload selects by: with 'Allow' it
	// takes the pod back, and deletes a clean one. Empty means 'Deny'.
	// +optional
	// +kubebuilder:default=Deny
	Readopt TrafficVerdict `json:"readopt,omitempty"`

	// probe has a pod in the domain's namespace try whether the isolated pod can be reached. Only
	// for pods. Empty means that the proof stays 'Computed'.
	// +optional
	Probe *IsolationProbe `json:"probe,omitempty"`
}

// IsolationProbe is a pod that tries to connect, and ends within a minute.
type IsolationProbe struct {
	// image of the pod, with the command in it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`

	// command gets an address and a port as last arguments, and ends with 0 when it could
	// connect. Empty means 'nc -z -v -w 5'.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Command []ProbeArgument `json:"command,omitempty"`

	// ports are the TCP ports to try. Empty means the first 4 that the pod's containers name.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=4
	// +kubebuilder:validation:items:Minimum=1
	// +kubebuilder:validation:items:Maximum=65535
	Ports []int32 `json:"ports,omitempty"`

	// reference is an address and a port that must be reached, or nothing is proved. Empty means
	// 'kubernetes.default.svc:443'.
	// +optional
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=260
	// +kubebuilder:validation:Pattern=`^([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]):[1-9][0-9]{0,4}$`
	Reference string `json:"reference,omitempty"`
}

// ProbeArgument is a part of a command.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=256
type ProbeArgument string

// SurvivingConnections says what is done about connections that isolation may leave open.
// +kubebuilder:validation:Enum=Report;Delete
type SurvivingConnections string

// What is done about surviving connections.
const (
	// SurvivingReported says that they may go on.
	SurvivingReported SurvivingConnections = "Report"
	// SurvivingDeleted deletes the pod.
	SurvivingDeleted SurvivingConnections = "Delete"
)

// ClusterPolicyUse says whether ClusterNetworkPolicies are used.
// +kubebuilder:validation:Enum=Use;Ignore
type ClusterPolicyUse string

// Whether ClusterNetworkPolicies are used.
const (
	// ClusterPolicyUsed makes one where the cluster has that API.
	ClusterPolicyUsed ClusterPolicyUse = "Use"
	// ClusterPolicyIgnored makes none.
	ClusterPolicyIgnored ClusterPolicyUse = "Ignore"
)

// IsolateAllow says what stays open.
type IsolateAllow struct {
	// ingress is who may still connect to it.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=4
	Ingress []AllowedTraffic `json:"ingress,omitempty"`

	// egress is what it may connect to.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=4
	Egress []AllowedTraffic `json:"egress,omitempty"`
}

// AllowedTraffic stays open.
type AllowedTraffic struct {
	// cidrs are the addresses, such as '192.0.2.7/32', but not all.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	CIDRs []CIDR `json:"cidrs,omitempty"`

	// ports that are connected to. Empty means all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Ports []AllowedPort `json:"ports,omitempty"`
}

// CIDR is an address block.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=43
// +kubebuilder:validation:XValidation:rule="isCIDR(self) && cidr(self).prefixLength() > 0",message="must be a block of addresses such as '192.0.2.7/32', and not all addresses"
type CIDR string

// AllowedProtocol is a transport protocol.
// +kubebuilder:validation:Enum=TCP;UDP;SCTP
type AllowedProtocol string

// AllowedPort is one, or a range.
// +kubebuilder:validation:XValidation:rule="!has(self.endPort) || self.endPort >= self.port",message="`endPort` must not be less than `port`"
type AllowedPort struct {
	// port is the port, or the first of a range.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`

	// endPort is the last of a range. Empty means one port.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	EndPort int32 `json:"endPort,omitempty"`

	// protocol of the ports. Empty means 'TCP'.
	// +optional
	// +kubebuilder:default=TCP
	Protocol AllowedProtocol `json:"protocol,omitempty"`
}
