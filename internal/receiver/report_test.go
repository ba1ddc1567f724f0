package receiver

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// reportSource is a source as the file of --formats-file makes it.
func reportSource(tb testing.TB, change func(*ReportSource)) *ReportSource {
	tb.Helper()
	source := ReportSource{Domain: "security", Namespaces: []string{"shop"}}
	if change != nil {
		change(&source)
	}
	sources := []ReportSource{source}
	if err := validateReports(sources); err != nil {
		tb.Fatal(err)
	}
	return &sources[0]
}

// watchedFormat gives reports that are watched to what tests formats.
type watchedFormat struct{ source *ReportSource }

func (f watchedFormat) parse(r report) (parsed, error) {
	alerts, skipped, err := parseReport(r, f.source)
	what := parsed{list: true, skipped: skipped}
	for _, a := range alerts {
		what.alerts = append(what.alerts, a.alert)
	}
	return what, err
}

// FuzzPolicyReport gives anything for a report.
func FuzzPolicyReport(f *testing.F) {
	source := reportSource(f, func(s *ReportSource) { s.Results = []string{"fail", "warn", "error"} })
	for _, r := range bodiesOf(f, "reports") {
		f.Add(r.body)
	}
	f.Fuzz(func(t *testing.T, body []byte) { fuzzOnce(t, watchedFormat{source}, testReport(body)) })
}

// TestGoldenReports reads every report in testdata/reports and compares what is made of it.
func TestGoldenReports(t *testing.T) {
	source := reportSource(t, nil)
	for file, body := range bodiesOf(t, "reports") {
		t.Run(file, func(t *testing.T) {
			alerts, skipped, err := parseReport(body, source)
			if wantRefused := strings.HasPrefix(filepath.Base(file), "refused"); (err != nil) != wantRefused {
				t.Fatalf("parse: error %v, want one: %t", err, wantRefused)
			}
			what := parsed{list: true, skipped: skipped}
			for _, a := range alerts {
				if (a.number == 0) != (a.single && a.window == noWindow) {
					t.Errorf("%s has number %d, single %t and window %s", a.spec.Title, a.number, a.single, a.window)
				}
				what.alerts = append(what.alerts, a.alert)
			}
			compareGolden(t, strings.TrimSuffix(file, filepath.Ext(file))+".yaml", goldenOf(t, what, err))
		})
	}
}

func TestReportSources(t *testing.T) {
	report := readBody(t, "reports", "kyverno")
	for name, test := range map[string]struct {
		change func(*ReportSource)
		want   int
	}{
		"fail":         {nil, 2},
		"all":          {func(s *ReportSource) { s.Results = []string{"fail", "warn", "error"} }, 4},
		"from medium":  {func(s *ReportSource) { s.MinimumSeverity = v1alpha1.SeverityMedium }, 2},
		"from high":    {func(s *ReportSource) { s.MinimumSeverity = v1alpha1.SeverityHigh }, 0},
		"however old":  {func(s *ReportSource) { s.MaxAge = metav1.Duration{Duration: 100 * 365 * 24 * time.Hour} }, 3},
		"only an hour": {func(s *ReportSource) { s.MaxAge = metav1.Duration{Duration: time.Hour} }, 2},
	} {
		alerts, _, err := parseReport(testReport([]byte(report)), reportSource(t, test.change))
		if err != nil || len(alerts) != test.want {
			t.Errorf("%s: %d alerts (error %v), want %d", name, len(alerts), err, test.want)
		}
	}
}

// TestReportIdentity: what is the same to a receiver that reads a report anew, and what is not.
func TestReportIdentity(t *testing.T) {
	source := reportSource(t, nil)
	result := func(uid, policy, stamp string) (identity, int64) {
		body := fmt.Sprintf(`{"metadata":{"name":"r","namespace":"shop","uid":"%s"},"results":[{"policy":"%s","result":"fail","timestamp":%s,"resources":[{"apiVersion":"v1","kind":"Pod","namespace":"shop","name":"cart"}]}]}`, uid, policy, stamp)
		later := testReport([]byte(body))
		alerts, _, err := parseReport(later, source)
		if err != nil || len(alerts) != 1 {
			t.Fatalf("%d alerts, error %v", len(alerts), err)
		}
		return identify("security", &alerts[0].alert), alerts[0].number
	}
	begin := testTime.Unix()
	stamp := func(seconds int64) string { return fmt.Sprintf(`{"seconds":%d,"nanos":7000}`, begin+seconds) }
	first, number := result("a", "p", stamp(-7200))
	for name, test := range map[string]struct {
		uid, policy, stamp string
		same, later        bool
	}{
		"again":                      {"a", "p", stamp(-7200), true, false},
		"in another report":          {"b", "p", stamp(-7200), true, false},
		"a new look":                 {"a", "p", stamp(-10), true, true},
		"another policy":             {"a", "q", stamp(-7200), false, false},
		"on another day":             {"a", "p", stamp(-23 * 3600), false, false},
		"without a time":             {"a", "p", "null", false, false},
		"with that of Falcosidekick": {"a", "p", `{"seconds":57,"nanos":0}`, false, false},
	} {
		id, next := result(test.uid, test.policy, test.stamp)
		if (id == first) != test.same || test.same && (next > number) != test.later {
			t.Errorf("%s: same identity %t (want %t), number %d after %d", name, id == first, test.same, next, number)
		}
	}
	undated, zero := result("a", "p", "null")
	if again, _ := result("a", "p", "null"); again != undated || zero != 0 {
		t.Errorf("a result without a time has number %d, and another identity when it is read again: %t", zero, again != undated)
	}
	if other, _ := result("b", "p", "null"); other == undated {
		t.Error("results without a time of two reports are taken for one")
	}
}

// TestReportsOfNamespacesAreApart: what is reported in one namespace is never taken for what is
// reported in another, whatever is said there.
func TestReportsOfNamespacesAreApart(t *testing.T) {
	const uid = `,"uid":"3407b31a-b0bb-4716-a443-f4aa15662ef2"`
	id := func(space, kind, ref string) identity {
		t.Helper()
		body := fmt.Sprintf(`{"kind":"%s","metadata":{"name":"r","namespace":"%s","uid":"a"},"results":[{"policy":"p","result":"fail","timestamp":{"seconds":%d},"resources":[{"apiVersion":"v1",%s}]}]}`, kind, space, testTime.Unix(), ref)
		alerts, _, err := parseReport(testReport([]byte(body)), reportSource(t, nil))
		if err != nil || len(alerts) != 1 {
			t.Fatalf("%d alerts, error %v", len(alerts), err)
		}
		return identify("security", &alerts[0].alert)
	}
	for _, ref := range []string{
		`"kind":"Pod","name":"cart"`, `"kind":"Pod","name":"cart","namespace":"bank"`, `"kind":"Pod","name":"cart"` + uid,
		`"kind":"Pod","name":"cart","namespace":"bank"` + uid, `"kind":"Node","name":"cart"`, `"kind":"Cart","name":"cart"`,
	} {
		bank, shop, all := id("bank", "PolicyReport", ref), id("shop", "PolicyReport", ref), id("", "ClusterPolicyReport", ref)
		if bank == shop || bank == all || shop == all {
			t.Errorf("results about {%s} of two namespaces, or of one and the cluster, are taken for one", ref)
		}
		if id("bank", "Report", ref) != bank {
			t.Errorf("results about {%s} of two kinds of reports of one namespace are taken for two", ref)
		}
	}
	if id("shop", "PolicyReport", `"kind":"Pod","name":"cart"`) != id("shop", "PolicyReport", `"kind":"Pod","name":"cart","namespace":"shop"`) {
		t.Error("an object that is named without the namespace of the report is taken for another")
	}
}

// TestReportsAreNotOurs: a report never speaks as the receiver, which submits it.
func TestReportsAreNotOurs(t *testing.T) {
	for source, want := range map[string]string{
		`"firebreak"`: "report:firebreak", `" Firebreak\n"`: "report:firebreak", `"\u200bfirebrea\u212a"`: "report:firebreak",
		`"firebreak-2"`: "firebreak-2", `"kyverno"`: "kyverno",
	} {
		for _, body := range []string{
			`{"metadata":{"name":"r","namespace":"shop"},"results":[{"source":%s,"policy":"firebreak","rule":"alerts-shed","result":"fail"}]}`,
			`{"metadata":{"name":"r","namespace":"shop"},"source":%s,"results":[{"policy":"firebreak/alerts-shed","result":"fail"}]}`,
			`{"metadata":{"name":"r","namespace":"shop"},"source":%s,"results":[` + strings.Repeat(`{"policy":"firebreak","result":"fail"},`, maxBatch) + `{"policy":"firebreak/alerts-shed","result":"fail"}]}`,
		} {
			alerts, _, err := parseReport(testReport(fmt.Appendf(nil, body, source)), reportSource(t, nil))
			if err != nil || len(alerts) == 0 {
				t.Fatalf("%s: %d alerts, error %v", source, len(alerts), err)
			}
			for _, a := range alerts {
				own := strings.HasPrefix(a.spec.Source.Rule, ownRules) && a.spec.Source.Rule != ruleTruncated
				if a.spec.Source.Product != want || own {
					t.Errorf("%s: product %q and rule %q, want product %q and no rule of the receiver", source, a.spec.Source.Product, a.spec.Source.Rule, want)
				}
			}
		}
	}
}

// TestLargeReport keeps the worst results of a report that has too many.
func TestLargeReport(t *testing.T) {
	var results []map[string]any
	for n := range 3000 {
		severity := "low"
		if n%20 == 0 {
			severity = "critical"
		}
		results = append(results, map[string]any{"policy": fmt.Sprint("p", n), "result": "fail", "severity": severity, "timestamp": map[string]any{"seconds": testTime.Unix() - int64(n)}})
	}
	body, err := json.Marshal(map[string]any{"kind": "PolicyReport", "metadata": map[string]any{"name": "r", "namespace": "shop", "uid": "u"}, "results": results})
	if err != nil {
		t.Fatal(err)
	}
	alerts, _, err := parseReport(testReport(body), reportSource(t, nil))
	if err != nil || len(alerts) > maxBatch {
		t.Fatalf("%d alerts, error %v, want at most %d", len(alerts), err, maxBatch)
	}
	critical := 0
	for _, a := range alerts {
		checkSchema(t, &a.alert)
		if a.spec.Severity == v1alpha1.SeverityCritical {
			critical++
		}
	}
	last := alerts[len(alerts)-1]
	if want := fmt.Sprint(3000 - (len(alerts) - 1)); critical != 150 || last.spec.Source.Rule != ruleTruncated || string(last.spec.Attributes["report.leftOut"]) != want {
		t.Errorf("%d critical results of 150 were kept; the last alert is %s of %s left out, want %s", critical, last.spec.Source.Rule, last.spec.Attributes["report.leftOut"], want)
	}
}

func TestReportSourcesAreChecked(t *testing.T) {
	for name, test := range map[string]struct{ file, says string }{
		"no domain":       {"reports: [{namespaces: [shop]}]", "domain must be a namespace"},
		"nothing":         {"reports: [{domain: security}]", "namespaces must name at least one"},
		"star and name":   {"reports: [{domain: security, namespaces: ['*', shop]}]", "'*' alone"},
		"twice":           {"reports: [{domain: security, namespaces: [shop, shop]}]", "each once"},
		"twice the same":  {"reports: [{domain: security, namespaces: [shop]}, {domain: security, namespaces: [shop]}]", "read once only"},
		"twice by star":   {"reports: [{domain: security, namespaces: ['*']}, {domain: security, namespaces: [shop]}]", "read once only"},
		"star after":      {"reports: [{domain: security, namespaces: [shop]}, {domain: security, namespaces: ['*']}]", "read once only"},
		"bad namespace":   {"reports: [{domain: security, namespaces: [Shop]}]", `hold "Shop"`},
		"bad selector":    {"reports: [{domain: security, namespaces: [shop], selector: 'a b c'}]", "selector must be"},
		"bad result":      {"reports: [{domain: security, namespaces: [shop], results: [pass]}]", "fail, warn and error"},
		"bad severity":    {"reports: [{domain: security, namespaces: [shop], minimumSeverity: high}]", "minimumSeverity must be"},
		"bad age":         {"reports: [{domain: security, namespaces: [shop], maxAge: 1m}]", "at least 1h"},
		"bad cluster":     {"reports: [{domain: security, clusterReports: Yes please}]", "clusterReports must be"},
		"unknown":         {"reports: [{domain: security, namespace: shop}]", "namespace"},
		"too many":        {"reports: [{domain: security, namespaces: [" + manyNames(maxReportNamespaces+1) + "]}]", "at most 256 namespaces"},
		"too many of all": {"reports: [" + strings.Repeat("{domain: a, clusterReports: Watch},", maxReportSources+1) + "]", "at most 64"},
	} {
		if _, err := parseFormats([]byte(test.file)); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: error %v, want one that says %q", name, err, test.says)
		}
	}
	all, err := parseFormats([]byte("reports: [{domain: security, namespaces: [shop]}, {domain: tenant, namespaces: [shop], clusterReports: Watch}]"))
	if err != nil || len(all.reports) != 2 || all.reports[1].ClusterReports != clusterReportsWatch || all.reports[0].MaxAge.Duration != defaultReportAge {
		t.Errorf("two domains that read one namespace: %+v, error %v", all, err)
	}
}

func manyNames(count int) string {
	names := make([]string, count)
	for i := range names {
		names[i] = fmt.Sprint("n", i)
	}
	return strings.Join(names, ",")
}
