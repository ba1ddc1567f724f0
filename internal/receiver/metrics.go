package receiver

import (
	"net/http"
	"regexp"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const metricsPrefix = "firebreak_receiver_"

// metrics are what a receiver tells Prometheus. Labels are formats, status codes and fixed
// words: no sender makes one.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	alerts   *prometheus.CounterVec
}

// liveHeap is what the last garbage collection has left.
var liveHeap = regexp.MustCompile(`^/gc/heap/live:bytes$`)

func newMetrics(h *Handler) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: metricsPrefix + "requests_total", Help: "Requests by the HTTP status they were answered with.",
		}, []string{"code"}),
		alerts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: metricsPrefix + "alerts_total",
			Help: "Alerts by what became of them: created (a new event), repeated (counted), redelivered (the same delivery again, not counted), spooled (on disk, not yet in the API server), " +
				"refused (answered with an error), shed (to be sent again later; a request whose body was not read counts as one), " +
				"shed_unauthenticated (the same, before anybody knew who it was: too many came with credentials that were not known).",
		}, []string{"format", "outcome"}),
	}
	m.registry.MustRegister(m.requests, m.alerts, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.GoRuntimeMetricsRule{Matcher: liveHeap})))
	m.gauge("api_server_away", "1 while the API server is away or overwhelmed: it is not ready when it is asked for this, the last call said so, or many in a row of one kind were not answered in time, or failed.", func() float64 {
		if h.isAway() {
			return 1
		}
		return 0
	})
	for _, state := range []string{watchOpen, watchAbsent, watchForbidden, watchFailing} {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: metricsPrefix + "report_watches", ConstLabels: prometheus.Labels{"state": state},
			Help: "Watches of policy reports by how it stands with them: open, absent (their kind is not installed), forbidden, failing.",
		}, func() float64 {
			if h.reports == nil {
				return 0
			}
			return float64(h.reports.in(state))
		}))
	}
	if h.spool == nil {
		return m
	}
	state := h.spool.index.state
	m.gauge("spool_items", "Alerts in the spool, taken and not yet in the API server.", func() float64 { return float64(state().items) })
	m.gauge("spool_bytes", "Bytes of the alerts in the spool.", func() float64 { return float64(state().bytes) })
	m.gauge("spool_limit_bytes", "How many bytes of alerts the spool takes.", func() float64 { return float64(state().limit) })
	m.gauge("spool_oldest_seconds", "How long the oldest alert in the spool has been there.", func() float64 {
		if oldest := state().oldest; !oldest.IsZero() {
			return max(0, h.options.Clock.Since(oldest).Seconds())
		}
		return 0
	})
	m.gauge("spool_refused_items", "Alerts that were taken, and then refused by the API server for good; they stay in the spool's file.",
		func() float64 { return float64(state().buried) })
	m.gauge("spool_set_aside_files", "Spools that were damaged at a start, and lie beside the spool until somebody looks at them; alerts in them are not recorded.",
		func() float64 { return float64(setAside(h.options.SpoolFolder)) })
	m.gauge("spool_blocked_items", "Alerts in the spool that the API server answered it does not take (a right, a quota, an admission policy), at the last try; the log says why.",
		func() float64 { return float64(h.drainer.blocked.Load()) })
	m.counter("spool_drained_total", "Alerts that went from the spool into the API server.", func() float64 { return float64(h.drainer.drained.Load()) })
	return m
}

func (m *metrics) gauge(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: metricsPrefix + name, Help: help}, value))
}

func (m *metrics) counter(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: metricsPrefix + name, Help: help}, value))
}

// answered takes down how a request was answered.
func (m *metrics) answered(status int) {
	m.requests.WithLabelValues(strconv.Itoa(status)).Inc()
}

// recorded takes down what became of an alert.
func (m *metrics) recorded(format string, o *outcome, a *alert) {
	word := "repeated"
	switch {
	case o.err != nil && refusal(o.err, a).retryAfter > 0:
		word = "shed"
	case o.err != nil:
		word = "refused"
	case o.spooled:
		word = "spooled"
	case o.again:
		word = "redelivered"
	case o.created:
		word = "created"
	}
	m.alerts.WithLabelValues(format, word).Inc()
}

// shed takes down alerts that there was no room or time for.
func (m *metrics) shed(format string, p *Problem) {
	word := "shed"
	if p.slug() == slugStrangers {
		word = "shed_unauthenticated"
	}
	m.alerts.WithLabelValues(format, word).Add(float64(max(1, p.alerts)))
}

// Metrics serves what a receiver tells Prometheus.
func (h *Handler) Metrics() http.Handler {
	return promhttp.HandlerFor(h.metrics.registry, promhttp.HandlerOpts{})
}
