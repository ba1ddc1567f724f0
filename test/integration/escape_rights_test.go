package integration

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/test/harness"
)

// managerRights is everything that the manager may do by its own ClusterRole, and why.
// Whoever adds a right explains it here, and in config/rbac/manager_role.yaml.
var managerRights = map[string]string{
	"firebreak.dev classificationpolicies get list watch":          "rules, through the cache",
	"firebreak.dev decisions create delete get list watch":         "what people decided; create is for the dry run of a forged one, which proves that admission stands; delete is for retention",
	"firebreak.dev evidence create delete get list":                "what was collected; list finds the last retention journal, and what an incident leaves; delete is for retention",
	"firebreak.dev incidents create delete get list watch":         "what it carries on; made from events; delete is for retention",
	"firebreak.dev lessonslearned create get list watch":           "drafts of lessons",
	"firebreak.dev responseplans get list watch":                   "roles and switches, through the cache",
	"firebreak.dev responseplaybooks get list watch":               "what to do, through the cache",
	"firebreak.dev securityevents delete get list watch":           "what was reported; delete is for retention",
	"firebreak.dev classificationpolicies/status get patch update": "whether a policy is in force",
	"firebreak.dev decisions/status get patch update":              "what became of a Decision",
	"firebreak.dev evidence/status get patch update":               "where the bytes are",
	"firebreak.dev incidents/status get patch update":              "the record itself",
	"firebreak.dev lessonslearned/status get patch update":         "the measures",
	"firebreak.dev responseplans/status get patch update":          "whether Decisions are guarded",
	"firebreak.dev responseplaybooks/status get patch update":      "whether a playbook can run",
	"firebreak.dev securityevents/status get patch update":         "how an event was assessed",
	"firebreak.dev incidents/finalizers update":                    "to name an incident as an owner that blocks",
	"apps controllerrevisions create delete get":                   "the pinned text of playbooks, and the kept text of policies",
	" namespaces get list watch":                                   "which are domains, which are protected",
	"events.k8s.io events create":                                  "the projection of timelines",
	"authorization.k8s.io subjectaccessreviews create":             "what a playbook's ServiceAccount lacks; who reads metrics",
	"authentication.k8s.io tokenreviews create":                    "who reads metrics",
}

// TestTheManagersRightsAreExplained holds the manager's ClusterRole to be just what is
// explained above, with a comment of its own at each rule.
func TestTheManagersRightsAreExplained(t *testing.T) {
	role := &rbacv1.ClusterRole{}
	done(t, harness.Get(t).Client.Get(t.Context(), client.ObjectKey{Name: "firebreak-manager"}, role))
	verbs := map[string][]string{}
	for _, rule := range role.Rules {
		if len(rule.NonResourceURLs) > 0 || len(rule.ResourceNames) > 0 {
			t.Errorf("the rule %v: this test knows resources only", rule)
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				verbs[group+" "+resource] = append(verbs[group+" "+resource], rule.Verbs...)
			}
		}
	}
	var got []string
	for resource, all := range verbs {
		slices.Sort(all)
		got = append(got, resource+" "+strings.Join(slices.Compact(all), " "))
	}
	slices.Sort(got)
	var want []string
	for right := range managerRights {
		want = append(want, right)
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the manager must have just the rights that are explained (-explained +has):\n%s", diff)
	}

	text, err := os.ReadFile(filepath.Join(harness.Get(t).Root, "config", "rbac", "manager_role.yaml"))
	done(t, err)
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "- apiGroups:") && !strings.HasPrefix(lines[i-1], "# ") {
			t.Errorf("line %d of manager_role.yaml: each rule must have a comment above it that says what for", i+1)
		}
	}
}

// asked are the rights that a client has used, as 'GROUP RESOURCE VERB'.
type asked struct {
	mu     sync.Mutex
	rights map[string]bool
}

var apiPath = regexp.MustCompile(`^/(?:api|apis/([^/]+))/[^/]+(?:/namespaces/([^/]+))?/([a-z]+)(?:/([^/]+))?(?:/([a-z]+))?$`)

// note takes down what the manager asks for in its own name.
func (a *asked) note(r *http.Request) harness.Trouble {
	parts := apiPath.FindStringSubmatch(r.URL.Path)
	if r.Header.Get("Impersonate-User") != "" || parts == nil {
		return harness.Trouble{}
	}
	resource := parts[3]
	if parts[5] != "" {
		resource += "/" + parts[5]
	}
	verb := map[string]string{http.MethodPost: "create", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete", http.MethodGet: "get"}[r.Method]
	switch {
	case harness.IsWatch(r):
		verb = "watch"
	case verb == "get" && parts[4] == "":
		verb = "list"
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rights[parts[1]+" "+resource+" "+verb] = true
	return harness.Trouble{}
}

// unusedRights are those that a whole incident does not use, and why the manager has them
// nevertheless.
var unusedRights = map[string]string{
	"firebreak.dev securityevents delete":       "retention, which no incident waits for: TestTheManagerDeletesOnlyWhatIsOver",
	"firebreak.dev decisions delete":            "retention, as well",
	"firebreak.dev incidents delete":            "retention, as well",
	"firebreak.dev evidence list":               "retention, as well",
	"firebreak.dev evidence delete":             "retention, as well",
	"firebreak.dev incidents/finalizers update": "asked for by an admission plugin that tests do not run (OwnerReferencesPermissionEnforcement)",
	"authentication.k8s.io tokenreviews create": "only when somebody reads the metrics",
	"apps controllerrevisions get":              "after a restart",
	"apps controllerrevisions delete":           "when a policy has had more generations than are kept",
}

// TestTheManagerUsesItsRights holds each of the manager's rights to be used on the way
// from an alert to a closed incident: one that is not is too much.
func TestTheManagerUsesItsRights(t *testing.T) {
	cluster := harness.Get(t)
	proxy := cluster.NewProxy(t)
	used := &asked{rights: map[string]bool{}}
	proxy.Make(used.note)
	cluster.StartManager(t, proxy.ManagerFlag(t))
	wholeLoop(t, newScene(t, cluster, cluster.StartReceiver(t)))
	proxy.Make(nil) // the manager goes on; what it asks for from now on is not taken down
	for right := range managerRights {
		words := strings.Split(right, " ")
		for _, verb := range words[2:] {
			one := words[0] + " " + words[1] + " " + verb
			if !used.rights[one] && used.unusedBecause(one) == "" {
				t.Errorf("the right %q is not used: take it away, or say in unusedRights what it is for", one)
			}
		}
	}
}

// unusedBecause says why the manager has a right that was not used; empty when it is too much.
func (a *asked) unusedBecause(right string) string {
	words := strings.Split(right, " ")
	group, resource, verb := words[0], words[1], words[2]
	switch {
	case strings.HasSuffix(resource, "/status"):
		return "one of the ways to write a status"
	case a.rights[group+" "+resource+" watch"] && verb == "list":
		return "API servers that do not stream the beginning of a watch (before 1.34) are asked for a list"
	case a.rights[group+" "+resource+" watch"] && verb == "get":
		return "read live when the cache lags"
	}
	return unusedRights[right]
}

// plainPod is a pod as it is before anybody has started it.
func plainPod(namespace, name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: harness.PodLabels(name)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.example.com/app:1.0"}}},
	}
}
