package receiver

import (
	"encoding/json"
	"fmt"
	"strings"
)

// trivyControl is a control of a benchmark, such as the CIS's, and how often it failed.
type trivyControl struct {
	id, name, description, severity string
	failed                          int64
	// failures are the first of them, one on each line.
	failures strings.Builder
}

// compliance makes an alert of each control that failed, of a report that looks at the whole
// cluster. It has either the controls with their checks, or how often each failed.
func (t *trivyReport) compliance(o object, all *batch) error {
	status, err := o.object("status")
	if err != nil {
		return err
	}
	if t.updated, err = status.time("updateTimestamp"); err != nil {
		return err
	}
	passed := 0
	for _, from := range []struct {
		report, list string
		read         func(o object) (*trivyControl, error)
	}{{"detailReport", "results", checkedControl}, {"summaryReport", "controlCheck", countedControl}} {
		report, err := status.object(from.report)
		if err != nil {
			return err
		}
		items, err := report.list(from.list)
		if err != nil {
			return err
		}
		err = each(items, report.at(from.list), func(raw json.RawMessage, pointer string) error {
			control, err := readControl(raw, pointer, from.read)
			if err != nil {
				return all.takeWorst(alert{}, pointer, err)
			}
			if control.failed == 0 {
				passed++
				return nil
			}
			return all.takeWorst(t.control(control, raw), pointer, nil)
		})
		if err != nil {
			return err
		}
		if len(items) > 0 {
			break // the other, should it be there too, says the same again
		}
	}
	all.skip(passed, "a control that did not fail")
	all.tell(t.truncated)
	return nil
}

func readControl(raw []byte, pointer string, read func(o object) (*trivyControl, error)) (*trivyControl, error) {
	o, err := parseObject(raw, pointer)
	if err != nil {
		return nil, err
	}
	control, err := read(o)
	if err != nil {
		return nil, err
	}
	for key, into := range map[string]*string{
		"id": &control.id, "name": &control.name, "description": &control.description, "severity": &control.severity,
	} {
		if *into, err = o.text(key); err != nil {
			return nil, err
		}
	}
	if clean(control.id, maxName) == "" {
		return nil, fieldProblem(o.at("id"), "must say which control it is, is empty")
	}
	return control, nil
}

// countedControl has the number alone.
func countedControl(o object) (*trivyControl, error) {
	failed, err := o.integer("totalFail")
	if err == nil && failed < 0 {
		err = fieldProblem(o.at("totalFail"), "must be a number from 0, is %d", failed)
	}
	return &trivyControl{failed: failed}, err
}

// checkedControl has a check for each object that was looked at, of which a large cluster has more
// than are read. What only people can check has none, and the benchmark says what it is taken for.
func checkedControl(o object) (*trivyControl, error) {
	status, err := o.text("status")
	if err != nil {
		return nil, err
	}
	checks, err := o.list("checks")
	if err != nil {
		return nil, err
	}
	control := &trivyControl{}
	err = each(checks[:min(len(checks), maxItems)], o.at("checks"), func(raw json.RawMessage, pointer string) error {
		check, err := parseObject(raw, pointer)
		if err != nil {
			return err
		}
		if passed, err := check.flag("success", false); err != nil || passed {
			return err
		}
		if control.failed++; control.failures.Len() < maxDescription {
			control.failures.WriteString("\n" + clean(check.flat("checkID")+" "+first(check.flat("target"), check.flat("title")), maxTitle))
		}
		return nil
	})
	if control.failed == 0 && strings.EqualFold(status, "FAIL") {
		control.failed = 1
	}
	return control, err
}

func (t *trivyReport) control(control *trivyControl, raw []byte) alert {
	d := t.draft(trivyProduct, strings.Trim(t.name+"/"+control.id, "/"), raw)
	title := strings.TrimSpace(t.name + " " + control.id)
	if control.name != "" {
		title += ": " + control.name
	}
	d.texts(title, strings.TrimSpace(fmt.Sprintf("%s\nFailed: %d", control.description, control.failed)+control.failures.String()))
	d.severity(control.severity)
	d.observed(t.updated)
	d.attributes.add("trivy.kind", t.kind)
	d.attributes.add("trivy.report", t.name)
	d.attributes.add("trivy.severity", control.severity)
	d.attributes.add("trivy.control", control.id)
	d.attributes.add("trivy.failed", fmt.Sprint(control.failed))
	return d.finish("compliance", t.name, control.id)
}
