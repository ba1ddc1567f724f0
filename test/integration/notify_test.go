package integration

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

// chat keeps what it is told, by path.
type chat struct {
	*httptest.Server
	mu       sync.Mutex
	messages map[string][]string
}

func newChat(t *testing.T) *chat {
	t.Helper()
	c := &chat{messages: map[string][]string{}}
	c.Server = httptest.NewTLSServer(http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			answer.WriteHeader(http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.messages[request.URL.Path] = append(c.messages[request.URL.Path], string(body))
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *chat) told(path string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.messages[path]
}

// TestNotify tells channels of the plan, as the plan's account and no other, each for itself.
func TestNotify(t *testing.T) {
	cluster, server := harness.Get(t), newChat(t)
	ca := filepath.Join(t.TempDir(), "ca.crt")
	done(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	cluster.StartManager(t, "--egress-allow="+server.Listener.Addr().String(), "--egress-ca-file="+ca)
	s := newScene(t, cluster, cluster.StartReceiver(t))
	path := "/topsecret-" + s.Namespace
	s.Allow(t, s.Namespace, harness.Account(s.Namespace, "reader"), namedRule("chat"))
	for _, name := range []string{"chat", "others"} {
		done(t, s.Client.Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: name},
			StringData: map[string]string{"url": "generic://" + server.Listener.Addr().String() + path + "?template=json", "red": "generic://" + server.Listener.Addr().String() + path + "-red"},
		}))
	}
	key := func(secret, key string) v1alpha1.ChannelSecretReference {
		return v1alpha1.ChannelSecretReference{Name: secret, Key: key}
	}
	done(t, patchTo(t, s, harness.MakePlan(s.Namespace, ""), func(p *v1alpha1.ResponsePlan) {
		p.Spec.Channels = []v1alpha1.PlanChannel{
			{Name: "chat", TLP: v1alpha1.TLPAmber, URLSecretKeyRef: key("chat", "url")}, {Name: "public", TLP: v1alpha1.TLPClear, URLSecretKeyRef: key("chat", "url")},
			{Name: "others", TLP: v1alpha1.TLPRed, URLSecretKeyRef: key("others", "url")}, {Name: "red", TLP: v1alpha1.TLPRed, URLSecretKeyRef: key("chat", "red")},
		}
		p.Spec.Roles[0].Channels = []v1alpha1.ChannelName{"red"}
	}))
	s.editPlaybook(t, func(p *v1alpha1.ResponsePlaybookSpec) {
		p.Containment.Steps = append(p.Containment.Steps, v1alpha1.PlaybookStep{
			Name: "tell", OnFailure: v1alpha1.OnFailureContinue, Retry: v1alpha1.Retry{Attempts: 2, Backoff: &metav1.Duration{Duration: 50 * time.Millisecond}},
			Notify: &v1alpha1.NotifyAction{
				Channels: []v1alpha1.ChannelName{"chat", "public", "others"}, Roles: []v1alpha1.RoleName{"IncidentManager"},
				Message: `"cut off: " + resources.map(r, r.name).join(", ") + ", ticket @everyone"`,
			},
		})
	})
	pod := s.shop(t, "cart")
	s.alert(t, pod.Name)
	incident := s.incident(t)
	s.until(t, incident, "everybody to be told who can be", func(i *v1alpha1.Incident) bool { return step(i, "tell").State == v1alpha1.StepFailed })
	told := step(incident, "tell")
	want := map[string]v1alpha1.TargetState{"chat": v1alpha1.TargetSucceeded, "public": v1alpha1.TargetFailed, "others": v1alpha1.TargetFailed, "red": v1alpha1.TargetSucceeded}
	for _, target := range told.Targets {
		if target.Kind != "Channel" || target.State != want[target.Name] {
			t.Errorf("%s %s is %s: %s, want %s", target.Kind, target.Name, target.State, target.Message, want[target.Name])
		}
	}
	for _, part := range []string{"2 of 4 failed", "may carry Clear at the strictest", ":reader may not get secrets in namespace '" + s.Namespace + "'"} {
		if !strings.Contains(told.Message, part) {
			t.Errorf("the step says %q, want it to say %q", told.Message, part)
		}
	}
	messages := server.told(path)
	if len(messages) != 1 || !strings.Contains(messages[0], "cut off: "+pod.Name+", ticket ＠everyone") || !strings.Contains(messages[0], "Incident "+incident.Name) {
		t.Errorf("the chat was told %q", messages)
	}
	if red := server.told(path + "-red"); len(red) != 1 {
		t.Errorf("the role's channel was told %q", red)
	}
	// The right is granted, and the step begun anew: who was told is not told again.
	s.Allow(t, s.Namespace, harness.Account(s.Namespace, "reader"), namedRule("others"))
	s.accept(t, harness.MakeDecision(s.Namespace, incident.Name, jane, v1alpha1.DecisionRetryStep, func(d *v1alpha1.Decision) { d.Spec.Step = "tell" }))
	s.until(t, incident, "the channel that was forbidden to be told", func(i *v1alpha1.Incident) bool {
		again := step(i, "tell")
		return again.State == v1alpha1.StepFailed && strings.HasPrefix(again.Message, "1 of 4 failed")
	})
	if messages := server.told(path); len(messages) != 2 {
		t.Errorf("the chat was told %d times, want 2: once for each channel that leads there", len(messages))
	}
	if red := server.told(path + "-red"); len(red) != 1 {
		t.Errorf("the role's channel was told %d times, want once", len(red))
	}
	s.checkNoSecret(t, incident)
}

// checkNoSecret holds that no URL of a channel is in the incident or in an Event.
func (s *scene) checkNoSecret(t *testing.T, incident *v1alpha1.Incident) {
	t.Helper()
	events := &corev1.EventList{}
	done(t, s.Client.List(t.Context(), events))
	if text := stringOf(incident.Status) + stringOf(events.Items); strings.Contains(text, "topsecret-"+s.Namespace) {
		t.Error("the URL of a channel is told")
	}
}

func stringOf(content any) string { return fmt.Sprintf("%+v", content) }

// namedRule lets one Secret be read.
func namedRule(secret string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{secret}, Verbs: []string{"get"}}
}
