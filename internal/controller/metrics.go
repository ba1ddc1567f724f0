package controller

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

var (
	overdueEventsMetric = prometheus.NewDesc("firebreak_overdue_events",
		"Events that wait for a person to decide about them for longer than the plan's objectives allow.",
		[]string{"namespace", "severity"}, nil)
	unassessedEventsMetric = prometheus.NewDesc("firebreak_unassessed_events",
		"Events that nobody assesses, as their namespace is not, or no longer, a response domain.",
		[]string{"namespace", "severity"}, nil)
	silentSourceMetric = prometheus.NewDesc("firebreak_source_silent",
		"1 while nothing was heard of an expected source of the plan for longer than its silentAfter, otherwise 0.",
		[]string{"namespace", "product"}, nil)
)

// gatherFor is how long it may take to read what metrics are made of.
const gatherFor = 5 * time.Second

// Metrics are what the manager tells Prometheus of domains. Labels are namespaces of domains and of events,
// severities, and the products that plans expect: no reporter makes one.
type Metrics struct {
	// Reader reads plans from the cache.
	Reader client.Reader
	// Events knows what is overdue.
	Events *SecurityEventReconciler
	// Clock tells the time.
	Clock clock.PassiveClock
}

var _ prometheus.Collector = (*Metrics)(nil)

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- overdueEventsMetric
	descriptions <- unassessedEventsMetric
	descriptions <- silentSourceMetric
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(metrics chan<- prometheus.Metric) {
	for key, count := range m.Events.late.counts() {
		metrics <- prometheus.MustNewConstMetric(overdueEventsMetric, prometheus.GaugeValue, float64(count), key[0], key[1])
	}
	for key, count := range m.Events.unseen.counts() {
		metrics <- prometheus.MustNewConstMetric(unassessedEventsMetric, prometheus.GaugeValue, float64(count), key[0], key[1])
	}
	ctx, cancel := context.WithTimeout(context.Background(), gatherFor)
	defer cancel()
	plans := &v1alpha1.ResponsePlanList{}
	if err := m.Reader.List(ctx, plans); err != nil {
		return // the cache has not begun
	}
	for i := range plans.Items {
		plan := &plans.Items[i]
		silent, _ := silentSources(plan, m.Clock.Now())
		values := map[string]float64{}
		for j := range plan.Spec.ExpectedSources {
			values[plan.Spec.ExpectedSources[j].Product] = 0
		}
		for j := range silent {
			values[silent[j].source.Product] = 1
		}
		for product, value := range values {
			metrics <- prometheus.MustNewConstMetric(silentSourceMetric, prometheus.GaugeValue, value, plan.Namespace, product)
		}
	}
}
