package receiver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	auditProduct = "kubernetes-audit"

	// maxAuditValues is how many values may be read of one body, and maxEventValues of one event.
	maxAuditValues, maxEventValues = 1 << 19, 1 << 14

	auditStarted  = "ResponseStarted"
	auditComplete = "ResponseComplete"
	auditPanic    = "Panic"

	// What a token of a pod says of itself, in the API server's own words: no client can set it.
	podNameExtra = "authentication.kubernetes.io/pod-name"
	podUIDExtra  = "authentication.kubernetes.io/pod-uid"

	decisionAnnotation = "authorization.k8s.io/decision"
	reasonAnnotation   = "authorization.k8s.io/reason"

	// ownGroup is the group of the manager's and the receiver's accounts. What they write
	// is never an event, or each event would be the reason for another.
	ownGroup = "system:serviceaccounts:" + v1alpha1.SystemNamespace
	ownUsers = "system:serviceaccount:" + v1alpha1.SystemNamespace + ":"
)

// auditFields are all that is read of an event. The objects of the request and of the answer are
// not among them: whoever may create an object decides what is in these, and how deep.
var auditFields = []string{
	"user", "impersonatedUser", "objectRef", "responseStatus", "verb", "stage", "requestURI", "auditID", "userAgent",
	"annotations", "sourceIPs", "requestReceivedTimestamp",
}

// auditFormat is the body of the API server's audit webhook: a stream of requests, of
// which only those that a rule selects are alerts.
type auditFormat struct {
	rules []AuditRule
}

// auditEvent is one stage of one request.
type auditEvent struct {
	user                                string
	groups                              []string
	verb, stage, uri, id, agent, origin string
	group, version, resource, sub       string
	namespace, name, uid                string
	pod, podUID                         string
	decision, reason, impersonated      string
	code                                int64
	received                            time.Time
	isResource                          bool
}

func (f auditFormat) parse(r report) (parsed, error) {
	if len(f.rules) == 0 {
		return parsed{}, newProblem(http.StatusNotFound, "no-audit-rules", "The receiver has no rules for audit events",
			"The receiver must be started with --formats-file, a file whose `audit.rules` select the requests that are alerts; "+
				"config/samples/senders/formats.yaml is one to begin from.")
	}
	items, err := auditItems(r.body)
	if err != nil {
		return parsed{}, err
	}
	all, left := batch{product: auditProduct}, maxAuditValues
	seen := map[string]bool{}
	err = each(items, "/items", func(raw json.RawMessage, pointer string) error {
		e, err := readAudit(raw, pointer, &left)
		if err != nil {
			return all.takeWorst(alert{}, pointer, err)
		}
		rule, why := f.selects(e)
		if why == "" && seen[rule.Name+"\x00"+e.id] && e.id != "" {
			why = "another stage of the same request"
		}
		if why != "" {
			all.skip(1, why)
			return nil
		}
		seen[rule.Name+"\x00"+e.id] = true
		a := e.alert(r, rule, raw)
		if e.id != "" {
			// Other stages come later, and a batch whose answer was lost comes again.
			a.delivery = digest(rule.Name, e.id)
		}
		return all.takeWorst(a, pointer, nil)
	})
	if err != nil {
		return parsed{}, err
	}
	all.tell(r.truncatedAudit)
	return all.finish(true)
}

// auditItems are the events of the list, each unchecked: what is wrong with one is said of it alone.
func auditItems(body []byte) ([]json.RawMessage, error) {
	o, err := outline(body, "", "kind", "items")
	if err != nil {
		return nil, err
	}
	kind, err := o.text("kind")
	if err != nil {
		return nil, err
	}
	const want = "'EventList' of audit.k8s.io/v1, with `items`, as the API server's --audit-webhook-config-file sends it"
	if kind != "EventList" && kind != "" {
		return nil, fieldProblem("/kind", "must be "+want)
	}
	if _, there := o.fields["items"]; !there {
		return nil, fieldProblem("/items", "must be there: the body must be an "+want)
	}
	return o.outlineList("items")
}

// truncatedAudit is the event by which somebody hears of requests that had no room.
func (r report) truncatedAudit(count int) alert {
	d := r.draft(auditProduct, ruleTruncated, r.body)
	d.texts(fmt.Sprintf("%d audit events of one batch were left out", count),
		fmt.Sprintf("Of one batch, at most %d audit events are recorded, of more the %d that are worst. Let the rules of --formats-file select less, "+
			"or the API server send smaller batches: `--audit-webhook-batch-max-size=%d`.", maxBatch, maxBatch/2, maxBatch))
	d.spec.Severity = v1alpha1.SeverityMedium
	d.observed(time.Time{})
	d.attributes.add("audit.leftOut", itoa(count))
	a := d.finish("truncated")
	a.delivery = digest(ruleTruncated, a.spec.RawDataHash)
	return a
}

// selects is the rule that makes an alert of a request, or why none does.
func (f auditFormat) selects(e *auditEvent) (rule *AuditRule, why string) {
	if strings.HasPrefix(e.user, ownUsers) || slices.Contains(e.groups, ownGroup) {
		return nil, "Firebreak's own request"
	}
	for i := range f.rules {
		if rule := &f.rules[i]; rule.matches(e) {
			if rule.Ignore {
				return nil, "a request that a rule ignores"
			}
			return rule, ""
		}
	}
	return nil, "a request that no rule selects"
}

// readAudit reads an event, whose values are taken from those that are left.
func readAudit(raw []byte, pointer string, left *int) (*auditEvent, error) {
	o, err := outline(raw, pointer, auditFields...)
	if err != nil {
		return nil, err
	}
	values, err := o.checked(min(*left, maxEventValues))
	if err != nil {
		return nil, err
	}
	*left -= values
	inner := map[string]object{}
	for _, key := range []string{"user", "impersonatedUser", "objectRef", "responseStatus"} {
		if inner[key], err = o.object(key); err != nil {
			return nil, err
		}
	}
	e := &auditEvent{isResource: o.there("objectRef")}
	target := inner["objectRef"]
	for _, field := range []struct {
		in   object
		key  string
		into *string
	}{
		{inner["user"], "username", &e.user}, {inner["impersonatedUser"], "username", &e.impersonated},
		{o, "verb", &e.verb}, {o, "stage", &e.stage}, {o, "requestURI", &e.uri}, {o, "auditID", &e.id}, {o, "userAgent", &e.agent},
		{target, "apiGroup", &e.group}, {target, "apiVersion", &e.version}, {target, "resource", &e.resource}, {target, "subresource", &e.sub},
		{target, "namespace", &e.namespace}, {target, "name", &e.name}, {target, "uid", &e.uid},
	} {
		if *field.into, err = field.in.text(field.key); err != nil {
			return nil, err
		}
	}
	if e.groups, err = inner["user"].texts("groups"); err != nil {
		return nil, err
	}
	if e.code, err = inner["responseStatus"].integer("code"); err != nil {
		return nil, err
	}
	if err := e.readPod(inner["user"]); err != nil {
		return nil, err
	}
	if err := e.readRest(o); err != nil {
		return nil, err
	}
	return e, nil
}

// readPod reads which pod a ServiceAccount's token was given to, where it is of a pod.
func (e *auditEvent) readPod(user object) error {
	extra, err := user.object("extra")
	if err != nil {
		return err
	}
	for key, into := range map[string]*string{podNameExtra: &e.pod, podUIDExtra: &e.podUID} {
		values, err := extra.texts(key)
		if err != nil {
			return err
		}
		if len(values) == 1 {
			*into = values[0]
		}
	}
	return nil
}

func (e *auditEvent) readRest(o object) error {
	annotations, err := o.stringMap("annotations")
	if err != nil {
		return err
	}
	e.decision, e.reason = annotations[decisionAnnotation], annotations[reasonAnnotation]
	sources, err := o.texts("sourceIPs")
	if err != nil {
		return err
	}
	if len(sources) > 0 {
		e.origin = sources[len(sources)-1] // the others are what the client says
	}
	e.received, err = o.time("requestReceivedTimestamp")
	return err
}

// what is the resource of the request as rules name it, such as 'pods/exec'.
func (e *auditEvent) what() string {
	if e.sub == "" {
		return e.resource
	}
	return e.resource + "/" + e.sub
}

func (e *auditEvent) alert(r report, rule *AuditRule, raw []byte) alert {
	d := r.draft(auditProduct, rule.Name, raw)
	subject := strings.TrimSpace(e.what() + " " + strings.Trim(e.namespace+"/"+e.name, "/"))
	if !e.isResource {
		subject, _, _ = strings.Cut(e.uri, "?")
	}
	d.texts(first(rule.Title, e.verb+" "+subject)+" by "+first(e.user, "an unknown user"), "")
	d.spec.Severity = rule.Severity
	d.observed(e.received)
	d.resource(v1alpha1.ResourceReference{
		APIVersion: kubernetesKinds[e.resource].APIVersion, Kind: kubernetesKinds[e.resource].Kind,
		Namespace: e.namespace, Name: e.name, UID: v1alpha1.ObjectUID(e.uid),
	})
	if account, is := strings.CutPrefix(e.user, serviceAccountPrefix); is {
		namespace, name, _ := strings.Cut(account, ":")
		d.resource(v1alpha1.ResourceReference{Kind: "ServiceAccount", Namespace: namespace, Name: name})
		d.resource(v1alpha1.ResourceReference{Kind: "Pod", Namespace: namespace, Name: e.pod, UID: v1alpha1.ObjectUID(e.podUID)})
	} else {
		d.asset(assetAccount, e.user, "")
	}
	for _, attack := range rule.Attacks {
		d.attack(attack.Tactic, attack.Technique)
	}
	for _, fact := range [][2]string{
		{"user", e.user}, {"impersonatedUser", e.impersonated}, {"groups", strings.Join(e.groups, ",")}, {"verb", e.verb},
		{"apiGroup", e.group}, {"resource", e.what()}, {"namespace", e.namespace}, {"name", e.name},
		{"decision", e.decision}, {"reason", e.reason}, {"sourceIP", e.origin}, {"userAgent", e.agent},
		{"requestURI", e.uri}, {"stage", e.stage}, {"auditID", e.id},
	} {
		d.attributes.add("audit."+fact[0], fact[1])
	}
	if e.code != 0 {
		d.attributes.add("audit.code", itoa(int(e.code)))
	}
	parts := []string{e.user, e.impersonated, e.verb, e.group, e.what(), e.namespace, e.name, subject, e.decision}
	if e.pod != "" {
		parts = append(parts, e.pod, e.podUID)
	}
	return d.finish(parts...)
}
