package controller

import (
	"context"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/impersonation"
)

// lines are connections that can be cut.
type lines struct {
	mu   sync.Mutex
	open []net.Conn
}

func (l *lines) dial(ctx context.Context, network, address string) (net.Conn, error) {
	connection, err := (&net.Dialer{}).DialContext(ctx, network, address)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.open = append(l.open, connection)
	}
	return connection, err
}

func (l *lines) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, connection := range l.open {
		_ = connection.Close()
	}
	l.open = nil
}

// watchScene is a namespace with a ServiceAccount and its rights on ConfigMaps.
func watchScene(t *testing.T, verbs ...string) (*verifyWatches, *lines, verifyKey) {
	t.Helper()
	namespace := newDomain(t)
	mustCreate(t, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "contain"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: verbs},
	}})
	mustCreate(t, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "contain"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "contain"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: "contain"}},
	})
	cable := &lines{}
	config := rest.CopyConfig(testConfig)
	config.Dial = cable.dial
	now := clock.RealClock{}
	factory := impersonation.NewFactory(impersonation.Options{Config: config, Scheme: testScheme, Mapper: testClient.RESTMapper(), Own: testClient, Clock: now})
	identity, err := factory.For(t.Context(), namespace, "contain")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) string {
		if err := identity.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "kube-root-ca.crt"}, &corev1.ConfigMap{}); client.IgnoreNotFound(err) != nil {
			return err.Error()
		}
		return ""
	})
	watches := newVerifyWatches(factory, now)
	t.Cleanup(watches.stop)
	return watches, cable, verifyKey{types.NamespacedName{Namespace: namespace, Name: "inc-1"}, "healthy"}
}

func settings(t *testing.T, key verifyKey, names ...string) []v1alpha1.StepTarget {
	t.Helper()
	var targets []v1alpha1.StepTarget
	for _, name := range names {
		mustCreate(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: key.incident.Namespace, Name: name}})
		targets = append(targets, v1alpha1.StepTarget{APIVersion: "v1", Kind: "ConfigMap", Namespace: key.incident.Namespace, Name: name})
	}
	return targets
}

// woken waits until the incident is woken, and looks.
func woken(t *testing.T, watches *verifyWatches, key verifyKey) (watched bool, problem string) {
	t.Helper()
	select {
	case seen := <-watches.wake:
		if got := client.ObjectKeyFromObject(seen.Object); got != key.incident {
			t.Fatalf("%s was woken, want %s", got, key.incident)
		}
	case <-time.After(waitFor):
		t.Fatal("the incident was not woken")
	}
	incident := verifying(key, watchedLook)
	if stirred := watches.stirred(incident); !stirred[key.step] {
		t.Fatalf("stirred: %v, want %s", stirred, key.step)
	}
	watched, problem = watches.looking(key)
	if watches.stirred(incident)[key.step] {
		t.Error("stirred after a look")
	}
	return watched, problem
}

// verifying is an incident whose step is looked at again later.
func verifying(key verifyKey, later time.Duration) *v1alpha1.Incident {
	next := metav1.NewTime(time.Now().Add(later))
	incident := &v1alpha1.Incident{Status: v1alpha1.IncidentStatus{Steps: []v1alpha1.IncidentStep{
		{Name: "isolate", Action: "isolate", State: v1alpha1.StepRunning, NextTime: &next},
		{Name: key.step, Action: "verify", State: v1alpha1.StepRunning, NextTime: &next},
	}}}
	incident.Namespace, incident.Name = key.incident.Namespace, key.incident.Name
	return incident
}

// TestVerifyAfterARestart: what a manager has put off because it watched, the next one
// does not.
func TestVerifyAfterARestart(t *testing.T) {
	key := verifyKey{types.NamespacedName{Namespace: "security", Name: "inc-1"}, "healthy"}
	watches := newVerifyWatches(nil, clock.RealClock{})
	for later, want := range map[time.Duration]bool{watchedLook: true, verifyGap: false} {
		stirred := watches.stirred(verifying(key, later))
		if stirred["healthy"] != want || stirred["isolate"] {
			t.Errorf("to be looked at in %s: stirred %v, want %t", later, stirred, want)
		}
	}
}

func TestVerifyWatches(t *testing.T) {
	for name, objects := range map[string][]string{"one object by its name": {"a"}, "several": {"a", "b"}} {
		t.Run(name, func(t *testing.T) {
			watches, cable, key := watchScene(t, "get", "watch")
			targets := settings(t, key, objects...)
			if watched, _ := watches.looking(key); watched {
				t.Error("what nobody has begun to watch is taken for watched")
			}
			watches.begin(key, "contain", targets)
			watches.begin(key, "contain", targets) // it is watched already
			if watches.open != 1 {
				t.Errorf("%d watches for one kind in one namespace", watches.open)
			}
			if watched, problem := woken(t, watches, key); !watched || problem != "" {
				t.Fatalf("after it has woken the first time: %t %q", watched, problem)
			}
			change := func(value string) {
				object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: key.incident.Namespace, Name: objects[len(objects)-1]}}
				if err := testClient.Patch(t.Context(), object, client.RawPatch(types.MergePatchType, []byte(`{"data":{"a":"`+value+`"}}`))); err != nil {
					t.Fatal(err)
				}
			}
			// What was there when the watch began may wake it once more: the value decides.
			change("one")
			woken(t, watches, key)
			cable.cut()
			change("two")
			eventually(t, func(context.Context) string {
				if watched, _ := woken(t, watches, key); !watched {
					return "it is not watched again"
				}
				return ""
			})
			watches.keep(key.incident, []string{"other"})
			if watches.open != 0 || len(watches.steps) != 0 {
				t.Errorf("after the end %d watches of %d steps are left", watches.open, len(watches.steps))
			}
		})
	}
}

func TestVerifyWatchesSayWhatIsForbidden(t *testing.T) {
	watches, _, key := watchScene(t, "get")
	watches.begin(key, "contain", settings(t, key, "a"))
	watched, problem := woken(t, watches, key)
	want := "system:serviceaccount:" + key.incident.Namespace + ":contain may not watch ConfigMap"
	if watched || problem != want {
		t.Errorf("watched: %t, %q; want %q", watched, problem, want)
	}
}

func TestVerifyWatchesAreBounded(t *testing.T) {
	watches, _, key := watchScene(t, "get", "watch")
	targets := settings(t, key, "a")
	for i := range maxVerifyWatches + 5 {
		watches.begin(verifyKey{key.incident, "step-" + strconv.Itoa(i)}, "contain", targets)
	}
	if watches.open != maxVerifyWatches || len(watches.steps) != maxVerifyWatches {
		t.Fatalf("%d watches of %d steps, want %d", watches.open, len(watches.steps), maxVerifyWatches)
	}
	if watched, problem := watches.looking(verifyKey{key.incident, "step-" + strconv.Itoa(maxVerifyWatches)}); watched || problem != "" {
		t.Errorf("a step that found no room: %t, %q", watched, problem)
	}
	watches.keep(key.incident, nil)
	watches.begin(key, "contain", targets)
	if watches.open != 1 {
		t.Errorf("%d watches after the others have ended", watches.open)
	}
	watches.stop()
	watches.begin(verifyKey{key.incident, "late"}, "contain", targets)
	if watches.open != 1 {
		t.Error("a watch was begun after the end")
	}
}

func TestWhatAVerifyDependsOn(t *testing.T) {
	for expression, want := range map[string]bool{
		"objects.all(w, w.status.readyReplicas > 0)": false,
		"incident.severity == 'Low'":                 true,
		"objects.all(w, w.spec.incidents > 0)":       false,
	} {
		step := &v1alpha1.PlaybookStep{Verify: &v1alpha1.VerifyAction{Expression: v1alpha1.Expression(expression)}}
		if got := dependsOnIncident(step); got != want {
			t.Errorf("%s: %t, want %t", expression, got, want)
		}
	}
	if strings.TrimSpace(connecting) != "" {
		t.Error("a watch that is not open yet is no problem to tell a person of")
	}
}
