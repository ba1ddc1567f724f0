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

	// backoff is the wait before the second attempt; it doubles with each further one,
	// up to 5 minutes. Empty means 2s.
	// +optional
	// +kubebuilder:default="2s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10ms') && duration(self) <= duration('5m')",message="`backoff` must be from '10ms' to '5m'"
	Backoff *metav1.Duration `json:"backoff,omitempty"`
}

// PlaybookStep is one step of a playbook: exactly one action.
// +kubebuilder:validation:ExactlyOneOf=collect;isolate;quarantine;scale;suspend;cordon;drain;taint;revokeAccess;blockImage;patch;apply;delete;evict;restart;rollback;job;http;notify;approve;task;verify;wait;revert
// +kubebuilder:validation:XValidation:rule="!has(self.target) || !has(self.targets)",message="`target` and `targets` must not both be set"
// +kubebuilder:validation:XValidation:rule="has(self.target) || has(self.targets) || !(has(self.collect) || has(self.isolate) || has(self.quarantine) || has(self.scale) || has(self.suspend) || has(self.cordon) || has(self.drain) || has(self.taint) || has(self.blockImage) || has(self.patch) || has(self.delete) || has(self.evict) || has(self.restart) || has(self.rollback) || (has(self.verify) && has(self.verify.expression)))",message="`target` or `targets` must be set: this action acts on objects"
// +kubebuilder:validation:XValidation:rule="!(has(self.target) || has(self.targets)) || !(has(self.apply) || has(self.notify) || has(self.approve) || has(self.task) || has(self.wait) || has(self.revert) || (has(self.verify) && has(self.verify.noEventsFor)))",message="`target` and `targets` must not be set for actions that act on no object"
// +kubebuilder:validation:XValidation:rule="!has(self.target) || !(has(self.isolate) || has(self.quarantine) || has(self.evict)) || self.target == 'Pods' || (has(self.isolate) && self.target == 'Workloads')",message="`target` must be 'Pods' for 'quarantine' and 'evict', and 'Pods' or 'Workloads' for 'isolate'"
// +kubebuilder:validation:XValidation:rule="!has(self.isolate) || !has(self.isolate.survivingConnections) || self.isolate.survivingConnections != 'Delete' || !has(self.target) || self.target == 'Pods'",message="`target` must be 'Pods' for 'isolate' with `survivingConnections: Delete`"
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

	// when is a CEL expression over `incident` (its effective severity, priority,
	// category, title and eventCount); the step is skipped when it is false. Empty
	// means always.
	// +optional
	When Expression `json:"when,omitempty"`

	// target says which objects of the incident the step acts on.
	// +optional
	Target TargetKind `json:"target,omitempty"`

	// targets is a CEL expression over `incident`, `resources`, `variables` and `steps` that
	// yields what the step acts on instead: a list of objects with `apiVersion`, `kind`,
	// `name` and, but for cluster-scoped kinds, `namespace`. Each is read as the playbook's
	// ServiceAccount and pinned by its UID.
	// +optional
	Targets Expression `json:"targets,omitempty"`

	// onNoTargets says what follows when there are none. Empty means 'Fail': a step
	// that did nothing must not look like one that did.
	// +optional
	// +kubebuilder:default=Fail
	OnNoTargets NoTargetsPolicy `json:"onNoTargets,omitempty"`

	// parallel names a group: neighbouring steps of one group run at the same time.
	// Empty means alone.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Parallel string `json:"parallel,omitempty"`

	// timeout is how long the step may take, but for approve, task, verify and wait,
	// which have their own. Empty means 5m.
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

	// instructions tell a person what to do when the step fails.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Instructions string `json:"instructions,omitempty"`

	// collect preserves evidence of the targets. Rights: get on pods, their owners and
	// pods/log; list on events and networkpolicies.
	// +optional
	Collect *CollectAction `json:"collect,omitempty"`

	// isolate cuts the network of the target pods, or of all pods of the target workloads.
	// It can be undone. Rights: get and patch pods; get, list, create, patch and delete
	// networkpolicies; get the pods' owners; for workloads list pods.
	// +optional
	Isolate *IsolateAction `json:"isolate,omitempty"`

	// quarantine takes the target pods out of their workloads and Services: a clean replica
	// starts, and this one stays for forensics. It can be undone, but for the labels of the
	// workload. Rights: get and patch pods; list services; get the pods' owners.
	// +optional
	Quarantine *QuarantineAction `json:"quarantine,omitempty"`

	// scale sets the replicas of the target workloads. It can be undone. Rights: get the
	// workloads, get and patch their `scale`; for more than 0 replicas list
	// horizontalpodautoscalers.
	// +optional
	Scale *ScaleAction `json:"scale,omitempty"`

	// suspend stops a CronJob, a Job, a Flux Kustomization or HelmRelease, or an Argo CD
	// Application from acting. It can be undone. Rights: get and patch on them.
	// +optional
	Suspend *SuspendAction `json:"suspend,omitempty"`

	// cordon keeps new pods off the target nodes. It can be undone. Rights: get and patch nodes.
	// +optional
	Cordon *CordonAction `json:"cordon,omitempty"`

	// drain cordons the target nodes and evicts their pods. The cordon can be undone, the
	// evictions cannot. Rights: get and patch nodes; list pods, create pods/eviction and
	// get daemonsets in the whole cluster.
	// +optional
	Drain *DrainAction `json:"drain,omitempty"`

	// taint puts a taint on the target nodes. It can be undone. Rights: get and patch nodes.
	// +optional
	Taint *TaintAction `json:"taint,omitempty"`

	// revokeAccess takes a subject out of the RoleBindings and ClusterRoleBindings that name
	// it. It can be undone. Rights: get, list and update on both in the whole cluster, and
	// `bind` on the roles: let a ServiceAccount of its own hold them.
	// +optional
	RevokeAccess *RevokeAccessAction `json:"revokeAccess,omitempty"`

	// blockImage has the API server refuse pods that run the target images, by a
	// ValidatingAdmissionPolicy. It can be undone. Rights: get, create, patch and delete on
	// validatingadmissionpolicies and their bindings.
	// +optional
	BlockImage *BlockImageAction `json:"blockImage,omitempty"`

	// patch changes fields of the targets by server-side apply. It can be undone. Rights: get
	// and patch on them.
	// +optional
	Patch *PatchAction `json:"patch,omitempty"`

	// apply makes an object, or sets fields of one, by server-side apply. It can be undone.
	// Rights: get, create, patch and delete on it.
	// +optional
	Apply *ApplyAction `json:"apply,omitempty"`

	// delete deletes the targets. It cannot be undone. Rights: get and delete on them.
	// +optional
	Delete *DeleteAction `json:"delete,omitempty"`

	// evict deletes the target pods as far as their PodDisruptionBudgets allow. It cannot be
	// undone. Rights: get pods, create pods/eviction.
	// +optional
	Evict *EvictAction `json:"evict,omitempty"`

	// restart replaces all pods of the target workloads, as `kubectl rollout restart` does.
	// It cannot be undone. Rights: get and patch on them.
	// +optional
	Restart *RestartAction `json:"restart,omitempty"`

	// rollback takes the target workloads back to an earlier revision, as `kubectl rollout
	// undo` does. It can be undone. Rights: get and patch on them; list replicasets or
	// controllerrevisions.
	// +optional
	Rollback *RollbackAction `json:"rollback,omitempty"`

	// job runs a Job in the domain's namespace once, and keeps its output. Rights, all there:
	// get and create jobs; list pods; get pods/log; get on what its pods refer to.
	// +optional
	Job *JobAction `json:"job,omitempty"`

	// http sends one signed HTTPS request. Rights: get on the Secrets it names.
	// +optional
	HTTP *HTTPAction `json:"http,omitempty"`

	// notify tells channels of the plan. The plan's ServiceAccount reads their Secrets.
	// +optional
	Notify *NotifyAction `json:"notify,omitempty"`

	// approve waits until people have approved what comes next.
	// +optional
	Approve *ApproveAction `json:"approve,omitempty"`

	// task asks a person to do something by hand.
	// +optional
	Task *TaskAction `json:"task,omitempty"`

	// verify waits until a condition holds. Rights: get on the targets, best with watch.
	// +optional
	Verify *VerifyAction `json:"verify,omitempty"`

	// wait lets time pass.
	// +optional
	Wait *WaitAction `json:"wait,omitempty"`

	// revert undoes the effects of earlier steps, with the rights of their actions.
	// +optional
	Revert *RevertAction `json:"revert,omitempty"`
}
