package receiver

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	ocsfProduct          = "ocsf"
	ocsfDetectionFinding = 2004
	ocsfSecurityFinding  = 2001
	ocsfActivityClose    = 3
	ocsfFalcoVendor      = "Falcosecurity"
	ocsfUnknown          = 0
	ocsfOther            = 99
	ocsfStatusResolved   = 4
	ocsfStatusDeleted    = 6
)

// ocsfSeverities maps severity_id; 0 (Unknown) and 99 (Other) say none.
var ocsfSeverities = map[int64]v1alpha1.Severity{
	1: v1alpha1.SeverityInformational, 2: v1alpha1.SeverityLow, 3: v1alpha1.SeverityMedium,
	4: v1alpha1.SeverityHigh, 5: v1alpha1.SeverityCritical, 6: v1alpha1.SeverityCritical,
}

// ocsfFormat is a Detection Finding (2004) of OCSF, or its predecessor, the Security
// Finding (2001), or a list of these.
type ocsfFormat struct{}

// ocsfFinding is one finding.
type ocsfFinding struct {
	event, info                  object
	uid, title, description      string
	product, vendor, analytic    string
	message, severity            string
	severityID, activity, status int64
	types                        []string
	observed                     time.Time
}

func (ocsfFormat) parse(r report) (parsed, error) {
	var all batch
	return all.ofBody(r.body, func(raw json.RawMessage, pointer string) error {
		a, err := r.ocsf(raw, pointer)
		return all.take(a, pointer, err)
	})
}

func (r report) ocsf(raw []byte, pointer string) (alert, error) {
	o, err := parseObject(raw, pointer)
	if err != nil {
		return alert{}, err
	}
	class, err := o.integer("class_uid")
	if err != nil {
		return alert{}, err
	}
	key := "finding_info"
	switch class {
	case ocsfDetectionFinding:
	case ocsfSecurityFinding:
		key = "finding"
	default:
		return alert{}, fieldProblem(o.at("class_uid"), "must be 2004 (Detection Finding) or 2001 (Security Finding), is %d", class)
	}
	f, err := readOCSF(o, key)
	if err != nil {
		return alert{}, err
	}
	if a, is := f.falco(r); is {
		a.spec.RawDataHash = hashOf(raw)
		return a, nil
	}
	if f.uid == "" {
		return alert{}, fieldProblem(f.info.at("uid"), "must identify the finding, is empty")
	}
	return f.alert(r, raw)
}

func readOCSF(o object, key string) (*ocsfFinding, error) {
	f := &ocsfFinding{event: o}
	var err error
	if f.info, err = o.object(key); err != nil {
		return nil, err
	}
	metadata, err := o.object("metadata")
	if err != nil {
		return nil, err
	}
	product, err := metadata.object("product")
	if err != nil {
		return nil, err
	}
	analytic, err := f.info.object("analytic")
	if err != nil {
		return nil, err
	}
	for _, field := range []struct {
		in   object
		key  string
		into *string
	}{
		{f.info, "uid", &f.uid}, {f.info, "title", &f.title}, {f.info, "desc", &f.description}, {analytic, "name", &f.analytic},
		{product, "name", &f.product}, {product, "vendor_name", &f.vendor}, {o, "message", &f.message}, {o, "severity", &f.severity},
	} {
		if *field.into, err = field.in.text(field.key); err != nil {
			return nil, err
		}
	}
	for _, field := range []struct {
		key  string
		into *int64
	}{{"severity_id", &f.severityID}, {"activity_id", &f.activity}, {"status_id", &f.status}} {
		if *field.into, err = o.integer(field.key); err != nil {
			return nil, err
		}
	}
	if f.status == 0 { // the older class calls it so
		if f.status, err = o.integer("state_id"); err != nil {
			return nil, err
		}
	}
	if f.types, err = f.info.texts("types"); err != nil {
		return nil, err
	}
	if f.observed, err = o.milliseconds("time"); err == nil && f.observed.IsZero() {
		f.observed, err = f.info.milliseconds("created_time")
	}
	return f, err
}

// falco is the event of Falco that Falcosidekick's Security Lake output wraps: its uid
// is random, and its output fields say more.
func (f *ocsfFinding) falco(r report) (alert, bool) {
	raw := []byte(f.event.flat("raw_data"))
	if f.vendor != ocsfFalcoVendor || kindOf(raw) != "object" || checkShape(raw) != nil {
		return alert{}, false
	}
	r.body = raw
	a, err := r.falco("")
	return a, err == nil
}

func (f *ocsfFinding) alert(r report, raw []byte) (alert, error) {
	if _, known := ocsfSeverities[f.severityID]; !known && f.severityID != ocsfUnknown && f.severityID != ocsfOther {
		return alert{}, fieldProblem(f.event.at("severity_id"), "must be one of 0 to 6 and 99, is %d", f.severityID)
	}
	d := r.draft(first(f.product, ocsfProduct), first(f.analytic, f.title), raw)
	d.texts(first(f.title, f.message, f.uid), first(f.description, f.message))
	if severity, known := ocsfSeverities[f.severityID]; known {
		d.spec.Severity = severity
	} else {
		d.severity(f.severity)
	}
	d.observed(f.observed)
	if err := f.resources(d); err != nil {
		return alert{}, err
	}
	if err := f.attacks(d); err != nil {
		return alert{}, err
	}
	for _, key := range []string{"class_uid", "activity_id", "severity_id", "severity", "status_id", "status", "confidence_id", "risk_level_id", "is_alert"} {
		d.attributes.add("ocsf."+key, f.event.flat(key))
	}
	d.attributes.add("ocsf.finding.uid", f.uid)
	d.attributes.add("ocsf.product", f.product)
	d.attributes.add("ocsf.vendor", f.vendor)
	d.attributes.add("ocsf.types", strings.Join(f.types, ","))
	for _, key := range []string{"device", "actor", "cloud", "observables", "evidences", "remediation", "unmapped"} {
		d.attributes.add("ocsf."+key, f.event.flat(key))
	}
	if f.activity == ocsfActivityClose || f.status >= ocsfStatusResolved && f.status <= ocsfStatusDeleted {
		d.resolve()
	}
	return d.finish(f.uid), nil
}

// resources are the objects it is about; what Kubernetes has no kind for is an asset.
func (f *ocsfFinding) resources(d *draft) error {
	all, err := f.event.objects("resources")
	if err != nil {
		return err
	}
	for _, o := range all {
		owner, err := o.object("owner")
		if err != nil {
			return err
		}
		var name, uid, kind, namespace, person string
		for _, field := range []struct {
			in   object
			key  string
			into *string
		}{{o, "name", &name}, {o, "uid", &uid}, {o, "type", &kind}, {o, "namespace", &namespace}, {owner, "name", &person}} {
			if *field.into, err = field.in.text(field.key); err != nil {
				return err
			}
		}
		known := d.resource(v1alpha1.ResourceReference{Kind: kubernetesKind(kind), Namespace: namespace, Name: name, UID: v1alpha1.ObjectUID(uid)})
		if !known {
			d.asset(assetOther, first(name, uid), person)
		}
	}
	return nil
}

// attacks are those of the finding, or, as the older class has it, of the event. A
// newer attack has one tactic, an older one a list.
func (f *ocsfFinding) attacks(d *draft) error {
	in := f.info
	if !in.there("attacks") {
		in = f.event
	}
	all, err := in.objects("attacks")
	if err != nil {
		return err
	}
	for _, o := range all {
		tactic, err := o.object("tactic")
		if err != nil {
			return err
		}
		older, err := o.objects("tactics")
		if err != nil {
			return err
		}
		if len(tactic.fields) == 0 && len(older) == 1 {
			tactic, older = older[0], nil
		}
		id := ""
		for _, key := range []string{"technique", "sub_technique"} {
			inner, err := o.object(key)
			if err != nil {
				return err
			}
			id = first(inner.flat("uid"), id)
		}
		d.attack(first(tactic.flat("name"), tactic.flat("uid")), id)
		for _, more := range older {
			d.attack(first(more.flat("name"), more.flat("uid")), "")
		}
	}
	return nil
}
