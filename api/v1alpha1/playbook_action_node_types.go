package v1alpha1

// CordonAction keeps new pods off a node. What runs there goes on.
type CordonAction struct{}

// UnmanagedPods says what draining does about pods that nothing would start anew.
// +kubebuilder:validation:Enum=Keep;Delete
type UnmanagedPods string

// What draining does about unmanaged pods.
const (
	// UnmanagedKeep leaves them; the others are evicted, and the step fails and names them.
	UnmanagedKeep UnmanagedPods = "Keep"
	// UnmanagedDelete evicts them too: they are lost.
	UnmanagedDelete UnmanagedPods = "Delete"
)

// DrainAction cordons a node and evicts its pods, and waits until they have ended. Pods of
// DaemonSets and static pods stay. So do pods of protected namespaces that the playbook's
// limits do not name: the step then fails and names them.
type DrainAction struct {
	// gracePeriodSeconds is how long each pod may take to end. Empty means the pod's own.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	GracePeriodSeconds *int64 `json:"gracePeriodSeconds,omitempty"`

	// unmanagedPods is about pods that nothing starts anew or with data in an emptyDir. Empty
	// means 'Keep'.
	// +optional
	// +kubebuilder:default=Keep
	UnmanagedPods UnmanagedPods `json:"unmanagedPods,omitempty"`
}

// TaintEffect is what a taint does to pods that do not tolerate it.
// +kubebuilder:validation:Enum=NoSchedule;PreferNoSchedule;NoExecute
type TaintEffect string

// TaintAction puts a taint on a node. A taint of the same key and effect that is there
// gets the value of this one, and its own back when it is undone.
type TaintAction struct {
	// key of the taint. Empty means 'firebreak.dev/incident'.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`
	// +kubebuilder:default="firebreak.dev/incident"
	Key string `json:"key,omitempty"`

	// value of the taint. Empty means none.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`
	Value string `json:"value,omitempty"`

	// effect on pods that do not tolerate it; 'NoExecute' evicts them. Empty means 'NoSchedule'.
	// +optional
	// +kubebuilder:default=NoSchedule
	Effect TaintEffect `json:"effect,omitempty"`
}
