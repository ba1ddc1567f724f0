package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"unicode"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// deniedVerb finds the verb in what the API server says when RBAC does not allow a request.
var deniedVerb = regexp.MustCompile(`cannot ([a-z]+) resource`)

// saysChanged says that a write came second.
const saysChanged = "it was changed at the same time"

// maxMessage is how many characters a message has at most.
const maxMessage = 1024

// access is one use of a right, to name the right when it is missing.
type access struct {
	verb      string
	group     string
	resource  string
	namespace string
	name      string
}

func (a access) String() string {
	if a.name == "" {
		return a.verb + " " + a.resource
	}
	return fmt.Sprintf("%s %s '%s'", a.verb, a.resource, a.name)
}

func done(format string, args ...any) lifecycle.Result {
	return lifecycle.Result{State: v1alpha1.TargetSucceeded, Message: say(format, args...)}
}

func applied(format string, args ...any) lifecycle.Result {
	return lifecycle.Result{State: v1alpha1.TargetApplied, Message: say(format, args...)}
}

func gone(format string, args ...any) lifecycle.Result {
	return lifecycle.Result{State: v1alpha1.TargetGone, Message: say(format, args...)}
}

// failed is a failure after which it is tried again.
func failed(format string, args ...any) lifecycle.Result {
	return lifecycle.Result{State: v1alpha1.TargetFailed, Message: say(format, args...)}
}

// refused is a failure that trying again cannot help.
func refused(format string, args ...any) lifecycle.Result {
	result := failed(format, args...)
	result.Permanent = true
	return result
}

func reverted(format string, args ...any) lifecycle.Result {
	return lifecycle.Result{State: v1alpha1.TargetReverted, Message: say(format, args...)}
}

// say makes a message. What others wrote cannot break lines or steer a terminal.
func say(format string, args ...any) string {
	return lifecycle.Cut(printable(fmt.Sprintf(format, args...)), maxMessage)
}

func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\r', r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return unicode.ReplacementChar
		default:
			return r
		}
	}, text)
}

// failure says why a request to the API server failed, and whether trying again can help.
func (r *Request) failure(err error, at access) lifecycle.Result {
	message, permanent := r.explain(err, at)
	result := failed("%s", message)
	result.Permanent, result.Unknown = permanent, true
	return result
}

// Passes says of an error that it may be over when it is tried again: the connection or
// the API server's own trouble, and not what was asked for.
func Passes(err error) bool {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		code := status.Status().Code
		return code >= http.StatusInternalServerError || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout
	}
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// explain says why a request to the API server failed, in words that name what to do,
// and whether it is in vain to try again.
func (r *Request) explain(err error, at access) (message string, permanent bool) {
	switch {
	case apierrors.IsForbidden(err):
		return r.explainForbidden(err, at), true
	case apierrors.IsNotFound(err):
		return fmt.Sprintf("could not %s: there is no such object: %v", at, err), false
	case apierrors.IsConflict(err):
		return fmt.Sprintf("could not %s: "+saysChanged, at), false
	case meta.IsNoMatchError(err), apierrors.IsMethodNotSupported(err):
		return fmt.Sprintf("could not %s: the API server does not serve that: %v", at, err), true
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return fmt.Sprintf("could not %s: the API server has refused it: %v", at, err), true
	case errors.Is(err, context.DeadlineExceeded), apierrors.IsTimeout(err), apierrors.IsServerTimeout(err):
		return fmt.Sprintf("could not %s: no answer in time", at), false
	default:
		return fmt.Sprintf("could not %s: %v", at, err), false
	}
}

func (r *Request) explainForbidden(err error, at access) string {
	text := err.Error()
	switch {
	case strings.Contains(text, "cannot impersonate"):
		return fmt.Sprintf("Firebreak may not act as %s: the namespace must hold a RoleBinding of the ClusterRole '%s' to ServiceAccount '%s/%s', as 'kubectl firebreak init' makes it",
			r.ActingAs, v1alpha1.ImpersonatorClusterRole, v1alpha1.SystemNamespace, v1alpha1.ManagerServiceAccount)
	case !deniedVerb.MatchString(text):
		// An admission plugin, a quota or a namespace that is going away.
		return fmt.Sprintf("%s was refused when it wanted to %s%s: %s", r.ActingAs, at, inNamespace(at.namespace), text)
	}
	// A server-side apply needs 'patch', and 'create' when the object is not there.
	at.verb = deniedVerb.FindStringSubmatch(text)[1]
	grant := fmt.Sprintf("'%s' on '%s' (API group '%s')", at.verb, at.resource, at.group)
	if at.namespace == "" {
		return fmt.Sprintf("%s may not %s %s: grant it %s by a ClusterRole and a ClusterRoleBinding", r.ActingAs, at.verb, at.resource, grant)
	}
	return fmt.Sprintf("%s may not %s %s in namespace '%s': grant it %s there by a RoleBinding", r.ActingAs, at.verb, at.resource, at.namespace, grant)
}

func inNamespace(namespace string) string {
	if namespace == "" {
		return ""
	}
	return fmt.Sprintf(" in namespace '%s'", namespace)
}
