package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
	"github.com/firebreak-dev/firebreak/test/harness"
)

// readyMade is what a test of one ready-made playbook is about.
type readyMade struct {
	// build makes what the playbook's alert is about.
	build func(*testing.T, *shop)
	// inAlert is what else in the alert is another in this test, by what it is as shipped.
	inAlert func(*testing.T, *shop) map[string]string
	// gone are objects of the shop's namespace that the playbook does not bring back, as
	// 'Kind/name'.
	gone []string
	// changed takes off an object what the playbook does not take back.
	changed func(*unstructured.Unstructured)
	// people says that the playbook touches nothing in the cluster.
	people bool
}

// TestReadyMadePlaybooks installs each folder of config/playbooks as it ships, posts its
// alert, does as each awaiting line says until the incident is closed, and holds the
// cluster's objects to be as they were: once for a real alert, and once for a false one,
// which a person closes as soon as it is contained.
func TestReadyMadePlaybooks(t *testing.T) {
	cluster := harness.Get(t)
	cluster.StartManager(t)
	receiver := cluster.StartReceiver(t, "--formats-file="+formatsFile(t, cluster))
	folders, err := filepath.Glob(filepath.Join(cluster.Root, "config", "playbooks", "*", "playbook.yaml"))
	done(t, err)
	if len(folders) != len(readyMades) {
		t.Errorf("config/playbooks has %d folders, and this test knows %d", len(folders), len(readyMades))
	}
	t.Run("group", func(t *testing.T) {
		for name, test := range readyMades {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				runReadyMade(t, newShop(t, cluster, receiver, name), test)
			})
			t.Run(name+"/false alarm", func(t *testing.T) {
				t.Parallel()
				runFalseAlarm(t, newShop(t, cluster, receiver, name), test)
			})
		}
	})
}

// formatsFile is the sample's, whose rules are about the namespace 'shop', for this test's.
func formatsFile(t *testing.T, cluster *harness.Cluster) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(cluster.Root, "config", "samples", "senders", "formats.yaml"))
	done(t, err)
	text := string(content)
	for shipped, here := range map[string]string{"verbs: [get]\n    namespaces: [shop]": "verbs: [get]\n    namespaces: [\"shop*\"]", "serviceaccount:shop:*": "serviceaccount:shop*"} {
		if !strings.Contains(text, shipped) {
			t.Fatalf("the sample does not hold %q: the test must be changed with it", shipped)
		}
		text = strings.ReplaceAll(text, shipped, here)
	}
	file := filepath.Join(t.TempDir(), "formats.yaml")
	done(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// shop is a domain with one ready-made playbook, and a namespace it watches over.
type shop struct {
	*scene
	playbook string
}

func newShop(t *testing.T, cluster *harness.Cluster, receiver *harness.ReceiverProcess, playbook string) *shop {
	t.Helper()
	d := cluster.NewDomain(t)
	s := &shop{
		scene:    &scene{Domain: d, receiver: receiver, sender: d.NewSender(t, "sender"), jane: d.As(t, jane, "security-oncall")},
		playbook: playbook,
	}
	d.Bind(t, d.Namespace, "firebreak-incident-manager", harness.User(jane))
	d.ServiceAccount(t, "reader", harness.ReadRules()...)
	done(t, d.Client.Create(t.Context(), harness.MakePlan(d.Namespace, "reader", func(p *v1alpha1.ResponsePlan) {
		p.Spec.Roles = []v1alpha1.PlanRole{{Name: "IncidentManager", Subjects: []v1alpha1.RoleSubject{{Kind: v1alpha1.RoleSubjectGroup, Name: "security-oncall"}}}}
	})))
	s.install(t)
	harness.WaitFor(t, d.Client, harness.MakePlan(d.Namespace, ""), "the domain to be guarded", func(p *v1alpha1.ResponsePlan) bool {
		return isTrue(p.Status.Conditions, v1alpha1.ConditionGuarded)
	})
	return s
}

func (s *shop) folder() string { return filepath.Join(s.Root, "config", "playbooks", s.playbook) }

// install creates what the folder names, moved into this test's namespaces, and waits
// until it is ready, and has the rights it needs.
func (s *shop) install(t *testing.T) {
	t.Helper()
	objects, err := harness.Load(s.folder())
	done(t, err)
	for _, object := range objects {
		s.move(t, object)
		if object.GroupVersionKind().Group == v1alpha1.SchemeGroupVersion.Group {
			s.waitRights(t)
		}
		done(t, s.Client.Create(t.Context(), object))
	}
	policy := harness.MakePolicy(s.Namespace, "", "")
	policy.Name = s.playbook
	harness.WaitFor(t, s.Client, policy, "the policy to be ready", func(p *v1alpha1.ClassificationPolicy) bool {
		return isTrue(p.Status.Conditions, v1alpha1.ConditionReady)
	})
	for _, condition := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionAuthorized, v1alpha1.ConditionReversible} {
		harness.WaitFor(t, s.Client, harness.MakePlaybook(s.Namespace, s.playbook, ""), "the playbook to be "+condition, func(p *v1alpha1.ResponsePlaybook) bool {
			return isTrue(p.Status.Conditions, condition)
		})
	}
}

// sendersInPolicies are the ServiceAccounts that the shipped policies trust.
var sendersInPolicies = regexp.MustCompile(`system:serviceaccount:[a-z-]+:[a-z-]+`)

// move changes the namespaces of the folder to those of this test, its sender to this
// test's, and names of what is in no namespace to some of this test alone.
func (s *shop) move(t *testing.T, object *unstructured.Unstructured) {
	t.Helper()
	if object.GetNamespace() != "" {
		object.SetNamespace(s.namespaceFor(object.GetNamespace()))
	} else {
		object.SetName(s.named(object.GetName()))
	}
	subjects, _, err := unstructured.NestedSlice(object.Object, "subjects")
	done(t, err)
	for _, subject := range subjects {
		if subject, ok := subject.(map[string]any); ok {
			subject["namespace"] = s.namespaceFor(fmt.Sprint(subject["namespace"]))
		}
	}
	if len(subjects) > 0 {
		object.Object["subjects"] = subjects
	}
	switch object.GetKind() {
	case "ClusterRoleBinding":
		harness.EditText(t, object, "name", func(text string) string {
			if text == "firebreak-"+s.playbook {
				return s.named(text)
			}
			return text
		})
	case "ClassificationPolicy":
		harness.EditText(t, object, "match", func(text string) string { return sendersInPolicies.ReplaceAllString(text, s.sender.User) })
	case "ResponsePlaybook":
		if _, ok, _ := unstructured.NestedFieldNoCopy(object.Object, "spec", "scope"); ok {
			done(t, unstructured.SetNestedStringSlice(object.Object, []string{s.Target}, "spec", "scope", "namespaces"))
		}
		hurry(object.Object)
	}
}

// hurry shortens the times that a playbook lets pass although nothing is left to do.
func hurry(value any) {
	switch value := value.(type) {
	case map[string]any:
		for key, child := range value {
			if _, ok := child.(string); ok && (key == "for" || key == "noEventsFor") {
				value[key] = "100ms"
			}
			hurry(child)
		}
	case []any:
		for _, child := range value {
			hurry(child)
		}
	}
}

func (s *shop) namespaceFor(shipped string) string {
	if shipped == "shop" {
		return s.Target
	}
	return s.Namespace
}

// named is a name of this test alone, for what is in no namespace.
func (s *shop) named(shipped string) string { return shipped + "-" + s.Target }

// waitRights waits until the roles that were created count.
func (s *shop) waitRights(t *testing.T) {
	t.Helper()
	objects, err := harness.Load(s.folder())
	done(t, err)
	for _, object := range objects {
		role := &rbacv1.ClusterRole{}
		if kind := object.GetKind(); kind != "Role" && kind != "ClusterRole" {
			continue
		}
		done(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, role))
		namespace := ""
		if role.Namespace != "" {
			namespace = s.namespaceFor(role.Namespace)
		}
		s.WaitAllowed(t, namespace, harness.Account(s.Namespace, s.playbook), role.Rules)
	}
}

// shopInAlerts is the namespace that the shipped alerts are about.
var shopInAlerts = regexp.MustCompile(`\bshop\b`)

// post sends the folder's alert as its sender would, about objects of this test's namespace.
func (s *shop) post(t *testing.T, test readyMade) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.folder(), "alert.*.json"))
	done(t, err)
	if len(files) != 1 {
		t.Fatalf("the folder must have one alert.FORMAT.json, has %v", files)
	}
	format := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(files[0]), "alert."), ".json")
	content, err := os.ReadFile(files[0])
	done(t, err)
	alert := shopInAlerts.ReplaceAllString(string(content), s.Target)
	if test.inAlert != nil {
		for shipped, name := range test.inAlert(t, s) {
			if !strings.Contains(alert, shipped) {
				t.Fatalf("%s does not hold %q: the test must be changed with it", files[0], shipped)
			}
			alert = strings.ReplaceAll(alert, shipped, name)
		}
	}
	if answer := s.receiver.Post(t, s.Namespace, format, s.sender.Token, []byte(alert)); answer.Code/100 != 2 {
		t.Fatalf("the receiver answers %d: %s, want 2xx", answer.Code, answer.Body)
	}
}

// begin makes what the alert is about, posts it, and gives its incident when it is
// contained, with the objects as they were before.
func (s *shop) begin(t *testing.T, test readyMade) (*v1alpha1.Incident, objects) {
	t.Helper()
	if test.build != nil {
		test.build(t, s)
	}
	before := s.objects(t)
	s.post(t, test)
	incident := s.incident(t)
	s.accept(t, harness.MakeDecision(s.Namespace, incident.Name, jane, v1alpha1.DecisionAcknowledge))
	s.obey(t, incident, "it to be contained", func(i *v1alpha1.Incident) bool {
		return isTrue(i.Status.Conditions, v1alpha1.ConditionContained)
	})
	if changes := before.changes(s.objects(t)); (len(changes) == 0) != test.people {
		t.Errorf("when the incident was contained, these objects had changed: %v", changes)
	}
	return incident, before
}

func runReadyMade(t *testing.T, s *shop, test readyMade) {
	incident, before := s.begin(t, test)
	s.obey(t, incident, "it to be closed", inPhase(v1alpha1.PhaseClosed))

	for _, condition := range []string{v1alpha1.ConditionContained, v1alpha1.ConditionEradicated, v1alpha1.ConditionRecovered} {
		if !isTrue(incident.Status.Conditions, condition) {
			t.Errorf("%s is not True: %+v", condition, incident.Status.Conditions)
		}
	}
	for _, step := range incident.Status.Steps {
		if step.State != v1alpha1.StepSucceeded && step.State != v1alpha1.StepReverted {
			t.Errorf("step %s is %s, want it to have done its work: %s", step.Name, step.State, step.Message)
		}
	}
	after := s.objects(t)
	for _, name := range test.gone {
		if _, there := after[name]; there {
			t.Errorf("%s must be gone", name)
		}
		delete(before, name)
	}
	s.asBefore(t, incident, before, after, test.changed)
	var evidence v1alpha1.EvidenceList
	done(t, s.Client.List(t.Context(), &evidence, client.InNamespace(s.Namespace)))
	if (len(evidence.Items) == 0) != test.people {
		t.Errorf("got %d pieces of evidence", len(evidence.Items))
	}
}

// runFalseAlarm closes the incident as a false positive when it is contained: that undoes
// all there is.
func runFalseAlarm(t *testing.T, s *shop, test readyMade) {
	incident, before := s.begin(t, test)
	s.closeIncident(t, incident, v1alpha1.ResolutionFalsePositive)
	s.reconcileWorkloads(t)
	s.asBefore(t, incident, before, s.objects(t), func(object *unstructured.Unstructured) {
		// Its ReplicaSet has another pod in its place: the label would have it delete one.
		if object.GetKind() == "Pod" {
			unstructured.RemoveNestedField(object.Object, "metadata", "labels", "app")
		}
	})
}

// asBefore holds the objects to be as they were, but for what is declared to change, and
// the incident's record to be whole.
func (s *shop) asBefore(t *testing.T, incident *v1alpha1.Incident, before, after objects, changed func(*unstructured.Unstructured)) {
	t.Helper()
	if changed != nil {
		before.edit(changed)
		after.edit(changed)
	}
	for _, change := range before.changes(after) {
		t.Errorf("it is not as it was: %s", change)
	}
	if err := audit.Verify(&incident.Status); err != nil {
		t.Errorf("the timeline must verify: %v", err)
	}
}

// decisionsByVerb are the Decisions that the lines to type stand for.
var decisionsByVerb = map[string]v1alpha1.DecisionType{
	"approve": v1alpha1.DecisionApprove, "task": v1alpha1.DecisionCompleteTask, "close": v1alpha1.DecisionClose,
}

// obey does what each awaiting line says, and what Kubernetes' controllers would, until
// something is true of the incident.
func (s *shop) obey(t *testing.T, incident *v1alpha1.Incident, what string, holds func(*v1alpha1.Incident) bool) {
	t.Helper()
	key := client.ObjectKeyFromObject(incident)
	answered := map[string]bool{}
	harness.Eventually(t, harness.Patience, what, func(ctx context.Context) error {
		if err := s.Client.Get(ctx, key, incident); err != nil {
			return err
		}
		if holds(incident) {
			return nil
		}
		s.reconcileWorkloads(t)
		for i := range incident.Status.Awaiting {
			if awaiting := &incident.Status.Awaiting[i]; !answered[awaiting.Command+awaiting.Digest] {
				answered[awaiting.Command+awaiting.Digest] = true
				s.answer(t, incident, awaiting)
				break // what is awaited is another thing now
			}
		}
		var steps []string
		for _, step := range incident.Status.Steps {
			steps = append(steps, fmt.Sprintf("%s %s (%s)", step.Name, step.State, step.Message))
		}
		return fmt.Errorf("it is in phase %s: %s", incident.Status.Phase, strings.Join(steps, "; "))
	})
}

// answer makes the Decision that the line to type stands for.
func (s *shop) answer(t *testing.T, incident *v1alpha1.Incident, awaiting *v1alpha1.Awaiting) {
	t.Helper()
	line := strings.Fields(awaiting.Command)
	if len(line) < 6 || line[3] != s.Namespace || line[5] != incident.Name || awaiting.Type == v1alpha1.AwaitingFailure {
		t.Fatalf("a person is awaited for %s: step %s: %s", awaiting.Type, awaiting.Step, awaiting.Message)
	}
	kind, ok := decisionsByVerb[line[4]]
	if !ok {
		t.Fatalf("the line to type is %q: its verb must be one of %v", awaiting.Command, decisionsByVerb)
	}
	s.accept(t, harness.MakeDecision(s.Namespace, incident.Name, jane, kind, func(d *v1alpha1.Decision) {
		d.Spec.Groups = []string{"security-oncall"}
		switch kind {
		case v1alpha1.DecisionApprove:
			d.Spec.Step, d.Spec.Digest, d.Spec.Role = line[6], awaiting.Digest, awaiting.Role
		case v1alpha1.DecisionCompleteTask:
			d.Spec.Step = line[6]
		case v1alpha1.DecisionClose:
			d.Spec.Resolution = v1alpha1.ResolutionResolved
		}
	}))
}
