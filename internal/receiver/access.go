package receiver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/util/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"golang.org/x/sync/singleflight"
	"k8s.io/utils/clock"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// allowedFor and refusedFor are how long an answer of the API server about a
	// sender is taken for true.
	allowedFor = 10 * time.Second
	refusedFor = time.Second
	// unauthenticatedFor is longer: a token that is nobody's will hardly become somebody's.
	unauthenticatedFor = 10 * time.Second

	// knownFor is how long a credential is no stranger's after it was last allowed.
	knownFor = time.Hour

	maxRemembered = 4096
	reviewTimeout = 5 * time.Second
	// reviewPatience is how long an answer of the API server is waited for where an earlier one
	// still holds. It counts as soon as it is there.
	reviewPatience = 200 * time.Millisecond

	anonymousUser        = "system:anonymous"
	unauthenticatedGroup = "system:unauthenticated"
	serviceAccountPrefix = "system:serviceaccount:"
)

// gatekeeper says who a sender is and whether that user may report to a namespace.
type gatekeeper struct {
	client        client.Client
	allowUnscoped bool
	remembered    *cache.LRUExpireCache
	flights       singleflight.Group
	// allowed are the credentials, with namespaces, that were allowed of late, with their users.
	allowed      *cache.LRUExpireCache
	strangers    *strangers
	availability *availability
	// allows are the earlier answers, for when the API server is away; nil is none.
	allows *allows
	// authorities are who may sign certificates of senders; nil is nobody.
	authorities *authorities
	// timeout is how long the API server is waited for.
	timeout time.Duration
}

// verdict is an answer about a sender: the user's name, or why not.
type verdict struct {
	user    string
	problem *Problem
}

// newGatekeeper makes a gatekeeper with whom at most so many requests wait whose credentials
// were never allowed.
func newGatekeeper(c client.Client, allowUnscoped bool, clock clock.Clock, a *availability, mostStrangers int) *gatekeeper {
	return &gatekeeper{
		client: c, allowUnscoped: allowUnscoped, remembered: cache.NewLRUExpireCacheWithClock(maxRemembered, clock),
		allowed:   cache.NewLRUExpireCacheWithClock(maxRemembered, clock),
		strangers: newStrangers(clock, mostStrangers), availability: a, timeout: reviewTimeout,
	}
}

// admit names the authenticated user behind a credential who may report to the namespace. One that
// is not known waits apart, together with all others of the same credential.
func (g *gatekeeper) admit(ctx context.Context, c *credential, namespace string, known bool) (string, error) {
	key := c.key(namespace)
	if remembered, ok := g.remembered.Get(key); ok {
		return remembered.(verdict).answer()
	}
	if g.availability.away.Load() {
		if user, ok := g.stale(c, key); ok {
			return user, nil
		}
	}
	var unknown *stranger
	if !known {
		if unknown = g.strangers.enter(c.address); unknown == nil {
			return "", tooManyStrangers()
		}
		defer unknown.leave()
	}
	flight := g.flights.DoChan(key, func() (any, error) {
		if remembered, ok := g.remembered.Get(key); ok {
			return remembered, nil // the flight before has just landed
		}
		// Others wait for this answer too, so one sender's hanging up does not end it.
		return g.ask(context.WithoutCancel(ctx), c, namespace, unknown)
	})
	landed, user := g.await(flight, c, key)
	switch err := landed.Err; {
	case user != "":
		return user, nil
	case err == nil:
		return landed.Val.(verdict).answer()
	case isProblem(err):
		return "", err
	default:
		if user, ok := g.stale(c, key); ok && unreachable(err) {
			return user, nil
		}
		return "", unavailable("The Kubernetes API server could not say whether the sender may report: " + err.Error())
	}
}

// ask asks the API server, about a stranger only if there is not too much to ask about strangers.
func (g *gatekeeper) ask(ctx context.Context, c *credential, namespace string, unknown *stranger) (v verdict, err error) {
	if unknown != nil {
		waiting, cancel := context.WithTimeout(ctx, g.timeout)
		defer cancel()
		if !unknown.ask(waiting) {
			return verdict{}, tooManyStrangers()
		}
		// Where that could not be said, it is not known to be nobody's.
		defer func() { unknown.told(err != nil || !v.nobody()) }()
	}
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	v, err = g.review(ctx, c, namespace)
	g.availability.note(reading, err)
	if err == nil {
		g.remember(c, c.key(namespace), v)
	}
	return v, err
}

// await waits for an answer of the API server, or gives the user for whom an earlier one holds, when
// the API server is slow, as it is in a flood of somebody else.
func (g *gatekeeper) await(flight <-chan singleflight.Result, c *credential, key string) (landed singleflight.Result, user string) {
	if _, ok := g.stale(c, key); ok {
		timer := time.NewTimer(reviewPatience)
		defer timer.Stop()
		select {
		case landed = <-flight:
			return landed, ""
		case <-timer.C:
			if user, ok := g.stale(c, key); ok { // it may just have been taken back
				return landed, user
			}
		}
	}
	return <-flight, ""
}

// knows says whether a credential was allowed of late to report to a namespace, and as which user.
func (g *gatekeeper) knows(c *credential, namespace string) (user string, known bool) {
	key := c.key(namespace)
	if user, known := g.allowed.Get(key); known {
		return user.(string), true
	}
	return g.allows.get(key)
}

func (g *gatekeeper) remember(c *credential, key string, v verdict) {
	switch {
	case v.problem == nil:
		g.remembered.Add(key, v, allowedFor)
		g.allowed.Add(key, v.user, knownFor)
		g.strangers.befriend(c.address)
		g.allows.add(key, v.user, c.expires())
	case v.nobody():
		g.remembered.Add(key, v, unauthenticatedFor)
	default:
		g.remembered.Add(key, v, refusedFor)
	}
	if v.problem != nil {
		g.allowed.Remove(key)
		g.allows.remove(key)
	}
}

// stale is an earlier answer that still holds while the API server is away or slow.
func (g *gatekeeper) stale(c *credential, key string) (user string, ok bool) {
	if c.certificate != nil && g.authorities.verify(c.certificate, c.intermediates) != nil {
		return "", false
	}
	return g.allows.get(key)
}

// nobody says that a credential is nobody's.
func (v verdict) nobody() bool {
	return v.problem != nil && v.problem.Status == http.StatusUnauthorized
}

func (v verdict) answer() (string, error) {
	if v.problem != nil {
		refused := *v.problem
		return v.user, &refused
	}
	return v.user, nil
}

func (g *gatekeeper) review(ctx context.Context, c *credential, namespace string) (verdict, error) {
	user, problem, err := g.authenticate(ctx, c)
	if err != nil || problem != nil {
		return verdict{problem: problem}, err
	}
	problem, err = g.authorize(ctx, user, namespace)
	return verdict{user: user.Username, problem: problem}, err
}

func (g *gatekeeper) authenticate(ctx context.Context, c *credential) (*authenticationv1.UserInfo, *Problem, error) {
	if c.certificate != nil {
		user, problem := g.authorities.user(c)
		return user, problem, nil
	}
	token := c.token
	status, err := g.tokenReview(ctx, token, []string{v1alpha1.ReceiverAudience})
	if err != nil {
		return nil, nil, err
	}
	scoped := status.Authenticated && slices.Contains(status.Audiences, v1alpha1.ReceiverAudience)
	if !scoped && g.allowUnscoped {
		if status, err = g.tokenReview(ctx, token, nil); err != nil {
			return nil, nil, err
		}
		scoped = status.Authenticated
	}
	switch user := &status.User; {
	case !scoped:
		return nil, unauthenticated("The bearer token must be valid and have the audience '" + v1alpha1.ReceiverAudience +
			"'; `kubectl create token SERVICEACCOUNT -n NAMESPACE --audience=" + v1alpha1.ReceiverAudience + "` makes one."), nil
	case user.Username == "", user.Username == anonymousUser, slices.Contains(user.Groups, unauthenticatedGroup):
		return nil, unauthenticated("The sender must not be anonymous."), nil
	case utf8.RuneCountInString(user.Username) > maxName:
		return nil, unauthenticated(fmt.Sprintf("The sender's user name must be at most %d characters long.", maxName)), nil
	default:
		return user, nil, nil
	}
}

func (g *gatekeeper) tokenReview(ctx context.Context, token string, audiences []string) (*authenticationv1.TokenReviewStatus, error) {
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences}}
	if err := g.client.Create(ctx, review); err != nil {
		return nil, fmt.Errorf("creating a TokenReview: %w", err)
	}
	return &review.Status, nil
}

func (g *gatekeeper) authorize(ctx context.Context, user *authenticationv1.UserInfo, namespace string) (*Problem, error) {
	extra := make(map[string]authorizationv1.ExtraValue, len(user.Extra))
	for key, value := range user.Extra {
		extra[key] = authorizationv1.ExtraValue(value)
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, Groups: user.Groups, UID: user.UID, Extra: extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: namespace, Verb: "create",
			Group: v1alpha1.GroupName, Version: v1alpha1.SchemeGroupVersion.Version, Resource: "securityevents",
		},
	}}
	if err := g.client.Create(ctx, review); err != nil {
		return nil, fmt.Errorf("creating a SubjectAccessReview: %w", err)
	}
	if review.Status.Allowed {
		return nil, nil
	}
	return problemf(http.StatusForbidden, "forbidden", "The sender may not report to this namespace",
		"User '%s' must have the right to `create` `securityevents.%s` in namespace '%s'. Who may grant it types: %s",
		user.Username, v1alpha1.GroupName, namespace, grant(user.Username, namespace)), nil
}

// grant is the line that gives a user the right to report.
func grant(user, namespace string) string {
	subject := "--user=" + quote(user)
	if account, is := strings.CutPrefix(user, serviceAccountPrefix); is {
		subject = "--serviceaccount=" + quote(account)
	}
	return fmt.Sprintf("kubectl create role report-events -n %[1]s --verb=create --resource=securityevents.%[2]s;"+
		" kubectl create rolebinding report-events-%[3]s -n %[1]s --role=report-events %[4]s",
		namespace, v1alpha1.GroupName, digest(user)[:nameStep], subject)
}

func quote(word string) string {
	if !strings.ContainsFunc(word, func(r rune) bool {
		return r >= utf8.RuneSelf || !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:.@_-", r)
	}) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func unauthenticated(detail string) *Problem {
	return newProblem(http.StatusUnauthorized, "unauthenticated", "The sender is not authenticated", detail)
}

func asProblem(err error) *Problem {
	var problem *Problem
	if errors.As(err, &problem) {
		return problem
	}
	return unavailable(err.Error())
}
