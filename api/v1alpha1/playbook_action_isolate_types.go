package v1alpha1

// IsolateAction cuts the network of a pod, or of all pods of a workload.
type IsolateAction struct {
	// ingress says whether connections to the pod are cut. Empty means 'Deny'.
	// +optional
	// +kubebuilder:default=Deny
	Ingress TrafficVerdict `json:"ingress,omitempty"`

	// egress says whether connections from the pod are cut. Empty means 'Deny'.
	// +optional
	// +kubebuilder:default=Deny
	Egress TrafficVerdict `json:"egress,omitempty"`

	// dns says whether name resolution is cut too: DNS is a way out. Empty means 'Deny'.
	// +optional
	// +kubebuilder:default=Deny
	DNS TrafficVerdict `json:"dns,omitempty"`

	// allow keeps traffic open that would be cut, such as that of a forensic workstation.
	// Empty means none.
	// +optional
	Allow IsolateAllow `json:"allow,omitzero"`

	// clusterNetworkPolicy says whether a ClusterNetworkPolicy (policy.networking.k8s.io)
	// of the Admin tier denies the traffic too, where the cluster has that API. Fewer labels
	// need to be taken away then. It cannot deny ingress but from pods. Empty means 'Ignore'.
	// +optional
	// +kubebuilder:default=Ignore
	ClusterNetworkPolicy ClusterPolicyUse `json:"clusterNetworkPolicy,omitempty"`

	// survivingConnections says what is done about connections that are open when the pod
	// is cut: some network plugins let them go on. 'Report' says so; 'Delete', for pods
	// only, deletes the isolated pod with what was not collected. Empty means 'Report'.
	// +optional
	// +kubebuilder:default=Report
	SurvivingConnections SurvivingConnections `json:"survivingConnections,omitempty"`

	// readopt says whether undoing gives back the labels the workload selects by: with
	// 'Allow' it takes the pod back, and deletes a clean replica. Empty means 'Deny'.
	// +optional
	// +kubebuilder:default=Deny
	Readopt TrafficVerdict `json:"readopt,omitempty"`
}

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
	// ingress is what may still connect to the pod.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=4
	Ingress []AllowedTraffic `json:"ingress,omitempty"`

	// egress is what the pod may still connect to.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=4
	Egress []AllowedTraffic `json:"egress,omitempty"`
}

// AllowedTraffic is traffic with some addresses, by some ports.
type AllowedTraffic struct {
	// cidrs are the addresses, such as '192.0.2.7/32'. All addresses together are refused:
	// that would not be isolation.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	CIDRs []CIDR `json:"cidrs,omitempty"`

	// ports are those of the pod for ingress, of the others for egress. Empty means all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Ports []AllowedPort `json:"ports,omitempty"`
}

// CIDR is a block of IP addresses.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=43
// +kubebuilder:validation:XValidation:rule="isCIDR(self) && cidr(self).prefixLength() > 0",message="must be a block of addresses such as '192.0.2.7/32' or '2001:db8::/64', and not all addresses"
type CIDR string

// AllowedProtocol is a transport protocol.
// +kubebuilder:validation:Enum=TCP;UDP;SCTP
type AllowedProtocol string

// AllowedPort is a port, or a range of them.
// +kubebuilder:validation:XValidation:rule="!has(self.endPort) || self.endPort >= self.port",message="`endPort` must not be less than `port`"
type AllowedPort struct {
	// port is the port, or the first of a range.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`

	// endPort is the last of a range. Empty means that it is one port.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	EndPort int32 `json:"endPort,omitempty"`

	// protocol of the ports. Empty means 'TCP'.
	// +optional
	// +kubebuilder:default=TCP
	Protocol AllowedProtocol `json:"protocol,omitempty"`
}
