package receiver

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// reportSite is a domain that reads the reports of one namespace, and is allowed to by the
// role that ships.
type reportSite struct {
	*site
	shop string // whose reports are read
	bank string // whose are not
	file string // of --formats-file
}

func newReportSite(t *testing.T) *reportSite {
	s := &reportSite{site: newSite(t)}
	for _, made := range []struct {
		into *string
		name string
	}{{&s.shop, "shop-"}, {&s.bank, "bank-"}} {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: made.name}}
		s.create(namespace)
		*made.into = namespace.Name
	}
	s.file = fmt.Sprintf("reports: [{domain: %s, namespaces: [%s]}]", s.namespace, s.shop)
	return s
}

// allow binds the role that ships to the receiver, in the namespace alone.
func (s *reportSite) allow() {
	s.t.Helper()
	text, err := os.ReadFile("../../config/rbac/report_reader_role.yaml")
	if err != nil {
		s.t.Fatal(err)
	}
	var role rbacv1.ClusterRole
	if err := yaml.UnmarshalStrict(text, &role); err != nil {
		s.t.Fatal(err)
	}
	role.Name = "report-reader-" + s.namespace
	s.create(&role)
	s.create(&rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.shop, Name: "firebreak-reports"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: s.namespace, Name: "receiver"}},
	})
}

// reader starts a receiver that reads reports, and gives what ends it as a crash does.
func (s *reportSite) reader(name string) (h *Handler, crash func()) {
	s.t.Helper()
	all, err := parseFormats([]byte(s.file))
	if err != nil {
		s.t.Fatal(err)
	}
	h = s.handler(Options{Name: name, Formats: all})
	h.reports.longest = 200 * time.Millisecond
	ctx, stop := context.WithCancel(s.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); h.Run(ctx) }()
	crash = func() { stop(); <-done }
	s.t.Cleanup(crash)
	return h, crash
}

// install makes the CRDs of reports that there are in an API group, and gives what removes them.
func (s *reportSite) install(group string) (remove func()) {
	s.t.Helper()
	text, err := os.ReadFile("testdata/crds/report.yaml")
	if err != nil {
		s.t.Fatal(err)
	}
	var made []client.Object
	for _, kind := range reportKinds {
		if kind.Group != group {
			continue
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(text, &crd); err != nil {
			s.t.Fatal(err)
		}
		singular := strings.ToLower(kind.Kind)
		crd.Name = singular + "s." + group
		crd.Spec.Group, crd.Spec.Versions[0].Name = group, kind.Version
		crd.Spec.Names = apiextensionsv1.CustomResourceDefinitionNames{Kind: kind.Kind, ListKind: kind.Kind + "List", Plural: singular + "s", Singular: singular}
		if crd.Spec.Scope = apiextensionsv1.NamespaceScoped; kind.scope.Name() == meta.RESTScopeNameRoot {
			crd.Spec.Scope = apiextensionsv1.ClusterScoped
		}
		s.create(&crd)
		made = append(made, &crd)
	}
	for _, crd := range made {
		s.eventually(crd.GetName()+" is served", func() bool {
			var now apiextensionsv1.CustomResourceDefinition
			err := s.admin.Get(s.t.Context(), client.ObjectKeyFromObject(crd), &now)
			return err == nil && len(now.Status.Conditions) > 1 && now.Status.Conditions[1].Status == apiextensionsv1.ConditionTrue
		})
	}
	remove = func() {
		ctx := context.WithoutCancel(s.t.Context()) // it cleans up as well
		for _, crd := range made {
			if err := s.admin.Delete(ctx, crd); err != nil && !apierrors.IsNotFound(err) {
				s.t.Error(err)
			}
			if err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
				return apierrors.IsNotFound(s.admin.Get(ctx, client.ObjectKeyFromObject(crd), &apiextensionsv1.CustomResourceDefinition{})), nil
			}); err != nil {
				s.t.Errorf("waiting until %s is gone: %v", crd.GetName(), err)
			}
		}
	}
	s.t.Cleanup(remove)
	return remove
}

// result is one of a report, found so many seconds ago.
func result(policy, outcome string, ago int64) map[string]any {
	return map[string]any{
		"source": "kyverno", "policy": policy, "result": outcome, "severity": "high", "message": policy + " was not kept",
		"timestamp": map[string]any{"seconds": time.Now().Unix() - ago, "nanos": int64(0)},
	}
}

func (s *reportSite) report(kind int, namespace, name string, results ...any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{
		"scope":   map[string]any{"apiVersion": "v1", "kind": "Pod", "name": name, "namespace": namespace, "uid": "3407b31a-b0bb-4716-a443-f4aa15662ef2"},
		"results": results,
	}}
	u.SetGroupVersionKind(reportKinds[kind].GroupVersionKind)
	u.SetNamespace(namespace)
	u.SetName(name)
	return u
}

// change writes a report's results anew, as a scanner does.
func (s *reportSite) change(u *unstructured.Unstructured, results ...any) {
	s.t.Helper()
	u.Object["results"] = results
	if err := s.admin.Update(s.t.Context(), u); err != nil {
		s.t.Fatal(err)
	}
}

// wantSeen waits until each policy was seen so often.
func (s *reportSite) wantSeen(what string, want map[string]int64) {
	s.t.Helper()
	var got map[string]int64
	defer func() {
		if s.t.Failed() {
			s.t.Logf("%s: seen %v, want %v", what, got, want)
		}
	}()
	s.eventually(what, func() bool {
		got = map[string]int64{}
		for _, event := range s.events() {
			got[event.Spec.Source.Rule]++
			for _, counter := range event.Status.Counters {
				got[event.Spec.Source.Rule] += counter.Count
			}
		}
		return fmt.Sprint(got) == fmt.Sprint(want)
	})
}

// TestReportsAreWatched has two receivers read the reports of one namespace, whose CRDs come
// and go.
func TestReportsAreWatched(t *testing.T) {
	s := newReportSite(t)
	first, crash := s.reader("r0")
	s.eventually("the kinds to be absent, or forbidden", func() bool { return first.reports.in(watchAbsent)+first.reports.in(watchForbidden) == 2 })
	s.allow()
	s.eventually("the kinds to be absent", func() bool { return first.reports.in(watchAbsent) == 2 })
	remove := s.install("wgpolicyk8s.io")
	second, _ := s.reader("r1")
	s.eventually("both to read reports", func() bool { return first.reports.in(watchOpen) == 1 && second.reports.in(watchOpen) == 1 })
	s.wantMetrics(first, `report_watches{state="open"} 1`, `report_watches{state="absent"} 1`)

	mine := s.report(0, s.shop, "cart", result("no-root", "fail", 100), result("no-latest", "pass", 100))
	s.create(mine)
	s.create(s.report(0, s.bank, "vault", result("of-the-bank", "fail", 100)))
	s.wantSeen("the failure is an event", map[string]int64{"no-root": 1})
	event := s.onlyEvent()
	if event.Spec.SubmittedBy != ownUserName || event.Spec.Source.Product != "kyverno" || event.Spec.Severity != v1alpha1.SeverityHigh ||
		len(event.Spec.Resources) != 1 || event.Spec.Resources[0].Namespace != s.shop || event.Spec.Attributes["report.name"] != "cart" {
		t.Errorf("event %+v, want that of the report", event.Spec)
	}
	s.change(mine, result("no-root", "fail", 50), result("no-latest", "fail", 50))
	s.wantSeen("a new look is counted once, though two look", map[string]int64{"no-root": 2, "no-latest": 1})

	crash()
	third, _ := s.reader("r0")
	s.eventually("it to read anew", func() bool { return third.reports.in(watchOpen) == 1 })
	mine.SetLabels(map[string]string{"touched": "yes"})
	s.change(mine, result("no-root", "fail", 10), result("no-latest", "pass", 10))
	s.wantSeen("what was recorded before the restart is not counted again", map[string]int64{"no-root": 3, "no-latest": 1})

	s.install("openreports.io")
	s.eventually("the new kind is read", func() bool { return third.reports.in(watchOpen) == 2 && second.reports.in(watchOpen) == 2 })
	s.create(s.report(2, s.shop, "cart", mine.Object["results"].([]any)[0], result("of-openreports", "fail", 10)))
	s.wantSeen("the same result in another kind of report is not counted", map[string]int64{"no-root": 3, "no-latest": 1, "of-openreports": 1})

	remove()
	s.eventually("the kind that was removed is absent", func() bool { return third.reports.in(watchAbsent) == 1 && second.reports.in(watchAbsent) == 1 })
	s.install("wgpolicyk8s.io")
	s.eventually("the kind that came again is read", func() bool { return third.reports.in(watchOpen) == 2 && second.reports.in(watchOpen) == 2 })
	s.create(s.report(0, s.shop, "again", result("no-root", "fail", 5), result("came-again", "fail", 5)))
	s.wantSeen("what is reported then is recorded", map[string]int64{"no-root": 4, "no-latest": 1, "of-openreports": 1, "came-again": 1})
	if log := s.log.String(); strings.Contains(log, "of-the-bank") {
		t.Error("the receiver has read the reports of a namespace that no source names")
	}
}

// TestReportsOfDomains: a domain has the reports it is given, and no other's.
func TestReportsOfDomains(t *testing.T) {
	s := newReportSite(t)
	s.allow()
	s.create(&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "all-" + s.namespace}, Rules: []rbacv1.PolicyRule{{APIGroups: []string{"wgpolicyk8s.io"}, Resources: []string{"policyreports", "clusterpolicyreports"}, Verbs: []string{"list", "watch"}}}})
	s.create(&rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "all-" + s.namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "all-" + s.namespace},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: s.namespace, Name: "receiver"}},
	})
	tenant := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "tenant-"}}
	s.create(tenant)
	s.file = fmt.Sprintf("reports: [{domain: %s, namespaces: [%s], clusterReports: Watch}, {domain: %s, namespaces: [%s]}]", s.namespace, s.shop, tenant.Name, s.bank)
	s.install("wgpolicyk8s.io")
	reports := []any{}
	for n := range 40 {
		reports = append(reports, result(fmt.Sprint("p", n), "fail", int64(n)))
	}
	for n := range 15 { // more than one page
		s.create(s.report(0, s.shop, fmt.Sprint("pod-", n), result(fmt.Sprint("shop-", n), "fail", 10)))
	}
	s.create(s.report(0, s.bank, "vault", reports...))
	cluster := s.report(1, "", "cluster", result("of-the-cluster", "fail", 10))
	s.create(cluster)
	s.reader("r0")
	want := map[string]int64{"of-the-cluster": 1}
	for n := range 15 {
		want[fmt.Sprint("shop-", n)] = 1
	}
	s.wantSeen("the domain has its own", want)
	s.eventually("the tenant has its own", func() bool {
		var list v1alpha1.SecurityEventList
		if err := s.admin.List(t.Context(), &list, client.InNamespace(tenant.Name)); err != nil {
			t.Fatal(err)
		}
		for _, event := range list.Items {
			if event.Spec.Attributes["report.namespace"] != v1alpha1.AttributeValue(s.bank) {
				t.Fatalf("the tenant has an event of %s", event.Spec.Attributes["report.namespace"])
			}
		}
		return len(list.Items) == 40
	})
	if err := s.admin.Delete(t.Context(), cluster); err != nil {
		t.Fatal(err)
	}
}

// TestReportsOfNamespacesTakeTurns: who writes many reports in one namespace holds up nobody in
// another, neither when a receiver starts nor later.
func TestReportsOfNamespacesTakeTurns(t *testing.T) {
	const reports, results = 40, 50
	s := newReportSite(t)
	s.create(&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "all-" + s.namespace}, Rules: []rbacv1.PolicyRule{{APIGroups: []string{"wgpolicyk8s.io"}, Resources: []string{"policyreports"}, Verbs: []string{"list", "watch"}}}})
	s.create(&rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "all-" + s.namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "all-" + s.namespace},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: s.namespace, Name: "receiver"}},
	})
	s.install("wgpolicyk8s.io")
	for n := range reports {
		var many []any
		for i := range results {
			many = append(many, result(fmt.Sprintf("flood-%d-%d", n, i), "fail", 10))
		}
		s.create(s.report(0, s.bank, fmt.Sprint("flood-", n), many...)) // it comes first in lists
	}
	s.create(s.report(0, s.shop, "first", result("first", "fail", 10)))
	s.file = fmt.Sprintf("reports: [{domain: %s, namespaces: ['*']}]", s.namespace)
	s.reader("r0")
	var before int
	s.eventually("the first single result is an event", func() bool { _, before = s.flooded("first", 0); return before >= 0 })
	if before > reportBurst/2 {
		t.Errorf("%d results of the flood were recorded before one of another namespace when the receiver started, want few", before)
	}
	s.eventually("the burst is used up", func() bool { all, _ := s.flooded("first", 0); return all > reportBurst })
	second := s.report(0, s.shop, "second", result("second", "fail", 10))
	s.create(second)
	since, err := strconv.Atoi(second.GetResourceVersion())
	if err != nil {
		t.Fatal(err)
	}
	s.eventually("the second single result is an event", func() bool { _, before = s.flooded("second", since); return before >= 0 })
	if before > reportRate {
		t.Errorf("%d results of the flood were recorded between another namespace's report and its event, want at most %d", before, reportRate)
	}
	if all, _ := s.flooded("second", since); all == reports*results {
		t.Error("the flood was over, and this tells nothing")
	}
}

// flooded counts the events that a flood has made, and those of them that were made since a version
// and before that of a policy, which is -1 as long as there is none.
func (s *reportSite) flooded(policy string, since int) (all, before int) {
	s.t.Helper()
	// Events are not written again here, so that their versions are in the order of their making.
	var versions []int
	single := -1
	for _, event := range s.events() {
		version, err := strconv.Atoi(event.ResourceVersion)
		if err != nil {
			s.t.Fatal(err)
		}
		switch {
		case strings.HasPrefix(event.Spec.Source.Rule, "flood-"):
			versions = append(versions, version)
		case event.Spec.Source.Rule == policy:
			single = version
		}
	}
	if single < 0 {
		return len(versions), -1
	}
	for _, version := range versions {
		if version > since && version < single {
			before++
		}
	}
	return len(versions), before
}
