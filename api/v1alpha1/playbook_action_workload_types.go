package v1alpha1

// QuarantineAction takes a pod out of its workload and its Services.
type QuarantineAction struct {
	// readopt says whether undoing gives the pod back the labels its workload selects
	// by. With 'Allow' the workload takes the pod back, and a clean replica is deleted
	// in its place. Empty means 'Deny'.
	// +optional
	// +kubebuilder:default=Deny
	Readopt TrafficVerdict `json:"readopt,omitempty"`
}

// ScaleAction sets the replicas of a workload.
type ScaleAction struct {
	// replicas is how many it is to have; 0 stops it.
	// +required
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	Replicas *int32 `json:"replicas,omitempty"`
}

// SuspendAction stops what starts or reconciles other things.
type SuspendAction struct{}

// EvictAction deletes a pod as far as its PodDisruptionBudgets allow.
type EvictAction struct {
	// gracePeriodSeconds is how long a pod may take to end. Empty means the pod's own.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	GracePeriodSeconds *int64 `json:"gracePeriodSeconds,omitempty"`
}

// RestartAction replaces all pods of a Deployment, StatefulSet or DaemonSet.
type RestartAction struct{}

// RollbackAction takes a Deployment, StatefulSet or DaemonSet back to an earlier revision.
type RollbackAction struct {
	// toRevision is the number of the revision, as `kubectl rollout history` shows it.
	// Empty means the one before the present.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ToRevision *int64 `json:"toRevision,omitempty"`
}
