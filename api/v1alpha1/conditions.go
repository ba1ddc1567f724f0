package v1alpha1

// Conditions of ClassificationPolicies, ResponsePlaybooks and ResponsePlans.
const (
	// ConditionReady says whether the object can be used. kstatus, Flux and Argo CD read it.
	ConditionReady = "Ready"

	// ReasonCompiled surfaces on Ready when every expression compiles.
	ReasonCompiled = "Compiled"
	// ReasonExpressionError surfaces on Ready when an expression does not compile;
	// the message names the rule or step, the position and the cause.
	ReasonExpressionError = "ExpressionError"
	// ReasonInvalidReference surfaces on Ready when a step names a step that does not exist.
	ReasonInvalidReference = "InvalidReference"
	// ReasonInForce surfaces on Ready of a plan that is in force.
	ReasonInForce = "InForce"
	// ReasonNotADomain surfaces on Ready when the namespace is not a response domain:
	// it lacks the label 'firebreak.dev/domain' or the binding to 'firebreak-impersonator'.
	ReasonNotADomain = "NotADomain"
)

// Conditions of ResponsePlaybooks.
const (
	// ConditionAuthorized says whether the playbook's ServiceAccount holds the rights that
	// its steps need. It is a warning: rights are asked for again where they are used.
	ConditionAuthorized = "Authorized"
	// ConditionReversible says whether the playbook undoes every containment it makes. It
	// is a warning: what is not undone stays until a person undoes it.
	ConditionReversible = "Reversible"

	// ReasonEvidenceLoss surfaces on Ready when a step may destroy what was not collected before.
	ReasonEvidenceLoss = "EvidenceLoss"
	// ReasonInvalidTarget surfaces on Ready when a step's `targets` name kinds that its
	// action cannot act on.
	ReasonInvalidTarget = "InvalidTarget"
	// ReasonChannelNotFound surfaces on Ready when a step tells channels or roles that the
	// plan does not have, or roles without channels.
	ReasonChannelNotFound = "ChannelNotFound"
	// ReasonServiceAccountNotFound surfaces on Ready when the playbook's ServiceAccount does not exist.
	ReasonServiceAccountNotFound = "ServiceAccountNotFound"
	// ReasonAllowed surfaces on Authorized when no right is missing.
	ReasonAllowed = "Allowed"
	// ReasonRightsMissing surfaces on Authorized when rights are missing; the message names them.
	ReasonRightsMissing = "RightsMissing"
	// ReasonNotAsked surfaces on Authorized when the API server could not be asked.
	ReasonNotAsked = "NotAsked"
	// ReasonAllReverted surfaces on Reversible when every containment is undone by a step,
	// or there is none that could be.
	ReasonAllReverted = "AllReverted"
	// ReasonNotReverted surfaces on Reversible when a containment is undone by no step.
	ReasonNotReverted = "NotReverted"
)

// Conditions of ResponsePlans.
const (
	// ConditionGuarded says whether the admission policies were proven to stand.
	ConditionGuarded = "Guarded"
	// ConditionAutomationStopped says whether a Decision or `response: Paused` has
	// stopped the automation of the domain.
	ConditionAutomationStopped = "AutomationStopped"

	// ConditionSourcesHeard says whether all expected sources were heard lately. A plan that
	// expects none does not have it.
	ConditionSourcesHeard = "SourcesHeard"

	// ReasonAllHeard surfaces on SourcesHeard when none is silent.
	ReasonAllHeard = "AllHeard"
	// ReasonSourceSilent surfaces on SourcesHeard when nothing was heard of one for longer than
	// its `silentAfter`; the message names it, since when, and what to check.
	ReasonSourceSilent = "SourceSilent"
	// ReasonRetentionJournalLost surfaces in a Kubernetes Event about the last RetentionJournal
	// of a domain when its bytes are lost: retention goes on after it; and about a plan when the
	// last journals that its status tells of are not there.
	ReasonRetentionJournalLost = "RetentionJournalLost"
	// ReasonRetentionKept surfaces in a Kubernetes Event about an incident whose time is over by
	// the plan's `retention`, and that something still needs; the message says what.
	ReasonRetentionKept = "RetentionKept"
	// ReasonRetentionRemoved surfaces in a Kubernetes Event about an incident that was deleted
	// because its time was over; the message says where it is on record.
	ReasonRetentionRemoved = "RetentionRemoved"
	// ReasonRetentionClockAhead surfaces in a Kubernetes Event about a plan while nothing is deleted
	// by its `retention`, because the manager's clock is more than five minutes ahead of the API
	// server's; and about a RetentionJournal that was made then, and does not count.
	ReasonRetentionClockAhead = "RetentionClockAhead"
	// ReasonRetentionClockUnknown surfaces in a Kubernetes Event about a plan while nothing is deleted
	// by its `retention`, because the API server's time cannot be learned; the message says why.
	ReasonRetentionClockUnknown = "RetentionClockUnknown"
	// ReasonForgeryRefused surfaces on Guarded when a forged Decision was refused.
	ReasonForgeryRefused = "ForgeryRefused"
	// ReasonForgeryAccepted surfaces on Guarded when a forged Decision would have been
	// accepted: the admission policies are missing. No Decision is accepted then.
	ReasonForgeryAccepted = "ForgeryAccepted"
	// ReasonProbeFailed surfaces on Guarded when the proof could not be tried.
	ReasonProbeFailed = "ProbeFailed"
	// ReasonStoppedByDecision surfaces on AutomationStopped when a person stopped it.
	ReasonStoppedByDecision = "StoppedByDecision"
	// ReasonPausedByPlan surfaces on AutomationStopped when the plan says 'Paused'.
	ReasonPausedByPlan = "PausedByPlan"
	// ReasonRunning surfaces on AutomationStopped when nothing stops the automation.
	ReasonRunning = "Running"
)

// Conditions of SecurityEvents.
const (
	// ConditionAssessed says whether the event was decided about.
	ConditionAssessed = "Assessed"

	// ReasonRuleMatched surfaces when a rule decided.
	ReasonRuleMatched = "RuleMatched"
	// ReasonNoRuleMatched surfaces when no rule decided: the event is deferred to a person.
	ReasonNoRuleMatched = "NoRuleMatched"
	// ReasonDeferredByRule surfaces when a rule defers to a person.
	ReasonDeferredByRule = "DeferredByRule"
	// ReasonRuleError surfaces when a rule failed to evaluate: the event is deferred to
	// a person, never dismissed.
	ReasonRuleError = "RuleError"
	// ReasonThresholdPending surfaces on Assessed while an event has not been seen as often as
	// its rule's threshold asks for, and may be yet; the message says until when it waits.
	ReasonThresholdPending = "ThresholdPending"
	// ReasonThresholdNotReached surfaces when it was not seen that often in time: the event
	// is dismissed.
	ReasonThresholdNotReached = "ThresholdNotReached"
	// ReasonIncidentRefused surfaces when the API server refuses the event's incident; the
	// message says why. What may change, such as a quota, is tried again at least every
	// minute; what it never takes is deferred to a person.
	ReasonIncidentRefused = "IncidentRefused"
	// ReasonDetached surfaces when a person has found that the event does not belong to the
	// incident it was part of: a person must decide about it.
	ReasonDetached = "Detached"
	// ReasonDuplicate surfaces on an event when the incident it was part of was found to be a
	// duplicate: it belongs to the other now. On an incident's conditions it says that the
	// other goes on; on a Decision, that it must be about the other, which the message names.
	ReasonDuplicate = "Duplicate"
	// ReasonLeftOut surfaces when an event that a person had joined to an incident was not
	// taken up by it any more, and the policies open none for it: a person must decide.
	ReasonLeftOut = "LeftOut"
	// ReasonAssessmentOverdue surfaces on Assessed when an event waits for a person for longer
	// than the plan's objectives allow; the message says since when, and what to do.
	ReasonAssessmentOverdue = "Overdue"
	// ReasonOpenedBefore surfaces when an event had opened its incident and could not say so
	// before the manager ended, and the policies say something else by now: it stays with the
	// incident, whose `spec.rule` names the rule that decided.
	ReasonOpenedBefore = "OpenedBefore"
	// ReasonDecidedByPerson surfaces when a person's Decision decided.
	ReasonDecidedByPerson = "DecidedByPerson"
)

// Conditions of Incidents.
const (
	// ConditionConfirmed says whether it is certain to be an incident. Where the incident's
	// `confirm` is 'Required', eradication and recovery wait for that.
	ConditionConfirmed = "Confirmed"
	// ReasonNotRequired surfaces on Confirmed when no person needs to confirm it.
	ReasonNotRequired = "NotRequired"
	// ReasonConfirmationAwaited surfaces on Confirmed while a person must.
	ReasonConfirmationAwaited = "ConfirmationAwaited"
	// ConditionAcknowledged says whether a person has taken the incident on.
	ConditionAcknowledged = "Acknowledged"
	// ConditionContained says whether it was stopped from spreading, by real effects.
	ConditionContained = "Contained"
	// ConditionEradicated says whether its cause was removed.
	ConditionEradicated = "Eradicated"
	// ConditionRecovered says whether normal operation was verified.
	ConditionRecovered = "Recovered"
	// ConditionReviewed says whether the lesson is there to be filled in.
	ConditionReviewed = "Reviewed"
	// ConditionClosed says whether the incident was formally closed.
	ConditionClosed = "Closed"
	// ConditionStalled says whether the incident waits for something that does not come
	// by itself.
	ConditionStalled = "Stalled"

	// ConditionContainmentDrifted says whether something takes an effect that must stand
	// away again and again. It appears with the third loss.
	ConditionContainmentDrifted = "ContainmentDrifted"

	// ConditionTimelineSealed says whether the older entries of the timeline were sealed into
	// Evidence. It appears when that fails until there are more than 64, as on a full evidence
	// volume: the incident goes on for as long as its status has room for the entries.
	ConditionTimelineSealed = "TimelineSealed"
	// ReasonSealingFailed surfaces on TimelineSealed while it fails.
	ReasonSealingFailed = "SealingFailed"
	// ReasonSealed surfaces on TimelineSealed when it was done after all.
	ReasonSealed = "Sealed"

	// ReasonDrifted surfaces on Contained, Eradicated and Recovered while an effect that
	// must stand is lost, and on ContainmentDrifted when one was lost three times.
	ReasonDrifted = "Drifted"
	// ReasonNotWatched surfaces on ContainmentDrifted, as 'Unknown', when nobody can look
	// whether the effects still stand.
	ReasonNotWatched = "NotWatched"
	// ReasonHolding surfaces on ContainmentDrifted when the effects stand again.
	ReasonHolding = "Holding"

	// ReasonInProgress surfaces when the phase's steps are being done.
	ReasonInProgress = "InProgress"
	// ReasonStepsDone surfaces when all steps of the phase are done.
	ReasonStepsDone = "StepsDone"
	// ReasonNoSteps surfaces when the playbook has no steps for the phase.
	ReasonNoSteps = "NoSteps"
	// ReasonNoTargets surfaces on Contained when no object was there to contain.
	ReasonNoTargets = "NoTargets"
	// ReasonStepSkipped surfaces when a step of the phase was skipped, failed and was
	// passed over, or had no effect: the phase is over, but its goal is not shown.
	ReasonStepSkipped = "StepSkipped"
	// ReasonNotVerified surfaces on Recovered when no verify step and no task has shown
	// that normal operation is back.
	ReasonNotVerified = "NotVerified"
	// ReasonNewTarget surfaces when an event has added an object that is not dealt with yet.
	ReasonNewTarget = "NewTarget"
	// ReasonDryRun surfaces when steps of the phase were only tried, as all are in a drill.
	ReasonDryRun = "DryRun"
	// ReasonReverted surfaces when a false positive's effects were undone.
	ReasonReverted = "Reverted"
	// ReasonByPerson surfaces when a person's Decision made it so.
	ReasonByPerson = "ByPerson"
	// ReasonWaiting surfaces when the turn has not come.
	ReasonWaiting = "Waiting"
	// ReasonLessonDrafted surfaces on Reviewed when the lesson was drafted.
	ReasonLessonDrafted = "LessonDrafted"

	// ReasonPlaybookNotFound surfaces on Stalled when there is no such playbook.
	ReasonPlaybookNotFound = "PlaybookNotFound"
	// ReasonPlaybookNotReady surfaces on Stalled when the playbook does not compile.
	ReasonPlaybookNotReady = "PlaybookNotReady"
	// ReasonNoPlaybook surfaces on Stalled when the incident names no playbook: people answer by hand.
	ReasonNoPlaybook = "NoPlaybook"
	// ReasonStepFailed surfaces on Stalled when a step failed and a person must decide.
	ReasonStepFailed = "StepFailed"
	// ReasonOverdue surfaces on Stalled when people have not answered in time.
	ReasonOverdue = "Overdue"
	// ReasonPaused surfaces on Stalled when a person or the plan has stopped the automation.
	ReasonPaused = "Paused"
	// ReasonCannotImpersonate surfaces on Stalled when the namespace does not let the
	// manager act as the playbook's ServiceAccount.
	ReasonCannotImpersonate = "CannotImpersonate"
	// ReasonNotStalled surfaces on Stalled when nothing is missing.
	ReasonNotStalled = "NotStalled"
)

// Conditions of Decisions.
const (
	// ConditionAccepted says whether the Decision took effect.
	ConditionAccepted = "Accepted"

	// ReasonAccepted surfaces when it took effect.
	ReasonAccepted = "Accepted"
	// ReasonSubjectNotFound surfaces when there is no such subject.
	ReasonSubjectNotFound = "SubjectNotFound"
	// ReasonNotGuarded surfaces when the admission policies did not stand when the Decision
	// was created, or may not have, so that nobody can tell who created it.
	ReasonNotGuarded = "NotGuarded"
	// ReasonNoSuchRole surfaces when the plan does not have the role, or there is no plan.
	ReasonNoSuchRole = "NoSuchRole"
	// ReasonNotInRole surfaces when the person does not hold the role.
	ReasonNotInRole = "NotInRole"
	// ReasonNoSuchEvent surfaces when the event does not belong to the incident.
	ReasonNoSuchEvent = "NoSuchEvent"
	// ReasonNoSuchIncident surfaces when there is no incident that the Decision refers to.
	ReasonNoSuchIncident = "NoSuchIncident"
	// ReasonOtherMode surfaces when a drill and the real thing would be mixed.
	ReasonOtherMode = "OtherMode"
	// ReasonNoSuchStep surfaces when the incident has no such step.
	ReasonNoSuchStep = "NoSuchStep"
	// ReasonNotAwaited surfaces when the step does not wait for this.
	ReasonNotAwaited = "NotAwaited"
	// ReasonStale surfaces when the approval was given for something else than what
	// would be done now.
	ReasonStale = "Stale"
	// ReasonAlreadyDecided surfaces when there is nothing left to decide.
	ReasonAlreadyDecided = "AlreadyDecided"
	// ReasonNotAllowed surfaces when the playbook does not allow what was asked for.
	ReasonNotAllowed = "NotAllowed"
	// ReasonInvalid surfaces when what was asked for cannot be; the message says what must be.
	ReasonInvalid = "Invalid"
	// ReasonHadEffect surfaces when the playbook cannot be replaced any more.
	ReasonHadEffect = "HadEffect"
	// ReasonSamePerson surfaces when another person must approve.
	ReasonSamePerson = "SamePerson"
	// ReasonGateOpen surfaces when the incident cannot be closed yet; the message lists why.
	ReasonGateOpen = "GateOpen"
	// ReasonClosed surfaces when the incident is closed.
	ReasonClosed = "IncidentClosed"
)

// Conditions of Evidence and LessonsLearned.
const (
	// ConditionStored says whether the bytes are in the store under their digest.
	ConditionStored = "Stored"
	// ReasonDigestMatches surfaces on Stored when the bytes were written and read back.
	ReasonDigestMatches = "DigestMatches"
	// ReasonMissing surfaces on Stored when the bytes are not in the store.
	ReasonMissing = "Missing"

	// ConditionMeasured says whether the measures were taken from the incidents' records.
	ConditionMeasured = "Measured"
	// ReasonFromIncidents surfaces on Measured when they were.
	ReasonFromIncidents = "FromIncidents"
	// ReasonIncidentNotFound surfaces on Measured when an incident is not there.
	ReasonIncidentNotFound = "IncidentNotFound"
)

// Labels.
const (
	// LabelDomain on a Namespace makes it a response domain, together with the binding
	// to the ClusterRole 'firebreak-impersonator'.
	LabelDomain = "firebreak.dev/domain"
	// LabelProtected with the value 'true' on a Namespace protects it: playbooks act
	// there only after an approval.
	LabelProtected = "firebreak.dev/protected"
	// LabelCorrelation on an Incident is the hash of the mode, policy, rule and key it was opened for.
	LabelCorrelation = "firebreak.dev/correlation"
	// LabelCorrelationSequence on an Incident counts the incidents of one correlation.
	LabelCorrelationSequence = "firebreak.dev/correlation-sequence"
	// LabelIncident names the incident an object was made for.
	LabelIncident = "firebreak.dev/incident"
	// LabelJournal with the value 'retention' is on Evidence of type RetentionJournal.
	LabelJournal = "firebreak.dev/journal"
)

// Names in the cluster.
const (
	// SystemNamespace is the namespace of the manager and the receiver.
	SystemNamespace = "firebreak-system"
	// ManagerServiceAccount is the manager's ServiceAccount.
	ManagerServiceAccount = "firebreak-manager"
	// ReceiverServiceAccount is the receiver's ServiceAccount.
	ReceiverServiceAccount = "firebreak-receiver"
	// ImpersonatorClusterRole is the ClusterRole that a domain binds to the manager.
	ImpersonatorClusterRole = "firebreak-impersonator"
	// ReceiverAudience is the audience a sender's token must have.
	ReceiverAudience = "firebreak-receiver"
)
