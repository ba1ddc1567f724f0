package receiver

import (
	"strings"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const policyReporterProduct = "policy-reporter"

// policyReporterFormat is the body of Policy Reporter's webhook target: one result
// of a policy report, or a heartbeat.
type policyReporterFormat struct{}

func (policyReporterFormat) parse(r report) (parsed, error) {
	o, err := parseObject(r.body, "")
	if err != nil {
		return parsed{}, err
	}
	all := batch{product: policyReporterProduct}
	if event, err := o.text("event"); err != nil {
		return parsed{}, err
	} else if event == "heartbeat" {
		all.skip(1, "a heartbeat")
		return all.finish(true)
	}
	texts := map[string]string{}
	for _, key := range []string{"policy", "rule", "message", "priority", "status", "severity", "category", "source"} {
		if texts[key], err = o.text(key); err != nil {
			return parsed{}, err
		}
	}
	if clean(texts["policy"], maxName) == "" {
		return parsed{}, fieldProblem("/policy", "must be the name of the policy that was not kept, is empty")
	}
	switch result := strings.ToLower(texts["status"]); result {
	case "", "fail", "warn", "error":
	case "pass", "skip":
		all.skip(1, "a result that is `pass` or `skip`")
		return all.finish(true)
	default:
		return parsed{}, fieldProblem("/status", "must be one of pass, fail, warn, error, skip, is '%s'", clean(result, 32))
	}
	a, err := policyResult(r, o, texts)
	if err != nil {
		return parsed{}, err
	}
	return parsed{alerts: []alert{a}}, nil
}

func policyResult(r report, o object, texts map[string]string) (alert, error) {
	rule := texts["policy"]
	if texts["rule"] != "" && texts["rule"] != rule {
		rule += "/" + texts["rule"]
	}
	d := r.draft(first(texts["source"], policyReporterProduct), rule, r.body)
	d.texts(first(texts["message"], rule), "")
	d.severity(texts["severity"], texts["priority"])
	at, err := o.time("creationTimestamp")
	if err != nil {
		return alert{}, err
	}
	d.observed(at)
	ref, err := o.object("resource")
	if err != nil {
		return alert{}, err
	}
	subject, err := readReference(ref)
	if err != nil {
		return alert{}, err
	}
	d.resource(subject)
	if _, err = o.flag("scored", true); err != nil {
		return alert{}, err
	}
	properties, err := o.object("properties")
	if err != nil {
		return alert{}, err
	}
	for _, key := range []string{"policy", "rule", "status", "severity", "priority", "category", "source"} {
		d.attributes.add("policy-reporter."+key, texts[key])
	}
	d.attributes.addFields("resource.", ref.fields)
	d.attributes.add("policy-reporter.scored", o.flat("scored"))
	d.attributes.addFields("properties.", properties.fields)
	return d.finish(texts["policy"], texts["rule"], first(string(subject.UID),
		strings.Join([]string{subject.APIVersion, subject.Kind, subject.Namespace, subject.Name}, "/"))), nil
}

// readReference reads an object reference as Kubernetes writes it.
func readReference(o object) (v1alpha1.ResourceReference, error) {
	var ref v1alpha1.ResourceReference
	var uid string
	for _, field := range []struct {
		key  string
		into *string
	}{{"apiVersion", &ref.APIVersion}, {"kind", &ref.Kind}, {"namespace", &ref.Namespace}, {"name", &ref.Name}, {"uid", &uid}} {
		var err error
		if *field.into, err = o.text(field.key); err != nil {
			return v1alpha1.ResourceReference{}, err
		}
	}
	ref.UID = v1alpha1.ObjectUID(uid)
	return ref, nil
}
