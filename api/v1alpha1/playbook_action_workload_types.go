package v1alpha1

// QuarantineAction takes a pod out of its workload and its Services. A pod of a StatefulSet
// is refused: no clean one can start while it is there under its name.
type QuarantineAction struct {
	// readopt says whether undoing gives back the labels the workload selects by: with 'Allow' it
	// takes the pod back, and deletes a clean one. Empty means 'Deny'.
	// +optional
	// +kubebuilder:default=Deny
	Readopt TrafficVerdict `json:"readopt,omitempty"`
}

// ScaleAction sets the replicas of a workload.
type ScaleAction struct {
	// replicas is how many it is to have. 0 stops it, and a HorizontalPodAutoscaler with it; any
	// other number is refused where there is one.
	// +required
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	Replicas *int32 `json:"replicas,omitempty"`
}

// SuspendAction stops what starts or reconciles other things. What it has started or
// applied goes on, but for the pods of a Job.
type SuspendAction struct{}

// EvictAction deletes a pod as far as its PodDisruptionBudgets allow; what they do not
// allow yet is tried again until the step's timeout.
type EvictAction struct {
	// gracePeriodSeconds is how long a pod may take to end. Empty means the pod's own.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	GracePeriodSeconds *int64 `json:"gracePeriodSeconds,omitempty"`
}

// RestartAction replaces all pods of a Deployment, StatefulSet or DaemonSet, and waits
// until that is done.
type RestartAction struct{}

// RollbackAction takes a Deployment, StatefulSet or DaemonSet back to an earlier revision.
type RollbackAction struct {
	// toRevision is the number that `kubectl rollout history` shows. Empty means the one before,
	// unless another incident has taken the workload back already.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ToRevision int64 `json:"toRevision,omitempty"`
}
