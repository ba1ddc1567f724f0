package receiver

import (
	"errors"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// maxReportSources is how many sources of reports there may be, and maxReportNamespaces
	// how many namespaces they may name together: each is watched for itself.
	maxReportSources, maxReportNamespaces = 64, 256
	// defaultReportAge is how old a result may be. Scanners look again every few hours.
	defaultReportAge = 24 * time.Hour

	clusterReportsIgnore, clusterReportsWatch = "Ignore", "Watch"
	allNamespaces                             = "*"
)

// ReportSource says whose policy reports (wgpolicyk8s.io and openreports.io) become alerts of
// which domain. What no source names is seen by nobody.
type ReportSource struct {
	// Domain is the namespace of the events. Required.
	Domain string `json:"domain"`
	// Namespaces are those whose reports are read; '*' alone is all of them. The receiver's
	// ServiceAccount must be allowed to list and watch reports there.
	Namespaces []string `json:"namespaces"`
	// ClusterReports says whether reports outside of namespaces are read: 'Watch' or 'Ignore',
	// the default.
	ClusterReports string `json:"clusterReports"`
	// Selector is a label selector of reports, as `kubectl get -l` takes it. Empty is all.
	Selector string `json:"selector"`
	// Results are those that are alerts: of 'fail', 'warn' and 'error'. Default is fail alone.
	Results []string `json:"results"`
	// MinimumSeverity is the lowest severity that is an alert. Default is all.
	MinimumSeverity v1alpha1.Severity `json:"minimumSeverity"`
	// MaxAge is how old a result may be by its timestamp, so that the first start of a receiver
	// does not tell of all there ever was. At least 1h, default 24h.
	MaxAge metav1.Duration `json:"maxAge"`
}

// validateReports checks the sources and fills in what they leave out.
func validateReports(sources []ReportSource) error {
	if len(sources) > maxReportSources {
		return fmt.Errorf("reports must be at most %d, are %d", maxReportSources, len(sources))
	}
	watched, taken := 0, map[string]string{}
	for i := range sources {
		source := &sources[i]
		if err := source.complete(); err != nil {
			return fmt.Errorf("reports[%d]: %w", i, err)
		}
		if watched += len(source.Namespaces); watched > maxReportNamespaces {
			return fmt.Errorf("reports must name at most %d namespaces together: `namespaces: ['*']` is all of them with one watch", maxReportNamespaces)
		}
		for _, namespace := range source.Namespaces {
			for _, same := range []string{namespace, allNamespaces} {
				if taken[source.Domain+"/"+same] != "" || namespace == allNamespaces && taken[source.Domain] != "" {
					return fmt.Errorf("reports[%d]: namespaces must be read once only for domain %s, but %q is read twice", i, source.Domain, namespace)
				}
			}
		}
		for _, namespace := range source.Namespaces {
			taken[source.Domain+"/"+namespace], taken[source.Domain] = "taken", "taken"
		}
	}
	return nil
}

func (s *ReportSource) complete() error {
	switch {
	case !isNamespace(s.Domain):
		return fmt.Errorf("domain must be a namespace, is %q", s.Domain)
	case s.ClusterReports == "":
		s.ClusterReports = clusterReportsIgnore
	case s.ClusterReports != clusterReportsIgnore && s.ClusterReports != clusterReportsWatch:
		return fmt.Errorf("clusterReports must be 'Watch' or 'Ignore', is %q", s.ClusterReports)
	}
	if err := s.checkNamespaces(); err != nil {
		return err
	}
	if _, err := labels.Parse(s.Selector); err != nil {
		return fmt.Errorf("selector must be a label selector such as 'app.kubernetes.io/managed-by=kyverno': %w", err)
	}
	if len(s.Results) == 0 {
		s.Results = []string{resultFail}
	}
	for _, result := range s.Results {
		if !slices.Contains([]string{resultFail, resultWarn, resultError}, result) {
			return fmt.Errorf("results must be of fail, warn and error, hold %q", result)
		}
	}
	if s.MinimumSeverity != "" && s.MinimumSeverity.Rank() == 0 {
		return fmt.Errorf("minimumSeverity must be one of Informational, Low, Medium, High, Critical, is %q", s.MinimumSeverity)
	}
	if s.MaxAge.Duration == 0 {
		s.MaxAge.Duration = defaultReportAge
	}
	if s.MaxAge.Duration < time.Hour {
		return fmt.Errorf("maxAge must be a duration of at least 1h, is %s", s.MaxAge.Duration)
	}
	return nil
}

func (s *ReportSource) checkNamespaces() error {
	if len(s.Namespaces) == 0 && s.ClusterReports == clusterReportsIgnore {
		return errors.New("namespaces must name at least one, or '*', unless clusterReports is 'Watch'")
	}
	for i, namespace := range s.Namespaces {
		if namespace == allNamespaces && len(s.Namespaces) > 1 {
			return errors.New("namespaces must be '*' alone, or names")
		}
		if namespace != allNamespaces && !isNamespace(namespace) || slices.Contains(s.Namespaces[:i], namespace) {
			return fmt.Errorf("namespaces must be names of namespaces, each once, hold %q", namespace)
		}
	}
	return nil
}
