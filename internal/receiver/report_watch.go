package receiver

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// reportsCounter is the name under which all receivers count results together. No
	// receiver may have it.
	reportsCounter = "policy-reports"

	// reportPage is of how many reports is read at a time which they are. The reports themselves are
	// read one at a time: each may be as large as an object can be.
	reportPage = 50
	// reportMakerLabel is the label by which reports say what makes them.
	reportMakerLabel = "app.kubernetes.io/managed-by"
	// maxReported is how many results are remembered, so that a new look costs nothing. What is
	// forgotten costs two calls, and is not counted again.
	maxReported = 65536

	// reportPause and longestReportPause are between looks at what could not be read.
	reportPause, longestReportPause = time.Second, 30 * time.Second
	// watchSeconds is how long one watch lasts, so that a right that was taken away does not outlive it.
	watchSeconds = 290
)

// reportKinds are the kinds of reports; whether they are installed shows when they are read.
var reportKinds = []struct {
	schema.GroupVersionKind
	scope meta.RESTScope
}{
	{schema.GroupVersionKind{Group: "wgpolicyk8s.io", Version: "v1alpha2", Kind: "PolicyReport"}, meta.RESTScopeNamespace},
	{schema.GroupVersionKind{Group: "wgpolicyk8s.io", Version: "v1alpha2", Kind: "ClusterPolicyReport"}, meta.RESTScopeRoot},
	{schema.GroupVersionKind{Group: "openreports.io", Version: "v1alpha1", Kind: "Report"}, meta.RESTScopeNamespace},
	{schema.GroupVersionKind{Group: "openreports.io", Version: "v1alpha1", Kind: "ClusterReport"}, meta.RESTScopeRoot},
}

// reports reads policy reports and records their failures as alerts. Every receiver reads all
// of them, and whoever is first records: a result has a number that is the same for all of
// them, and the counter that they share holds the highest.
type reports struct {
	client   client.WithWatch
	recorder *recorder
	clock    clock.Clock
	log      logr.Logger
	metrics  *metrics
	// queues are those of the domains, and held is how many bytes are in all of them.
	queues map[string]*reportQueue
	held   atomic.Int64
	// pages has room for one report that is taken apart.
	pages chan struct{}
	// recorded has the highest number recorded of an identity.
	recorded *cache.LRUExpireCache
	targets  []*reportTarget
	// longest is the longest pause between looks at what could not be read.
	longest time.Duration
}

// reportTarget is one kind of reports in one namespace, or in all.
type reportTarget struct {
	source    *ReportSource
	kind      schema.GroupVersionKind
	namespace string // empty is all, or none
	state     atomic.Pointer[string]
}

// The states of a target.
const (
	watchOpen      = "open"
	watchAbsent    = "absent" // its kind is not installed
	watchForbidden = "forbidden"
	watchFailing   = "failing"
)

func newReports(c client.WithWatch, store *clusterStore, h *Handler) *reports {
	shared := *store
	shared.name = reportsCounter
	o := &h.options
	r := &reports{
		client: c, recorder: newRecorder(&shared, reportsCounter, o.Clock, o.Log), clock: o.Clock, log: o.Log, metrics: h.metrics,
		queues: map[string]*reportQueue{}, longest: longestReportPause, pages: make(chan struct{}, 1), recorded: cache.NewLRUExpireCacheWithClock(maxReported, o.Clock),
	}
	for i := range o.Formats.reports {
		source := &o.Formats.reports[i]
		if r.queues[source.Domain] == nil {
			r.queues[source.Domain] = newReportQueue(r, source.Domain)
		}
		for _, kind := range reportKinds {
			switch {
			case kind.scope.Name() == meta.RESTScopeNameNamespace:
				for _, namespace := range source.Namespaces {
					if namespace == allNamespaces {
						namespace = ""
					}
					r.targets = append(r.targets, &reportTarget{source: source, kind: kind.GroupVersionKind, namespace: namespace})
				}
			case source.ClusterReports == clusterReportsWatch:
				r.targets = append(r.targets, &reportTarget{source: source, kind: kind.GroupVersionKind})
			}
		}
	}
	return r
}

// run follows all targets until the context ends.
func (r *reports) run(ctx context.Context) {
	var following sync.WaitGroup
	for _, target := range r.targets {
		following.Go(func() { r.follow(ctx, target) })
	}
	for _, queue := range r.queues {
		following.Go(func() { queue.run(ctx) })
	}
	following.Wait()
}

// in is how many targets are in a state.
func (r *reports) in(state string) (count int) {
	for _, target := range r.targets {
		if is := target.state.Load(); is != nil && *is == state {
			count++
		}
	}
	return count
}

// follow reads the reports of a target, and what becomes of them, for as long as it is asked
// to. A kind that is not installed, and a right that is not given, may come.
func (r *reports) follow(ctx context.Context, t *reportTarget) {
	pause := reportPause
	for ctx.Err() == nil {
		began := r.clock.Now()
		err := r.read(ctx, t)
		if ctx.Err() != nil {
			return
		}
		r.note(t, err)
		if pause = min(2*pause, r.longest); r.clock.Since(began) > longestReportPause {
			pause = min(reportPause, r.longest)
		}
		r.wait(ctx, pause)
	}
}

func (r *reports) wait(ctx context.Context, pause time.Duration) {
	select {
	case <-r.clock.After(pause):
	case <-ctx.Done():
	}
}

// note takes down how it stands with a target, and tells the log when that has changed.
func (r *reports) note(t *reportTarget, err error) {
	state := watchFailing
	switch {
	case err == nil:
		state = watchOpen
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
		state = watchAbsent
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		state = watchForbidden
	case apierrors.IsResourceExpired(err), apierrors.IsGone(err):
		return // it is read anew
	}
	if before := t.state.Swap(&state); before != nil && *before == state {
		return
	}
	log := r.log.WithValues("kind", t.kind.GroupKind().String(), "namespace", t.namespace, "domain", t.source.Domain)
	switch state {
	case watchOpen:
		log.Info("reading policy reports")
	case watchAbsent:
		log.Info("policy reports of this kind are not installed; they are read when they are")
	case watchForbidden:
		log.Error(err, "policy reports cannot be read: config/samples/senders/reports.yaml has the rights that the receiver needs")
	default:
		log.Error(err, "policy reports cannot be read now")
	}
}

// read lists the reports of a target and then watches them, until that fails.
func (r *reports) read(ctx context.Context, t *reportTarget) error {
	version, err := r.list(ctx, t)
	if err != nil {
		return err
	}
	r.note(t, nil)
	for ctx.Err() == nil {
		began := r.clock.Now()
		if version, err = r.watch(ctx, t, version); err != nil {
			return err
		}
		if r.clock.Since(began) < reportPause { // a server that hangs up at once is not asked at once
			r.wait(ctx, reportPause)
		}
	}
	return ctx.Err()
}

func (t *reportTarget) options() *client.ListOptions {
	selector, _ := labels.Parse(t.source.Selector) // it was checked
	return &client.ListOptions{Namespace: t.namespace, LabelSelector: selector}
}

// listOf is a list of the target's kind, with the reports, or only with which they are.
func (t *reportTarget) listOf() *unstructured.UnstructuredList {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(t.kind.GroupVersion().WithKind(t.kind.Kind + "List"))
	return list
}

// list has the reports that there are read and recorded.
func (r *reports) list(ctx context.Context, t *reportTarget) (version string, err error) {
	options := t.options()
	options.Limit = reportPage
	for {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(t.kind.GroupVersion().WithKind(t.kind.Kind + "List"))
		if err := r.page(ctx, list, options); err != nil {
			return "", err
		}
		for i := range list.Items {
			if err := r.queues[t.source.Domain].putUnread(ctx, t.ref(&list.Items[i])); err != nil {
				return "", err
			}
		}
		if options.Continue = list.Continue; options.Continue == "" {
			return list.ResourceVersion, nil
		}
	}
}

func (r *reports) page(ctx context.Context, list client.ObjectList, options *client.ListOptions) error {
	ctx, cancel := context.WithTimeout(ctx, onlyPatience)
	defer cancel()
	return r.client.List(ctx, list, options)
}

// ref says which report it is.
func (t *reportTarget) ref(report metav1.Object) reportRef {
	return reportRef{
		target: t, NamespacedName: types.NamespacedName{Namespace: report.GetNamespace(), Name: report.GetName()},
		maker: report.GetLabels()[reportMakerLabel],
	}
}

// fetch reads a report, by the right to list them. One that has gone has no alerts. The report
// itself is let go.
func (r *reports) fetch(ctx context.Context, ref reportRef) ([]numbered, error) {
	if err := r.take(ctx); err != nil {
		return nil, err
	}
	defer r.give()
	options := ref.target.options()
	options.Namespace, options.FieldSelector = ref.Namespace, fields.OneTermEqualSelector(metav1.ObjectNameField, ref.Name)
	list := ref.target.listOf()
	ctx, cancel := context.WithTimeout(ctx, callTimeout) // others wait to be read
	defer cancel()
	if err := r.page(ctx, list, options); err != nil {
		return nil, err
	}
	var alerts []numbered
	for i := range list.Items {
		alerts = append(alerts, r.alerts(ref.target, &list.Items[i])...)
	}
	return alerts, nil
}

// take waits until no other report is being taken apart; give must follow.
func (r *reports) take(ctx context.Context) error {
	select {
	case r.pages <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *reports) give() { <-r.pages }

// watch has the reports that change recorded, until the watch ends.
func (r *reports) watch(ctx context.Context, t *reportTarget, version string) (last string, err error) {
	options := t.options()
	seconds := int64(watchSeconds)
	options.Raw = &metav1.ListOptions{ResourceVersion: version, AllowWatchBookmarks: true, TimeoutSeconds: &seconds}
	watching, err := r.client.Watch(ctx, t.listOf(), options)
	if err != nil {
		return "", err
	}
	defer watching.Stop()
	for {
		var change watch.Event
		var open bool
		select {
		case change, open = <-watching.ResultChan():
		case <-ctx.Done():
			return version, ctx.Err()
		}
		if !open {
			return version, nil
		}
		if change.Type == watch.Error {
			return "", apierrors.FromObject(change.Object)
		}
		changed, is := change.Object.(*unstructured.Unstructured)
		if !is {
			return "", fmt.Errorf("the watch brought a %T", change.Object)
		}
		next := changed.GetResourceVersion()
		if change.Type == watch.Added || change.Type == watch.Modified {
			if err := r.take(ctx); err != nil {
				return "", err
			}
			alerts := r.alerts(t, changed)
			r.give()
			if err := r.queues[t.source.Domain].put(ctx, t.ref(changed), alerts); err != nil {
				return "", err
			}
		}
		version = next
	}
}

// alerts are those of a report. One that is not valid is its maker's to mend.
func (r *reports) alerts(t *reportTarget, content *unstructured.Unstructured) []numbered {
	body, err := json.Marshal(content.Object)
	if err == nil {
		var alerts []numbered
		alerts, _, err = parseReport(report{body: body, namespace: t.source.Domain, sender: ownUserName, receivedTime: r.clock.Now()}, t.source)
		if err == nil {
			return alerts
		}
	}
	r.log.Error(err, "a policy report cannot be understood", "kind", t.kind.Kind, "namespace", content.GetNamespace(), "name", content.GetName())
	return nil
}

// recordOne records a result. An error means that it is to be tried again.
func (r *reports) recordOne(t *reportTarget, one *numbered, key spoolKey) error {
	o := r.recorder.recordNumbered(t.source.Domain, &one.alert, one.number)
	r.metrics.recorded(formatReports, &o, &one.alert)
	if o.err != nil {
		if passing(o.err, &one.alert) {
			return o.err
		}
		// It is tried again when its report changes, but nothing waits for that.
		r.log.Error(o.err, "a result of a policy report cannot be recorded", "domain", t.source.Domain, "rule", one.spec.Source.Rule)
		return nil
	}
	r.recorded.Add(key, one.number, t.source.MaxAge.Duration+reportWindow)
	return nil
}
