package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// TargetKind says which objects of an incident a step acts on.
// +kubebuilder:validation:Enum=Pods;Workloads;Nodes;Namespaces;ServiceAccounts;Images
type TargetKind string

// The kinds of targets.
const (
	// TargetPods means the pods the incident is about.
	TargetPods TargetKind = "Pods"
	// TargetWorkloads means the top owners of these pods.
	TargetWorkloads TargetKind = "Workloads"
	// TargetNodes means the nodes the incident is about, and those its pods run on.
	TargetNodes TargetKind = "Nodes"
	// TargetNamespaces means the namespaces the incident is about, and those its objects are in.
	TargetNamespaces TargetKind = "Namespaces"
	// TargetServiceAccounts means the ServiceAccounts the incident is about, and those its pods run as.
	TargetServiceAccounts TargetKind = "ServiceAccounts"
	// TargetImages means the container images its pods run, by the digests that run.
	TargetImages TargetKind = "Images"
)

// FailurePolicy says what follows when a step fails.
// +kubebuilder:validation:Enum=Abort;Continue;Escalate
type FailurePolicy string

// The failure policies.
const (
	// OnFailureAbort stops the playbook: a person must decide how to go on.
	OnFailureAbort FailurePolicy = "Abort"
	// OnFailureContinue goes on with the next step.
	OnFailureContinue FailurePolicy = "Continue"
	// OnFailureEscalate asks a person to do the step by hand, by its instructions.
	OnFailureEscalate FailurePolicy = "Escalate"
)

// NoTargetsPolicy says what follows when a step finds nothing to act on.
// +kubebuilder:validation:Enum=Fail;Skip
type NoTargetsPolicy string

// The policies for no targets.
const (
	OnNoTargetsFail NoTargetsPolicy = "Fail"
	OnNoTargetsSkip NoTargetsPolicy = "Skip"
)

// Retry says how often and how fast a failed effect is tried again.
type Retry struct {
	// attempts is how often the effect is tried in all. Empty means 3.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=20
	// +kubebuilder:default=3
	Attempts int32 `json:"attempts,omitempty"`

	// backoff is the wait before the second attempt; it doubles with each, up to 5m. Empty means 2s.
	// +optional
	// +kubebuilder:default="2s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10ms') && duration(self) <= duration('5m')",message="`backoff` must be from '10ms' to '5m'"
	Backoff *metav1.Duration `json:"backoff,omitempty"`
}

// PlaybookStep is exactly one action.
// +kubebuilder:validation:ExactlyOneOf=collect;isolate;quarantine;scale;suspend;cordon;drain;taint;revokeAccess;blockImage;patch;apply;delete;evict;restart;rollback;job;http;notify;approve;task;verify;wait;revert
// +kubebuilder:validation:XValidation:rule="!has(self.target) || !has(self.targets)",message="`target` and `targets` must not both be set"
// +kubebuilder:validation:XValidation:rule="has(self.target) || has(self.targets) || has(self.revokeAccess) || has(self.apply) || has(self.job) || has(self.http) || has(self.notify) || has(self.approve) || has(self.task) || has(self.wait) || has(self.revert) || (has(self.verify) && !has(self.verify.expression))",message="`target` or `targets` must be set: this action acts on objects"
// +kubebuilder:validation:XValidation:rule="!(has(self.target) || has(self.targets)) || !(has(self.apply) || has(self.notify) || has(self.approve) || has(self.task) || has(self.wait) || has(self.revert) || (has(self.verify) && has(self.verify.noEventsFor)))",message="`target` and `targets` must not be set for actions that act on no object"
// +kubebuilder:validation:XValidation:rule="!has(self.target) || !(has(self.isolate) || has(self.quarantine) || has(self.evict)) || self.target == 'Pods' || (has(self.isolate) && self.target == 'Workloads')",message="`target` must be 'Pods' for 'quarantine' and 'evict', and 'Pods' or 'Workloads' for 'isolate'"
// +kubebuilder:validation:XValidation:rule="!has(self.target) || self.target == 'Pods' || !has(self.isolate) || !has(self.isolate.probe) && self.isolate.survivingConnections != 'Delete'",message="`target` must be 'Pods' for 'isolate' with `survivingConnections: Delete` or `probe`"
// +kubebuilder:validation:XValidation:rule="!has(self.target) || !(has(self.scale) || has(self.suspend) || has(self.restart) || has(self.rollback)) || self.target == 'Workloads'",message="`target` must be 'Workloads' for 'scale', 'suspend', 'restart' and 'rollback'"
// +kubebuilder:validation:XValidation:rule="!has(self.target) || !(has(self.cordon) || has(self.drain) || has(self.taint)) || self.target == 'Nodes'",message="`target` must be 'Nodes' for 'cordon', 'drain' and 'taint'"
// +kubebuilder:validation:XValidation:rule="!has(self.target) || (has(self.blockImage) == (self.target == 'Images'))",message="`target` must be 'Images' for 'blockImage', and for nothing else"
// +kubebuilder:validation:XValidation:rule="!has(self.target) || !has(self.revokeAccess) || self.target == 'ServiceAccounts'",message="`target` must be 'ServiceAccounts' for 'revokeAccess'"
type PlaybookStep struct {
	// name of the step, unique in the playbook.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name,omitempty"`

	// when is a CEL expression over `incident` (its effective severity, priority, category, title
	// and eventCount); the step is skipped when it is false. Empty means always.
	// +optional
	When Expression `json:"when,omitempty"`

	// target is which of the incident's objects it acts on.
	// +optional
	Target TargetKind `json:"target,omitempty"`

	// targets is a CEL expression over `incident`, `resources`, `variables` and `steps` that
	// yields what the step acts on instead: a list of objects with `apiVersion`, `kind`, `name`
	// and, but for cluster-scoped kinds, `namespace`. Each is pinned by its UID.
	// +optional
	Targets Expression `json:"targets,omitempty"`

	// onNoTargets says what follows when there are none. Empty means 'Fail'.
	// +optional
	// +kubebuilder:default=Fail
	OnNoTargets NoTargetsPolicy `json:"onNoTargets,omitempty"`

	// parallel names a group: neighbours of one group run at the same time. Empty means alone.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Parallel string `json:"parallel,omitempty"`

	// timeout is how long the step may take; approve, task, verify and wait have their own.
	// Empty means 5m.
	// +optional
	// +kubebuilder:default="5m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="`timeout` must be from '1s' to '24h'"
	Timeout *metav1.Duration `json:"timeout,omitempty"`

	// retry says how often and how fast a failed effect is tried again.
	// +optional
	// +kubebuilder:default={}
	Retry Retry `json:"retry,omitzero"`

	// onFailure says what follows when the step fails. Empty means 'Escalate'.
	// +optional
	// +kubebuilder:default=Escalate
	OnFailure FailurePolicy `json:"onFailure,omitempty"`

	// instructions tell a person what to do if it fails.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Instructions string `json:"instructions,omitempty"`

	// collect preserves evidence of the targets.
	// +optional
	Collect *CollectAction `json:"collect,omitempty"`

	// isolate cuts the network of the target pods, or of all pods of the target workloads.
	// It can be undone.
	// +optional
	Isolate *IsolateAction `json:"isolate,omitempty"`

	// quarantine takes the target pods out of their workloads and Services: a clean replica
	// starts, and this one stays for forensics. It can be undone, but for the workload's labels.
	// +optional
	Quarantine *QuarantineAction `json:"quarantine,omitempty"`

	// scale sets the replicas of the target workloads. It can be undone.
	// +optional
	Scale *ScaleAction `json:"scale,omitempty"`

	// suspend stops a CronJob, a Job, a Flux Kustomization or HelmRelease, or an Argo CD
	// Application. It can be undone.
	// +optional
	Suspend *SuspendAction `json:"suspend,omitempty"`

	// cordon keeps new pods off the target nodes. It can be undone.
	// +optional
	Cordon *CordonAction `json:"cordon,omitempty"`

	// drain cordons the target nodes and evicts their pods. Only the cordon can be undone.
	// +optional
	Drain *DrainAction `json:"drain,omitempty"`

	// taint taints the target nodes. It can be undone.
	// +optional
	Taint *TaintAction `json:"taint,omitempty"`

	// revokeAccess takes a subject out of the RoleBindings and ClusterRoleBindings that name
	// it. It can be undone.
	// +optional
	RevokeAccess *RevokeAccessAction `json:"revokeAccess,omitempty"`

	// blockImage has the API server refuse pods that run the target images, by a
	// ValidatingAdmissionPolicy. It can be undone.
	// +optional
	BlockImage *BlockImageAction `json:"blockImage,omitempty"`

	// patch changes fields of the targets by server-side apply. It can be undone.
	// +optional
	Patch *PatchAction `json:"patch,omitempty"`

	// apply makes an object, or sets fields of one, by server-side apply. It can be undone.
	// +optional
	Apply *ApplyAction `json:"apply,omitempty"`

	// delete deletes the targets. It cannot be undone.
	// +optional
	Delete *DeleteAction `json:"delete,omitempty"`

	// evict deletes the target pods as far as their PodDisruptionBudgets allow. It cannot be
	// undone.
	// +optional
	Evict *EvictAction `json:"evict,omitempty"`

	// restart replaces all pods of the target workloads, as `kubectl rollout restart` does.
	// It cannot be undone.
	// +optional
	Restart *RestartAction `json:"restart,omitempty"`

	// rollback takes the target workloads back to an earlier revision, as `kubectl rollout
	// undo` does. It can be undone.
	// +optional
	Rollback *RollbackAction `json:"rollback,omitempty"`

	// job runs a Job in the domain's namespace once, and keeps its output.
	// +optional
	Job *JobAction `json:"job,omitempty"`

	// http sends one signed HTTPS request.
	// +optional
	HTTP *HTTPAction `json:"http,omitempty"`

	// notify tells channels of the plan. The plan's ServiceAccount reads their Secrets.
	// +optional
	Notify *NotifyAction `json:"notify,omitempty"`

	// approve waits until people have approved.
	// +optional
	Approve *ApproveAction `json:"approve,omitempty"`

	// task asks a person to do something by hand.
	// +optional
	Task *TaskAction `json:"task,omitempty"`

	// verify waits until a condition holds.
	// +optional
	Verify *VerifyAction `json:"verify,omitempty"`

	// wait lets time pass.
	// +optional
	Wait *WaitAction `json:"wait,omitempty"`

	// revert undoes the effects of earlier steps.
	// +optional
	Revert *RevertAction `json:"revert,omitempty"`
}
