package receiver

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// formatReports is what reports that are watched are called in metrics.
	formatReports = "reports"
	// reportProduct stands in where a report does not say what made it.
	reportProduct = "policy-report"

	// ownRules is how rules of the receiver begin, and reportedPrefix what is put before names
	// in reports that would be its own.
	ownRules, reportedPrefix = "firebreak/", "report:"

	resultFail, resultWarn, resultError = "fail", "warn", "error"
	resultPass, resultSkip              = "pass", "skip"

	// reportWindow is for how long a result that goes on failing is one event: scanners write
	// reports anew with every look.
	reportWindow = 24 * time.Hour
	// noWindow is for what is one event whenever it is seen.
	noWindow = -1

	// firstSecond is before any report was written, and maxAhead how far a clock may be ahead.
	// Falcosidekick writes the seconds of the minute where a time belongs.
	firstSecond, maxAhead = 946684800, 10 * time.Minute
)

// errOld, errMild and errPassed say why a result is no alert.
var (
	errOld    = errors.New("an old result")
	errMild   = errors.New("a result below the least severity")
	errPassed = errors.New("a result that is no failure")
)

// policyReport is what the results of one report have in common.
type policyReport struct {
	report
	from                           *ReportSource
	kind, name, space, uid, source string
	scope                          v1alpha1.ResourceReference
}

// numbered is an alert with the number that its result has for every receiver: its time.
// Results without a time that can be believed have none, and are recorded once a report.
type numbered struct {
	alert
	number int64
}

// parseReport makes alerts of the results of a report that its source asks for.
func parseReport(r report, from *ReportSource) (alerts []numbered, skipped []Skipped, err error) {
	if problem := checkShape(r.body); problem != nil {
		return nil, nil, problem
	}
	o, err := parseObject(r.body, "")
	if err != nil {
		return nil, nil, err
	}
	p := &policyReport{report: r, from: from}
	if err := p.read(o); err != nil {
		return nil, nil, err
	}
	results, err := o.list("results")
	if err != nil {
		return nil, nil, err
	}
	var all reportBatch
	for i, raw := range results {
		p.result(&all, raw, fmt.Sprintf("/results/%d", i))
	}
	return p.finish(&all), all.skipped, nil
}

func (p *policyReport) read(o object) error {
	metadata, err := o.object("metadata")
	if err != nil {
		return err
	}
	for _, field := range []struct {
		in   object
		key  string
		into *string
	}{
		{o, "kind", &p.kind}, {o, "source", &p.source},
		{metadata, "name", &p.name}, {metadata, "namespace", &p.space}, {metadata, "uid", &p.uid},
	} {
		if *field.into, err = field.in.text(field.key); err != nil {
			return err
		}
	}
	scope, err := o.object("scope")
	if err != nil {
		return err
	}
	p.scope, err = readReference(scope)
	return err
}

// reportBatch is a batch whose alerts have numbers.
type reportBatch struct {
	batch
	alerts  []numbered
	leftOut int
	latest  time.Time
}

// add keeps as many alerts as a body may bring, the worst of them.
func (b *reportBatch) add(a numbered, at time.Time) {
	if len(b.alerts) == maxBatch {
		b.keepWorst(maxBatch / 2)
	}
	b.alerts = append(b.alerts, a)
	if at.After(b.latest) {
		b.latest = at
	}
}

func (b *reportBatch) keepWorst(count int) {
	slices.SortStableFunc(b.alerts, func(x, y numbered) int { return y.spec.Severity.Rank() - x.spec.Severity.Rank() })
	b.leftOut += len(b.alerts) - count
	b.alerts = b.alerts[:count:count]
}

// result adds the alerts of one result: one for each object it is about.
func (p *policyReport) result(all *reportBatch, raw []byte, pointer string) {
	o, err := parseObject(raw, pointer)
	if err != nil {
		all.skip(1, "a result that is not valid")
		return
	}
	subjects, err := o.objects("resources")
	if err != nil {
		all.skip(1, "a result that is not valid")
		return
	}
	refs := []v1alpha1.ResourceReference{p.scope}
	if len(subjects) > 0 {
		refs = refs[:0]
	}
	for _, subject := range subjects {
		ref, err := readReference(subject)
		if err != nil {
			all.skip(1, "a result that is not valid")
			return
		}
		refs = append(refs, ref)
	}
	for _, ref := range refs {
		a, at, err := p.alert(o, p.placed(ref), raw)
		switch {
		case errors.Is(err, errOld), errors.Is(err, errMild), errors.Is(err, errPassed):
			all.skip(1, err.Error())
		case err != nil:
			all.skip(1, "a result that is not valid")
		default:
			all.add(a, at)
		}
	}
}

// alert is the alert of a result about one object, with the time of the result.
func (p *policyReport) alert(o object, ref v1alpha1.ResourceReference, raw []byte) (numbered, time.Time, error) {
	texts := map[string]string{}
	var err error
	for _, key := range []string{"policy", "rule", "message", "result", "severity", "category", "source"} {
		if texts[key], err = o.text(key); err != nil {
			return numbered{}, time.Time{}, err
		}
	}
	properties, err := o.object("properties")
	if err != nil {
		return numbered{}, time.Time{}, err
	}
	at, err := p.timeOf(o)
	switch {
	case err != nil:
		return numbered{}, time.Time{}, err
	case clean(texts["policy"], maxName) == "":
		return numbered{}, time.Time{}, fieldProblem(o.at("policy"), "must be the name of the policy that was not kept, is empty")
	case !slices.Contains(p.from.Results, strings.ToLower(texts["result"])):
		return numbered{}, time.Time{}, errPassed
	case !at.IsZero() && p.receivedTime.Sub(at) > p.from.MaxAge.Duration:
		return numbered{}, time.Time{}, errOld
	}
	rule := texts["policy"]
	if texts["rule"] != "" && texts["rule"] != rule {
		rule += "/" + texts["rule"]
	}
	d := p.draft(first(texts["source"], p.source, reportProduct), rule, raw)
	d.notOurs()
	d.texts(first(texts["message"], rule), "")
	d.severity(texts["severity"], properties.flat("severity"))
	if d.spec.Severity.Rank() < p.from.MinimumSeverity.Rank() {
		return numbered{}, time.Time{}, errMild
	}
	d.observed(at)
	p.about(d, ref)
	for _, key := range []string{"policy", "rule", "result", "severity", "category"} {
		d.attributes.add("report."+key, texts[key])
	}
	p.describe(d)
	d.attributes.add("report.scored", o.flat("scored"))
	d.attributes.add("resource.kind", ref.Kind)
	d.attributes.add("resource.namespace", ref.Namespace)
	d.attributes.add("resource.name", ref.Name)
	d.attributes.addFields("properties.", properties.fields)
	subject := first(string(ref.UID), strings.Join([]string{ref.APIVersion, ref.Kind, ref.Namespace, ref.Name}, "/"))
	if ref.Name == "" {
		subject = strings.Join([]string{p.kind, p.space, p.name}, "/")
	}
	return p.number(d, at, o.flat("timestamp"), texts["policy"], texts["rule"], subject), at, nil
}

// placed is a reference with the namespace that it leaves out: that of the report.
func (p *policyReport) placed(ref v1alpha1.ResourceReference) v1alpha1.ResourceReference {
	if ref.Namespace == "" && apiVersionOf(ref.Kind) != "" && !slices.Contains(clusterScoped, ref.Kind) {
		ref.Namespace = p.space
	}
	return ref
}

// about adds an object. Who may write reports in a namespace speaks for its objects only.
func (p *policyReport) about(d *draft, ref v1alpha1.ResourceReference) {
	if p.space != "" && (slices.Contains(clusterScoped, ref.Kind) || ref.Namespace != p.space) {
		return
	}
	d.resource(ref)
}

// notOurs keeps what a report says apart from what the receiver itself has to say, under whose
// name both are submitted.
func (d *draft) notOurs() {
	source := &d.spec.Source
	if notInName.ReplaceAllString(source.Product, "") == ownProduct { // also where it only looks like it
		source.Product = reportedPrefix + ownProduct
	}
	if strings.HasPrefix(source.Rule, ownRules) {
		source.Rule = clean(reportedPrefix+source.Rule, maxName)
	}
}

// describe adds which report it is.
func (p *policyReport) describe(d *draft) {
	d.attributes.add("report.kind", p.kind)
	d.attributes.add("report.namespace", p.space)
	d.attributes.add("report.name", p.name)
}

// number makes the alert. Its fingerprint is of the report's namespace, so that nobody who
// writes reports in one can name what is reported in another, and of the parts; where there is
// no time, also of the report, so that every receiver, whenever it reads it, takes it for the
// same.
func (p *policyReport) number(d *draft, at time.Time, said string, parts ...string) numbered {
	parts = append([]string{p.space}, parts...)
	if at.IsZero() {
		a := d.finish(append(parts, p.uid, said)...)
		a.window, a.single = noWindow, true
		return numbered{alert: a}
	}
	a := d.finish(parts...)
	a.window = reportWindow
	return numbered{alert: a, number: at.UnixMicro()}
}

// timeOf is when a result was found; zero when that is not said, or cannot be believed.
func (p *policyReport) timeOf(o object) (time.Time, error) {
	stamp, err := o.object("timestamp")
	if err != nil {
		return time.Time{}, err
	}
	seconds, err := stamp.integer("seconds")
	if err != nil {
		return time.Time{}, err
	}
	nanos, err := stamp.integer("nanos")
	if err != nil {
		return time.Time{}, err
	}
	if seconds < firstSecond || seconds > p.receivedTime.Add(maxAhead).Unix() || nanos < 0 || nanos >= int64(time.Second) {
		return time.Time{}, nil
	}
	return time.Unix(seconds, nanos), nil
}

// finish are the alerts, with one that says how many had no room.
func (p *policyReport) finish(all *reportBatch) []numbered {
	if all.leftOut == 0 {
		return all.alerts
	}
	if len(all.alerts) == maxBatch {
		all.keepWorst(maxBatch / 2)
	}
	d := p.draft(first(p.source, reportProduct), ruleTruncated, p.body)
	d.notOurs()
	d.spec.Source.Rule = ruleTruncated // this is the receiver's own word
	d.texts(fmt.Sprintf("%d results of one report were left out", all.leftOut),
		fmt.Sprintf("Of one report, at most %d results are recorded, of more the %d that are worst. `minimumSeverity` and `results` of the receiver's `reports` ask for fewer.", maxBatch, maxBatch/2))
	d.spec.Severity = v1alpha1.SeverityMedium
	d.observed(all.latest)
	p.about(d, p.placed(p.scope))
	p.describe(d)
	d.attributes.add("report.leftOut", itoa(all.leftOut))
	return append(all.alerts, p.number(d, all.latest, "", "truncated", p.kind, p.space, p.name))
}
