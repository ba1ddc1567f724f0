package receiver

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	trivyProduct = "trivy-operator"
	trivyLabel   = "trivy-operator."
)

// trivyFormat is the body of Trivy-operator's webhook: a report of its own kinds, as
// it is or wrapped with a verb. Each finding of a report, and each control of a benchmark that
// failed, is an alert, the worst first.
type trivyFormat struct{}

// trivyReport is what the findings of one report have in common.
type trivyReport struct {
	report
	kind, name, image, digest, server, version string
	labels                                     map[string]string
	updated                                    time.Time
	subject                                    v1alpha1.ResourceReference
}

// trivyFinding says where a list of findings keeps what an event needs.
type trivyFinding struct {
	list, id, id2 string
	// where are the fields that tell findings of one id in one report apart.
	where []string
	// shown are the fields that become attributes.
	shown []string
}

// trivyFindings are the lists of findings there are. What an exposed secret matched
// is not among the fields: it need not be masked well.
var trivyFindings = []trivyFinding{
	{list: "vulnerabilities", id: "vulnerabilityID", where: []string{"resource", "target"},
		shown: []string{"resource", "installedVersion", "fixedVersion", "score", "primaryLink", "publishedDate", "target", "class", "packageType"}},
	{list: "secrets", id: "ruleID", where: []string{"target"}, shown: []string{"target", "category"}},
	{list: "checks", id: "checkID", id2: "id", shown: []string{"category", "messages", "remediation"}},
}

func (trivyFormat) parse(r report) (parsed, error) {
	o, err := parseObject(r.body, "")
	if err != nil {
		return parsed{}, err
	}
	all := batch{product: trivyProduct}
	if _, wrapped := o.fields["operatorObject"]; wrapped {
		if !o.there("operatorObject") {
			return parsed{}, fieldProblem("/operatorObject", "must be a report of Trivy-operator, is null")
		}
		verb, err := o.text("verb")
		if err != nil {
			return parsed{}, err
		}
		if verb == "delete" {
			all.skip(1, "a report that was deleted")
			return all.finish(true)
		}
		if o, err = o.object("operatorObject"); err != nil {
			return parsed{}, err
		}
	}
	t, content, err := readTrivyReport(r, o)
	if err != nil {
		return parsed{}, err
	}
	if o.there("report") {
		err = t.findings(content, &all)
	} else {
		err = t.compliance(o, &all)
	}
	if err != nil {
		return parsed{}, err
	}
	if len(all.alerts) == 0 {
		why, err := whyNothing(o)
		if err != nil {
			return parsed{}, err
		}
		all.skip(1, why)
	}
	return all.finish(true)
}

// whyNothing is why there are no alerts in a report: there is nothing, or it is only counted.
func whyNothing(o object) (string, error) {
	for _, key := range []string{"report", "status"} {
		inner, err := o.object(key)
		if err != nil {
			return "", err
		}
		summary, err := inner.object("summary")
		if err != nil {
			return "", err
		}
		for _, count := range []string{"criticalCount", "highCount", "mediumCount", "lowCount", "unknownCount", "failCount"} {
			if count := summary.flat(count); count != "" && count != "0" {
				return "a report that counts what it found and does not list it", nil
			}
		}
	}
	return "a report without findings", nil
}

// readTrivyReport reads what a report says of itself. The kind may be missing, when
// the operator took the report from its cache.
func readTrivyReport(r report, o object) (*trivyReport, object, error) {
	t := &trivyReport{report: r}
	fail := func(err error) (*trivyReport, object, error) { return nil, object{}, err }
	if !o.there("report") && !o.there("status") {
		return fail(fieldProblem(o.at("report"), "must be there: the body must be a report of Trivy-operator, as its webhook sends it"))
	}
	var err error
	if t.kind, err = o.text("kind"); err != nil {
		return fail(err)
	}
	metadata, err := o.object("metadata")
	if err != nil {
		return fail(err)
	}
	if t.labels, err = metadata.stringMap("labels"); err != nil {
		return fail(err)
	}
	annotations, err := metadata.stringMap("annotations")
	if err != nil {
		return fail(err)
	}
	namespace, err := metadata.text("namespace")
	if err != nil {
		return fail(err)
	}
	t.name = metadata.flat("name")
	label := func(name string) string { return first(t.labels[trivyLabel+name], annotations[trivyLabel+name]) }
	t.subject = v1alpha1.ResourceReference{
		Kind: label("resource.kind"), Name: label("resource.name"), Container: label("container.name"),
		Namespace: first(label("resource.namespace"), namespace),
	}
	content, err := o.object("report")
	if err != nil {
		return fail(err)
	}
	if t.updated, err = content.time("updateTimestamp"); err != nil {
		return fail(err)
	}
	return t, content, t.readArtifact(content)
}

func (t *trivyReport) readArtifact(content object) error {
	artifact, err := content.object("artifact")
	if err != nil {
		return err
	}
	registry, err := content.object("registry")
	if err != nil {
		return err
	}
	scanner, err := content.object("scanner")
	if err != nil {
		return err
	}
	var repository, tag string
	for _, field := range []struct {
		in   object
		key  string
		into *string
	}{{artifact, "repository", &repository}, {artifact, "tag", &tag}, {artifact, "digest", &t.digest}, {registry, "server", &t.server}, {scanner, "version", &t.version}} {
		if *field.into, err = field.in.text(field.key); err != nil {
			return err
		}
	}
	if repository == "" {
		return nil
	}
	t.image = repository
	if t.server != "" {
		t.image = t.server + "/" + t.image
	}
	if tag != "" {
		t.image += ":" + tag
	}
	if t.digest != "" {
		t.image += "@" + t.digest
	}
	return nil
}

// findings makes an alert of each finding, as far as there is room for the worst.
func (t *trivyReport) findings(content object, all *batch) error {
	passed := 0
	for _, kind := range trivyFindings {
		items, err := content.list(kind.list)
		if err != nil {
			return err
		}
		err = each(items, content.at(kind.list), func(raw json.RawMessage, pointer string) error {
			a, failed, err := t.finding(kind, raw, pointer)
			if err == nil && !failed {
				passed++
				return nil
			}
			return all.takeWorst(a, pointer, err)
		})
		if err != nil {
			return err
		}
	}
	all.skip(passed, "a check that passed")
	all.tell(t.truncated)
	return nil
}

// finding makes an alert of one finding. failed is false for checks that passed.
func (t *trivyReport) finding(kind trivyFinding, raw []byte, pointer string) (a alert, failed bool, err error) {
	o, err := parseObject(raw, pointer)
	if err != nil {
		return alert{}, true, err
	}
	if passed, err := o.flag("success", false); err != nil || passed {
		return alert{}, !passed, err
	}
	texts := map[string]string{}
	for _, key := range []string{kind.id, kind.id2, "severity", "title", "description"} {
		if texts[key], err = o.text(key); err != nil {
			return alert{}, true, err
		}
	}
	id := first(texts[kind.id], texts[kind.id2])
	if clean(id, maxName) == "" {
		return alert{}, true, fieldProblem(o.at(kind.id), "must say what was found, is empty")
	}
	d := t.draft(trivyProduct, id, raw)
	in := strings.TrimSpace(o.flat("resource") + " " + o.flat("installedVersion"))
	title := id
	if in = first(in, o.flat("target")); in != "" {
		title += " in " + in
	}
	if texts["title"] != "" {
		title += ": " + texts["title"]
	}
	d.texts(title, texts["description"])
	d.severity(texts["severity"])
	d.observed(t.updated)
	subject := t.subject
	subject.Image = t.image
	d.resource(subject)
	d.attributes.add("trivy.severity", texts["severity"])
	for _, key := range kind.shown {
		d.attributes.add("trivy."+key, o.flat(key))
	}
	t.describe(d)
	fingerprint := []string{kind.list, id, t.digest, t.subject.Kind, t.subject.Namespace, t.subject.Name, t.subject.Container}
	for _, key := range kind.where {
		fingerprint = append(fingerprint, o.flat(key))
	}
	return d.finish(fingerprint...), true, nil
}

// describe adds what all findings of the report have in common.
func (t *trivyReport) describe(d *draft) {
	d.attributes.add("trivy.kind", t.kind)
	d.attributes.add("trivy.image", t.image)
	d.attributes.add("trivy.digest", t.digest)
	d.attributes.add("trivy.scanner", t.version)
	d.attributes.add("resource.kind", t.subject.Kind)
	d.attributes.add("resource.namespace", t.subject.Namespace)
	d.attributes.add("resource.name", t.subject.Name)
	d.attributes.add("resource.container", t.subject.Container)
}

// truncated is the event by which somebody hears of findings that had no room.
func (t *trivyReport) truncated(count int) alert {
	d := t.draft(trivyProduct, ruleTruncated, t.body)
	d.texts(fmt.Sprintf("%d findings of one report were left out", count),
		fmt.Sprintf("Of one report, at most %d findings are recorded, of more the %d that are worst. Let Trivy-operator report severities from HIGH on only: `trivy.severity: HIGH,CRITICAL`.", maxBatch, maxBatch/2))
	d.spec.Severity = v1alpha1.SeverityMedium
	d.observed(t.updated)
	subject := t.subject
	subject.Image = t.image
	d.resource(subject)
	d.attributes.add("trivy.leftOut", itoa(count))
	t.describe(d)
	return d.finish("truncated", t.kind, t.subject.Kind, t.subject.Namespace, t.subject.Name, t.subject.Container)
}
