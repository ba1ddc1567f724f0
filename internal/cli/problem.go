package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

const (
	deniedRequest = "denied request: "
	askForRole    = "Ask whoever runs Firebreak here for the ClusterRole firebreak-responder or firebreak-incident-manager."
)

// explain says in plain words what the API server or the way to it has against doing
// something. What is to be done completes 'cannot …', such as 'read the incidents'.
func explain(err error, doing string) error {
	var f *failure
	if errors.As(err, &f) {
		return err
	}
	if errors.Is(err, context.Canceled) {
		return &failure{code: ExitError, message: "interrupted: nothing was done", cause: err}
	}
	message, hint := err.Error(), ""
	switch {
	case apierrors.IsUnauthorized(err):
		message, hint = "the API server does not know you", "Log in again, or check the user of your kubeconfig: kubectl auth whoami"
	case isMissingKind(err):
		message, hint = "the API server does not know Firebreak's kinds", "Firebreak is not installed in this cluster, or this is the wrong cluster: kubectl config current-context"
	case apierrors.IsForbidden(err) && !strings.Contains(message, deniedRequest):
		message, hint = "you are not permitted to ("+message+")", "Who you are: kubectl auth whoami. What you need: the ClusterRole firebreak-responder, or firebreak-viewer to look"
	case utilnet.IsConnectionRefused(err), utilnet.IsTimeout(err), utilnet.IsConnectionReset(err):
		message, hint = "the API server does not answer ("+message+")", "Check the network, and that this is the right cluster: kubectl config current-context"
	}
	return &failure{code: ExitError, message: fmt.Sprintf("cannot %s: %s", doing, message), hints: []string{hint}, cause: err}
}

// isMissingKind tells a kind that is not served from an object that is not there.
func isMissingKind(err error) bool {
	if !apierrors.IsNotFound(err) {
		return false
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	details := status.Status().Details
	if details == nil {
		return true
	}
	for _, cause := range details.Causes {
		if cause.Type == metav1.CauseTypeUnexpectedServerResponse {
			return true
		}
	}
	return details.Name == ""
}

// refusal is why the API server did not take a Decision, in plain words. It gives nil
// when the request failed for another reason.
func refusal(err error, namespace string) error {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) {
		return nil
	}
	message := err.Error()
	refused := &failure{code: ExitRefused, cause: err}
	if at := strings.LastIndex(message, deniedRequest); at >= 0 {
		refused.message = "Refused: " + message[at+len(deniedRequest):]
		refused.hints = []string{"No Decision was created."}
		if strings.Contains(message, "RBAC verb") {
			refused.hints = []string{"No Decision was created. " + askForRole}
		}
		return refused
	}
	if apierrors.IsInvalid(err) {
		refused.message = "Refused: " + strings.Join(causes(status.Status(), message), "; ")
		refused.hints = []string{"No Decision was created."}
		return refused
	}
	refused.message = fmt.Sprintf("Refused: you are not permitted to create Decisions in the namespace %s.", namespace)
	refused.hints = []string{
		"No Decision was created. The API server says: " + message,
		askForRole,
	}
	return refused
}

// causes are what is wrong with an object, without the object's name and kind before it.
func causes(status metav1.Status, otherwise string) []string {
	if status.Details == nil {
		return []string{otherwise}
	}
	var all []string
	for _, cause := range status.Details.Causes {
		text := cause.Message
		if _, after, found := strings.Cut(text, "Invalid value: "); found {
			// What was sent is known to who sent it; the rule comes after the value.
			if _, rule, found := strings.Cut(after, ": "); found {
				text = rule
			}
		}
		if cause.Field != "" && cause.Field != "spec" {
			text = cause.Field + ": " + text
		}
		all = append(all, text)
	}
	if len(all) == 0 {
		return []string{otherwise}
	}
	return all
}
