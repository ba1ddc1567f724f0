package action_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// tellingWorld is a domain with a plan whose ServiceAccount 'reader' may read the Secret
// 'channels'. The playbook's may read none.
func tellingWorld(t *testing.T, data map[string]string) *world {
	t.Helper()
	w := domainWorld(t, []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{"playbooks-own"}, Verbs: []string{"get"}}})
	w.create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: w.domain, Name: "reader"}})
	w.create(&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: w.domain, Name: "reader"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{"channels", "absent"}, Verbs: []string{"get"}},
	}})
	w.create(&rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.domain, Name: "reader"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "reader"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: w.domain, Name: "reader"}},
	})
	w.secret("channels", data)
	w.secret("forbidden", data)
	reader := w.as("reader")
	w.eventually("the rights of the plan's ServiceAccount", func(ctx context.Context) bool {
		return reader.Get(ctx, client.ObjectKey{Namespace: w.domain, Name: "channels"}, &corev1.Secret{}) == nil
	})
	return w
}

// as acts as another ServiceAccount of the domain.
func (w *world) as(account string) client.Client {
	w.Helper()
	return w.impersonating(config, account)
}

func channel(name, secret, key string, tlp v1alpha1.TLP) v1alpha1.PlanChannel {
	return v1alpha1.PlanChannel{Name: v1alpha1.ChannelName(name), URLSecretKeyRef: v1alpha1.ChannelSecretReference{Name: secret, Key: key}, TLP: tlp}
}

// telling asks for a message to one channel.
func (w *world) telling(server *hook, name string, change ...func(*v1alpha1.NotifyAction)) *action.Request {
	w.Helper()
	step := &v1alpha1.PlaybookStep{Name: "tell", Notify: &v1alpha1.NotifyAction{Channels: []v1alpha1.ChannelName{v1alpha1.ChannelName(name)}}}
	for _, one := range change {
		one(step.Notify)
	}
	incident := w.incident("inc-1")
	incident.Spec.Title, incident.Spec.Severity, incident.Spec.TLP = "Shell in shop/cart", v1alpha1.SeverityHigh, v1alpha1.TLPAmber
	incident.Spec.Category = v1alpha1.CategoryIntrusion
	request := w.onIncident(incident, step)
	digest := sha256.Sum256([]byte("Channel/" + name))
	request.Target = v1alpha1.StepTarget{
		APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "Channel", Namespace: w.domain, Name: name, UID: v1alpha1.ObjectUID(hex.EncodeToString(digest[:])[:32]),
	}
	if !lifecycle.IsChannel(&request.Target) {
		w.Fatalf("%+v must be a channel", request.Target)
	}
	request.Plan = &v1alpha1.ResponsePlan{ObjectMeta: metav1.ObjectMeta{Namespace: w.domain, Name: v1alpha1.ResponsePlanName}}
	request.Plan.Spec.ServiceAccountName = "reader"
	request.Plan.Spec.Channels = []v1alpha1.PlanChannel{
		channel("chat", "channels", "chat", v1alpha1.TLPAmber), channel("green", "channels", "chat", v1alpha1.TLPGreen), channel("name", "channels", "name", v1alpha1.TLPRed),
		channel("elsewhere", "channels", "elsewhere", v1alpha1.TLPRed), channel("telegram", "channels", "telegram", v1alpha1.TLPRed), channel("plain", "channels", "plain", v1alpha1.TLPRed),
		channel("no-key", "channels", "none", v1alpha1.TLPRed), channel("no-secret", "absent", "url", v1alpha1.TLPRed), channel("forbidden", "forbidden", "chat", v1alpha1.TLPRed),
	}
	reader := w.as("reader")
	request.AsPlan = func(context.Context) (client.Client, string, error) {
		return reader, "system:serviceaccount:" + w.domain + ":reader", nil
	}
	request.Egress = server.egress(w.T, server.address(), "localhost:"+server.port())
	return request
}

func (h *hook) port() string { return h.address()[strings.LastIndex(h.address(), ":")+1:] }

func chatURLs(server *hook) map[string]string {
	return map[string]string{
		"chat":      "generic://u:s3cr3t@" + server.address() + "/hooks/s3cr3t?template=json&messagekey=text\n",
		"name":      "generic://localhost:" + server.port() + "/s3cr3t",
		"elsewhere": "generic://s3cr3t.example.org/x", "telegram": "telegram://s3cr3t@telegram?chats=1", "plain": "generic+http://s3cr3t.example.org/x",
	}
}

func TestNotifyTells(t *testing.T) {
	server := newHook(t)
	w := tellingWorld(t, chatURLs(server))
	request := w.telling(server, "chat", func(n *v1alpha1.NotifyAction) {
		n.Message = `"@everyone look at " + incident.title + " {{.}}\u001b[2J"`
	})
	result := do(t, "notify").Plan(t.Context(), request)
	w.expect("Plan", result, v1alpha1.TargetActing, "channel 'chat' (generic) will be told")
	if server.count() != 0 {
		t.Fatal("Plan must send nothing")
	}
	w.expect("Apply", do(t, "notify").Apply(t.Context(), request), v1alpha1.TargetSucceeded, "channel 'chat' (generic) was told")
	want := map[string]string{
		"title": "High: Shell in shop/cart",
		"text":  "＠everyone look at Shell in shop/cart {{.}}[2J\n\nIncident inc-1 in " + w.domain + ", step tell. TLP Amber.",
	}
	var got map[string]string
	if err := json.Unmarshal([]byte(server.bodies[0]), &got); err != nil || !cmp.Equal(want, got) {
		t.Errorf("message (-want +got): %v\n%s", err, cmp.Diff(want, got))
	}
	if sent := server.requests[0]; sent.URL.Path != "/hooks/s3cr3t" || sent.Header.Get("Authorization") == "" {
		t.Errorf("sent to %s with %v", sent.URL, sent.Header)
	}
	// Killed before it was on record: told again, and recognisable.
	w.expect("repeated Apply", do(t, "notify").Apply(t.Context(), request), v1alpha1.TargetSucceeded)
	request.Attempt = 2
	w.expect("another attempt", do(t, "notify").Apply(t.Context(), request), v1alpha1.TargetSucceeded)
	keys := make([]string, 0, 3)
	for _, one := range server.requests {
		keys = append(keys, one.Header.Get(action.HeaderIdempotencyKey))
	}
	if keys[0] == "" || keys[0] != keys[1] || keys[1] == keys[2] {
		t.Errorf("keys %q: the same for every try of one attempt, and only for them", keys)
	}
}

func TestNotifyDefaults(t *testing.T) {
	server := newHook(t)
	w := tellingWorld(t, chatURLs(server))
	request := w.telling(server, "chat")
	request.Incident.Status.Phase, request.Incident.Status.Severity = v1alpha1.PhaseContainment, v1alpha1.SeverityCritical
	for i := range 10 {
		resource := v1alpha1.IncidentResource{}
		resource.Kind, resource.Namespace, resource.Name = "Pod", "shop", fmt.Sprintf("cart-%d", i)
		request.Incident.Status.Resources = append(request.Incident.Status.Resources, resource)
	}
	request.DryRun = true
	w.expect("dry run", do(t, "notify").Apply(t.Context(), request), v1alpha1.TargetSucceeded, "channel 'chat' (generic) would be told: Critical: Shell in shop/cart")
	if server.count() != 0 {
		t.Fatal("a dry run must send nothing")
	}
	request.DryRun = false
	w.carryOut("notify", request)
	var got map[string]string
	if err := json.Unmarshal([]byte(server.bodies[0]), &got); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Intrusion, Containment\nPod shop/cart-0\n", "Pod shop/cart-7\nand 2 more\nkubectl firebreak show inc-1 -n " + w.domain + "\n"} {
		if !strings.Contains(got["text"], want) {
			t.Errorf("text %q must have %q", got["text"], want)
		}
	}
	w.expect("Undo", do(t, "notify").Undo(t.Context(), request), v1alpha1.TargetFailed, "cannot be undone")
}

// TestNotifyRefuses tells nobody who must not be told, and says nothing of a URL.
func TestNotifyRefuses(t *testing.T) {
	server := newHook(t)
	w := tellingWorld(t, chatURLs(server))
	noAccount := errors.New("the namespace must bind the ClusterRole 'firebreak-impersonator'")
	for name, test := range map[string]struct {
		channel   string
		change    func(*action.Request)
		says      string
		permanent bool
	}{
		"a stricter marking": {"green", nil, "the incident is marked TLP Amber, and channel 'green' may carry Green at the strictest: nothing is sent", true},
		"red, by amber":      {"chat", func(r *action.Request) { r.Incident.Spec.TLP = v1alpha1.TLPRed }, "marked TLP Red, and channel 'chat' may carry Amber", true},
		"an unknown channel": {"fax", nil, "the plan has no channel 'fax': it must be one of 'chat', 'green', 'name'", true},
		"no channels":        {"chat", func(r *action.Request) { r.Plan.Spec.Channels = nil }, "no channel 'chat': the plan has no `channels`", true},
		"no plan":            {"chat", func(r *action.Request) { r.Plan = nil }, "no channel 'chat': the namespace has no ResponsePlan 'default'", true},
		"no Secret":          {"no-secret", nil, "channel 'no-secret': could not get secrets 'absent': there is no such object", false},
		"no key":             {"no-key", nil, "channel 'no-key': Secret 'channels' has nothing in key 'none'", true},
		"a Secret of others": {"forbidden", nil, ":reader may not get secrets in namespace '" + w.domain + "'", true},
		"no rights to act as it": {"chat", func(r *action.Request) {
			r.AsPlan = func(context.Context) (client.Client, string, error) { return nil, "", noAccount }
		}, "channel 'chat': the namespace must bind", false},
		"no ServiceAccount": {"chat", func(r *action.Request) {
			r.Plan.Spec.ServiceAccountName = ""
			r.AsPlan = func(context.Context) (client.Client, string, error) { return nil, "", noAccount }
		}, "channel 'chat'", true},
		"a host not allowed":     {"elsewhere", nil, "the URL in key 'elsewhere' of Secret 'channels': the manager's `--egress-allow` does not name this host and port", true},
		"another service":        {"telegram", nil, "key 'telegram' of Secret 'channels' is of no service that Firebreak sends to: it must be one of generic, opsgenie", true},
		"without TLS":            {"plain", nil, "key 'plain' of Secret 'channels' must not turn TLS off", true},
		"no way out":             {"chat", func(r *action.Request) { r.Egress = nil }, "no message leaves the cluster: the manager's `--egress-allow` names no host", true},
		"what has no such field": {"chat", func(r *action.Request) { r.Step.Notify.Message = `incident.nope` }, "`notify.message`", true},
		"a role without one":     {"chat", func(r *action.Request) { r.Target.Kind, r.Target.Name = "PlanRole", "Owner" }, "the plan has no role 'Owner'", true},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{T: t, domain: w.domain, shop: w.shop, client: w.client, user: w.user}
			request := w.telling(server, test.channel)
			if test.change != nil {
				test.change(request)
			}
			for verb, result := range map[string]lifecycle.Result{"Plan": do(t, "notify").Plan(t.Context(), request), "Apply": do(t, "notify").Apply(t.Context(), request)} {
				w.expect(verb, result, v1alpha1.TargetFailed, test.says)
				if result.Permanent != test.permanent || strings.Contains(fmt.Sprint(result), "s3cr3t") {
					t.Errorf("%s: %+v, want permanent %v and nothing of the URL", verb, result, test.permanent)
				}
			}
		})
	}
	if server.count() != 0 {
		t.Errorf("%d messages were sent", server.count())
	}
}

// TestNotifyUnreached says why, and nothing of the URL.
func TestNotifyUnreached(t *testing.T) {
	server := newHook(t)
	w := tellingWorld(t, chatURLs(server))
	request := w.telling(server, "name")
	w.expect("Plan", do(t, "notify").Plan(t.Context(), request), v1alpha1.TargetActing)
	result := do(t, "notify").Apply(t.Context(), request)
	w.expect("a name that leads to the node", result, v1alpha1.TargetFailed, "channel 'name' (generic) was not told: the host's address is of the node")
	if !result.Permanent || server.count() != 0 {
		t.Errorf("%+v after %d requests", result, server.count())
	}
	for code, permanent := range map[int]bool{403: true, 429: false, 503: false} {
		server.answer = func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = w.Write([]byte("no hook s3cr3t"))
		}
		result := do(t, "notify").Apply(t.Context(), w.telling(server, "chat"))
		w.expect("Apply", result, v1alpha1.TargetFailed, fmt.Sprintf("channel 'chat' (generic) was not told: it has answered %d", code))
		if result.Permanent != permanent || strings.Contains(fmt.Sprint(result), "s3cr3t") {
			t.Errorf("%+v, want permanent %v", result, permanent)
		}
	}
	other := newHook(t)
	request = w.telling(server, "chat")
	request.Egress = other.egress(t, server.address())
	server.Close()
	result = do(t, "notify").Apply(t.Context(), request)
	w.expect("a server that is gone", result, v1alpha1.TargetFailed, "channel 'chat' (generic) was not told: it does not accept the connection")
	if strings.Contains(fmt.Sprint(result), "s3cr3t") || result.Permanent {
		t.Errorf("%+v", result)
	}
}

// TestNotifyRoleWithChannels succeeds for a role that has channels by the time it is begun anew.
func TestNotifyRoleWithChannels(t *testing.T) {
	request := &action.Request{Step: &v1alpha1.PlaybookStep{Notify: &v1alpha1.NotifyAction{}}, Target: v1alpha1.StepTarget{Kind: "PlanRole", Name: "Owner"}, Plan: &v1alpha1.ResponsePlan{}}
	request.Plan.Spec.Roles = []v1alpha1.PlanRole{{Name: "Owner", Channels: []v1alpha1.ChannelName{"chat"}}}
	if got := do(t, "notify").Plan(t.Context(), request); got.State != v1alpha1.TargetSucceeded {
		t.Errorf("%+v", got)
	}
}

func TestCheckChannels(t *testing.T) {
	playbook := &v1alpha1.ResponsePlaybookSpec{}
	playbook.Containment.Steps = []v1alpha1.PlaybookStep{
		{Name: "one", Notify: &v1alpha1.NotifyAction{Channels: []v1alpha1.ChannelName{"chat", "fax"}}}, {Name: "two", Notify: &v1alpha1.NotifyAction{Roles: []v1alpha1.RoleName{"Owner", "Press"}}},
	}
	plan := &v1alpha1.ResponsePlan{}
	plan.Spec.Channels = []v1alpha1.PlanChannel{channel("chat", "channels", "chat", v1alpha1.TLPAmber), channel("pager", "pagers", "url", v1alpha1.TLPAmber)}
	plan.Spec.Roles = []v1alpha1.PlanRole{{Name: "Owner"}}
	err := action.CheckChannels(playbook, plan)
	want := "step 'one': the plan has no channel 'fax': it must be one of 'chat', 'pager'; step 'two': role 'Owner' of the plan has no `channels` by which it could be told; step 'two': the plan has no role 'Press'"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := action.CheckChannels(playbook, nil); err == nil || strings.Count(err.Error(), "no ResponsePlan 'default'") != 4 {
		t.Errorf("without a plan: %v", err)
	}
	playbook.AdHoc = []v1alpha1.ActionName{"notify"}
	var rights []string
	for _, one := range action.PlanRights(playbook, plan) {
		for _, right := range one.Rights {
			rights = append(rights, one.Step+": "+right.String())
		}
	}
	if diff := cmp.Diff([]string{"one: get secrets 'channels'", "notify: get secrets 'channels'", "notify: get secrets 'pagers'"}, rights); diff != "" {
		t.Errorf("rights (-want +got):\n%s", diff)
	}
	plan.Spec.Roles = []v1alpha1.PlanRole{{Name: "Owner", Channels: []v1alpha1.ChannelName{"pager"}}, {Name: "Press", Channels: []v1alpha1.ChannelName{"pager"}}}
	playbook.Containment.Steps[0].Notify.Channels = []v1alpha1.ChannelName{"chat"}
	if err := action.CheckChannels(playbook, plan); err != nil {
		t.Error(err)
	}
}
