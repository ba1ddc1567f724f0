package controller

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/expression"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// findPlaybook finds the playbook of that name, or says why it cannot run.
func (run *incidentRun) findPlaybook(ctx context.Context, incident *v1alpha1.Incident, name string) (*v1alpha1.ResponsePlaybook, *lifecycle.PlaybookProblem, error) {
	playbook := &v1alpha1.ResponsePlaybook{}
	err := run.Client.Get(ctx, types.NamespacedName{Namespace: incident.Namespace, Name: name}, playbook)
	if apierrors.IsNotFound(err) {
		return nil, &lifecycle.PlaybookProblem{Reason: v1alpha1.ReasonPlaybookNotFound, Message: fmt.Sprintf(
			"there is no ResponsePlaybook '%s' in namespace '%s': create it and the incident goes on by itself, or respond by hand and close", name, incident.Namespace)}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	err = expression.CheckPlaybook(&playbook.Spec)
	if err == nil {
		_, err = checkOrder(&playbook.Spec)
	}
	if err != nil {
		return nil, &lifecycle.PlaybookProblem{Reason: v1alpha1.ReasonPlaybookNotReady, Message: fmt.Sprintf(
			"ResponsePlaybook '%s' cannot run: %v; correct it and the incident goes on by itself, or respond by hand and close", name, err)}, nil
	}
	return playbook, nil, nil
}

// pin keeps the playbook's text as a ControllerRevision, owned by the incident: what is
// edited later does not touch a running incident.
func (run *incidentRun) pin(ctx context.Context, incident *v1alpha1.Incident, playbook *v1alpha1.ResponsePlaybook) (*v1alpha1.PinnedPlaybook, error) {
	raw, err := json.Marshal(playbook.Spec)
	if err != nil {
		return nil, fmt.Errorf("playbook %s: %w", playbook.Name, err)
	}
	revision := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: incident.Namespace, Name: revisionName(incident.Name, raw),
			Labels: map[string]string{v1alpha1.LabelIncident: incident.Name},
		},
		Data: runtime.RawExtension{Raw: raw}, Revision: playbook.Generation,
	}
	if err := controllerutil.SetControllerReference(incident, revision, run.Client.Scheme()); err != nil {
		return nil, err
	}
	pin := &v1alpha1.PinnedPlaybook{
		Name: playbook.Name, Generation: playbook.Generation, Revision: revision.Name, ServiceAccountName: playbook.Spec.ServiceAccountName,
	}
	if run.pinning == nil {
		run.pinning = map[string]<-chan error{}
	}
	// Nothing but the goroutine has the revision from here on: creating it writes to it.
	text, pinning := playbook.Spec.DeepCopy(), make(chan error, 1)
	go func() { pinning <- run.keep(ctx, client.ObjectKeyFromObject(incident), revision, text) }()
	run.pinning[pin.Revision] = pinning
	return pin, nil
}

// keep stores a pinned text.
func (r *IncidentReconciler) keep(ctx context.Context, incident types.NamespacedName, revision *appsv1.ControllerRevision, text *v1alpha1.ResponsePlaybookSpec) error {
	owner, key := metav1.GetControllerOf(revision), client.ObjectKeyFromObject(revision)
	err := r.Client.Create(ctx, revision)
	if err == nil {
		r.revisions.put(incident, key.Name, text)
		return nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("pinning a playbook as %s: %w", key.Name, err)
	}
	// One of a purged incident of the same name goes with that incident.
	there := &appsv1.ControllerRevision{}
	if err := r.Live.Get(ctx, key, there); err != nil {
		return fmt.Errorf("pinning a playbook as %s: %w", key.Name, err)
	}
	if of := metav1.GetControllerOf(there); of == nil || of.UID != owner.UID {
		return fmt.Errorf("pinning a playbook as %s: a ControllerRevision of that name belongs to another object; it must go first", key.Name)
	}
	return nil
}

// kept waits until the text that the status names is stored. Objects are looked at meanwhile.
// What a Decision offered and the incident did not take is nobody's to wait for.
func (run *incidentRun) kept() error {
	pinning, ok := run.pinning[run.incident.Status.Playbook.Revision]
	if !ok {
		return nil
	}
	delete(run.pinning, run.incident.Status.Playbook.Revision)
	return <-pinning
}

// revisionName ends in a hash of the text, so that a changed text shows.
func revisionName(incident string, raw []byte) string {
	sum := sha256.Sum256(raw)
	return incident + "-" + hex.EncodeToString(sum[:8])
}

// pinnedText reads the pinned text; nil when it is gone or not what was pinned.
func (r *IncidentReconciler) pinnedText(ctx context.Context, incident *v1alpha1.Incident) (*v1alpha1.ResponsePlaybookSpec, error) {
	key := client.ObjectKeyFromObject(incident)
	name := incident.Status.Playbook.Revision
	if known := r.revisions.get(key, name); known != nil {
		return known, nil
	}
	revision := &appsv1.ControllerRevision{}
	if err := r.Live.Get(ctx, types.NamespacedName{Namespace: incident.Namespace, Name: name}, revision); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	playbook := &v1alpha1.ResponsePlaybookSpec{}
	if err := json.Unmarshal(revision.Data.Raw, playbook); err != nil {
		return nil, nil //nolint:nilerr // unreadable is the same as changed: the caller tells the person
	}
	// The API server keeps the text as an object, in an order of its own.
	raw, err := json.Marshal(playbook)
	if err != nil || revisionName(incident.Name, raw) != name {
		return nil, err
	}
	r.revisions.put(key, name, playbook)
	return playbook, nil
}

// revisionCache keeps the pinned texts of open incidents.
type revisionCache struct {
	mu    sync.Mutex
	texts map[types.NamespacedName]pinnedText
}

type pinnedText struct {
	revision string
	playbook *v1alpha1.ResponsePlaybookSpec
}

func (c *revisionCache) get(key types.NamespacedName, revision string) *v1alpha1.ResponsePlaybookSpec {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.texts[key]; ok && known.revision == revision {
		return known.playbook
	}
	return nil
}

func (c *revisionCache) put(key types.NamespacedName, revision string, playbook *v1alpha1.ResponsePlaybookSpec) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.texts == nil {
		c.texts = map[types.NamespacedName]pinnedText{}
	}
	c.texts[key] = pinnedText{revision, playbook}
}

func (c *revisionCache) forget(key types.NamespacedName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.texts, key)
}

const (
	// lessonRetry is how soon a lesson that could not be created is tried again, and for how
	// long what may pass is not worth a person's time.
	lessonRetry = time.Minute
	// lessonAgain is how soon that is after what may pass.
	lessonAgain = 2 * time.Second
)

// draftLesson creates the LessonLearned of an incident that reached Review. That it cannot be
// created keeps nothing else from being done.
func (run *incidentRun) draftLesson(ctx context.Context) {
	lesson := &v1alpha1.LessonLearned{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: run.incident.Namespace, Name: lifecycle.LessonName(run.incident.Name),
			Labels: map[string]string{v1alpha1.LabelIncident: run.incident.Name},
		},
		Spec: lifecycle.DraftLesson(run.incident),
	}
	key := client.ObjectKeyFromObject(run.incident)
	err := run.Client.Create(ctx, lesson)
	if err == nil || apierrors.IsAlreadyExists(err) {
		run.lessonMade = true
		run.lessonless.Delete(key)
		return
	}
	log.FromContext(ctx).Error(err, "the lesson could not be drafted; it is tried again")
	run.lessonTried, run.waiting = true, lessonAgain
	since, _ := run.lessonless.LoadOrStore(key, run.Clock.Now())
	if first, ok := since.(time.Time); !action.Passes(err) && !apierrors.IsConflict(err) || ok && run.Clock.Since(first) >= lessonRetry {
		run.lessonProblem, run.waiting = err.Error(), lessonRetry
	}
}

// playbookReady says whether a playbook can run.
func playbookReady(playbook *v1alpha1.ResponsePlaybook) metav1.Condition {
	condition := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonCompiled, ObservedGeneration: playbook.Generation}
	if err := expression.CheckPlaybook(&playbook.Spec); err != nil {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, v1alpha1.ReasonExpressionError, lifecycle.Cut(err.Error(), 1024)
		var reference *expression.ReferenceError
		if asReference(err, &reference) {
			condition.Reason = v1alpha1.ReasonInvalidReference
		}
	} else if reason, err := checkOrder(&playbook.Spec); err != nil {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, reason, lifecycle.Cut(err.Error(), 1024)
	}
	return condition
}

// setReady sets a condition and says whether that changed anything.
func setReady(conditions *[]metav1.Condition, observed *int64, condition metav1.Condition) bool {
	changed := meta.SetStatusCondition(conditions, condition)
	if *observed != condition.ObservedGeneration {
		*observed = condition.ObservedGeneration
		changed = true
	}
	return changed
}
