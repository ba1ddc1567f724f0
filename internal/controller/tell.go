package controller

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
	"github.com/firebreak-dev/firebreak/internal/classify"
)

// told is what a Kubernetes Event says about an object.
type told struct {
	kind, namespace, name    string
	uid                      types.UID
	action, reason, severity string
	note                     string
	at                       time.Time
	// prefix and apart set it apart from other Events about the object.
	prefix string
	apart  []string
}

// tell creates a Kubernetes Event. Its name follows from the object and what sets this apart
// from other Events about it, so that another try finds it.
func tell(ctx context.Context, writer client.Writer, what *told) error {
	hash := sha256.New()
	for _, text := range append([]string{string(what.uid)}, what.apart...) {
		_, _ = hash.Write([]byte(text))
	}
	// A name has at most 253 characters, and its parts end in a letter or a digit.
	name := strings.TrimRight(what.name[:min(len(what.name), 200)], ".-") + "." + what.prefix + "-" + hex.EncodeToString(hash.Sum(nil)[:8])
	err := writer.Create(ctx, &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: what.namespace, Name: name},
		EventTime:           metav1.NewMicroTime(what.at),
		ReportingController: audit.Controller,
		ReportingInstance:   audit.Controller,
		Action:              what.action,
		Reason:              what.reason,
		Type:                what.severity,
		Note:                classify.Line(what.note, 1000),
		Regarding: corev1.ObjectReference{
			APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: what.kind, Namespace: what.namespace, Name: what.name, UID: what.uid,
		},
	})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("tell of %s %q that it is %s: %w", what.kind, what.name, what.reason, err)
	}
	return nil
}

// tellChange tells that a condition is false, and why, or is so no more. It is for before the
// status is written: what finds that done does not come here again. Where no Event may be
// made, as by a quota, that is logged: the condition says the same.
func tellChange(ctx context.Context, writer client.Writer, what told, before *metav1.Condition, now metav1.Condition) error {
	holds := now.Status == metav1.ConditionTrue
	if before == nil {
		if holds {
			return nil
		}
		before = &metav1.Condition{}
	}
	if before.Status == now.Status && before.Reason == now.Reason && (holds || before.Message == now.Message) {
		return nil
	}
	what.reason, what.severity, what.note = now.Reason, corev1.EventTypeWarning, now.Message
	if holds {
		what.severity = corev1.EventTypeNormal
		what.note = fmt.Sprintf("%s is true again (%s); before it was %s: %s", now.Type, now.Reason, before.Reason, before.Message)
	}
	what.prefix = strings.ToLower(now.Type)
	what.apart = []string{before.LastTransitionTime.UTC().Format(time.RFC3339), before.Message, now.Reason, now.Message}
	err := tell(ctx, writer, &what)
	if apierrors.IsForbidden(err) {
		log.FromContext(ctx).Error(err, "not told that a condition has changed", "kind", what.kind, "namespace", what.namespace, "name", what.name, "condition", now.Type)
		return nil
	}
	return err
}
