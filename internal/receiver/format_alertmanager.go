package receiver

import (
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	alertmanagerProduct = "alertmanager"
	// ruleTruncated is the rule of the event that says that alerts were left out.
	ruleTruncated = "firebreak/alerts-left-out"
)

// alertmanagerFormat is the body of Alertmanager's webhook, version 4. Where it is
// not one of its defaults, what labels mean is by convention only.
type alertmanagerFormat struct{}

// alertGroup is what the alerts of one body have in common.
type alertGroup struct {
	report
	status, key, receiver, instance string
}

// alertmanagerAlert is one alert of a group.
type alertmanagerAlert struct {
	labels, annotations map[string]string
	status, fingerprint string
	starts, ends        time.Time
}

func (alertmanagerFormat) parse(r report) (parsed, error) {
	o, err := parseObject(r.body, "")
	if err != nil {
		return parsed{}, err
	}
	group, err := readAlertGroup(r, o)
	if err != nil {
		return parsed{}, err
	}
	items, err := o.list("alerts")
	if err != nil {
		return parsed{}, err
	}
	leftOut, err := o.integer("truncatedAlerts")
	if err == nil && leftOut < 0 {
		err = fieldProblem("/truncatedAlerts", "must be a number from 0, is %d", leftOut)
	}
	if err != nil {
		return parsed{}, err
	}
	var all batch
	leftOut = min(leftOut, math.MaxInt32)
	if more := len(items) - (maxBatch - 1); more > 0 {
		items, leftOut = items[:maxBatch-1], leftOut+int64(more)
	}
	err = each(items, "/alerts", func(raw json.RawMessage, pointer string) error {
		a, err := group.alert(raw, pointer)
		return all.take(a, pointer, err)
	})
	if err != nil {
		return parsed{}, err
	}
	if leftOut > 0 {
		all.alerts = append(all.alerts, group.truncated(leftOut))
	}
	return all.finish(true)
}

func readAlertGroup(r report, o object) (*alertGroup, error) {
	if !o.there("alerts") {
		return nil, fieldProblem("/alerts", "must be the list of alerts that Alertmanager itself writes; its webhook_config must not set `payload`")
	}
	group := &alertGroup{report: r}
	var version, external string
	for _, field := range []struct {
		key  string
		into *string
	}{{"version", &version}, {"status", &group.status}, {"groupKey", &group.key}, {"receiver", &group.receiver}, {"externalURL", &external}} {
		var err error
		if *field.into, err = o.text(field.key); err != nil {
			return nil, err
		}
	}
	if version != "" && version != "4" {
		return nil, fieldProblem("/version", "must be '4', is '%s'", clean(version, 32))
	}
	if at, err := url.Parse(external); err == nil {
		group.instance = at.Host
	}
	return group, nil
}

func (g *alertGroup) alert(raw []byte, pointer string) (alert, error) {
	a, err := readAlertmanagerAlert(raw, pointer)
	if err != nil {
		return alert{}, err
	}
	a.status = first(a.status, g.status)
	if a.status != "" && a.status != "firing" && a.status != "resolved" {
		return alert{}, fieldProblem(pointer+"/status", "must be 'firing' or 'resolved', is '%s'", clean(a.status, 32))
	}
	d := g.draft(alertmanagerProduct, a.labels["alertname"], raw)
	d.spec.Source.Instance = clean(g.instance, maxName)
	d.texts(first(a.annotations["summary"], a.annotations["title"], a.annotations["message"], a.annotations["description"], a.labels["alertname"]),
		first(a.annotations["description"], a.annotations["message"], a.annotations["info"]))
	d.severity(a.labels["severity"], a.annotations["severity"], a.labels["priority"])
	if a.labels["source"] == falcoProduct {
		// Falcosidekick folds eight priorities into three severities.
		if severity, known := falcoSeverities[strings.ToLower(a.labels["priority"])]; known {
			d.spec.Severity = severity
		}
	}
	a.subjects(d)
	a.attacks(d)
	d.attributes.add("alertmanager.status", a.status)
	d.attributes.add("alertmanager.fingerprint", a.fingerprint)
	d.attributes.add("alertmanager.groupKey", g.key)
	d.attributes.add("alertmanager.receiver", g.receiver)
	d.attributes.addTexts("labels.", a.labels)
	d.attributes.addTexts("annotations.", a.annotations)
	d.observed(a.starts)
	if a.status == "resolved" {
		d.observed(a.ends)
		d.resolve()
	}
	return a.finish(d), nil
}

// finish is the alert, by Alertmanager's fingerprint of its labels. Of Falco's events, as
// Falcosidekick sends them, these have process ids and times: they are told apart as Falco's own format tells them, and counted once.
func (a *alertmanagerAlert) finish(d *draft) alert {
	if a.labels["source"] == falcoProduct && a.labels["rule"] != "" && a.labels["priority"] != "" {
		finished := d.finish(falcoProduct, a.falco().fingerprint())
		if a.fingerprint != "" {
			finished.delivery = digest(a.fingerprint, a.status, d.spec.ObservedTime.String())
		}
		return finished
	}
	if a.fingerprint == "" {
		labels, _ := json.Marshal(a.labels) // a map of strings always marshals
		return d.finish("labels", string(labels))
	}
	return d.finish("fingerprint", a.fingerprint)
}

// falco is the event of Falco that Falcosidekick made an alert of, its output fields labels.
func (a *alertmanagerAlert) falco() *falcoEvent {
	event := &falcoEvent{
		rule: first(a.labels["rule"], a.labels["alertname"]), source: a.labels["eventsource"], hostname: a.labels["hostname"],
		output: a.annotations["description"], fields: object{fields: map[string]json.RawMessage{}},
	}
	for name, text := range a.labels {
		raw, _ := json.Marshal(text) // a string always marshals
		event.fields.fields[strings.ReplaceAll(name, "_", ".")] = raw
	}
	return event
}

func readAlertmanagerAlert(raw []byte, pointer string) (*alertmanagerAlert, error) {
	o, err := parseObject(raw, pointer)
	if err != nil {
		return nil, err
	}
	a := &alertmanagerAlert{}
	if a.labels, err = o.stringMap("labels"); err != nil {
		return nil, err
	}
	if a.annotations, err = o.stringMap("annotations"); err != nil {
		return nil, err
	}
	if len(a.labels) == 0 && len(a.annotations) == 0 {
		return nil, fieldProblem(o.at("labels"), "must name the alert, is empty")
	}
	if a.status, err = o.text("status"); err != nil {
		return nil, err
	}
	if a.fingerprint, err = o.text("fingerprint"); err != nil {
		return nil, err
	}
	if a.starts, err = o.time("startsAt"); err != nil {
		return nil, err
	}
	a.ends, err = o.time("endsAt")
	return a, err
}

// label is the first label that is set, also under the name it has when the
// scraped target's own label took its place, and that of Falcosidekick.
func (a *alertmanagerAlert) label(names ...string) string {
	for _, name := range names {
		if text := first(a.labels["exported_"+name], a.labels[name]); text != "" {
			return text
		}
	}
	return ""
}

// subjects are the objects that labels name by convention: the pod, or else the workload or the node.
// Without any there is the host that Prometheus asked, which need not be a node of this cluster.
func (a *alertmanagerAlert) subjects(d *draft) {
	namespace := a.label("namespace", "k8s_ns_name", "kubernetes_namespace")
	node := a.label("node", "kubernetes_node")
	d.resource(v1alpha1.ResourceReference{
		Kind: "Pod", Namespace: namespace, Name: a.label("pod", "pod_name", "k8s_pod_name", "kubernetes_pod_name"),
		Container: a.label("container", "container_name"), Node: node, UID: v1alpha1.ObjectUID(a.label("k8s_pod_uid")),
	})
	for _, kind := range []string{"Deployment", "StatefulSet", "DaemonSet", "CronJob"} {
		if len(d.spec.Resources) == 0 {
			d.resource(v1alpha1.ResourceReference{Kind: kind, Namespace: namespace, Name: a.label(strings.ToLower(kind))})
		}
	}
	if len(d.spec.Resources) == 0 {
		d.resource(v1alpha1.ResourceReference{Kind: "Job", Namespace: namespace, Name: a.label("job_name")})
	}
	if len(d.spec.Resources) == 0 {
		d.resource(v1alpha1.ResourceReference{Kind: "Node", Name: node})
	}
	if len(d.spec.Resources) == 0 && !strings.Contains(a.label("instance"), "/") { // or it is an address that was probed
		host := a.label("instance")
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		d.asset(assetDevice, host, "")
	}
}

// attacks are what labels and annotations say of ATT&CK, by convention.
func (a *alertmanagerAlert) attacks(d *draft) {
	for _, texts := range []map[string]string{a.labels, a.annotations} {
		d.tags(splitList(texts["tags"]))
		tactics := splitList(first(texts["mitre_tactic"], texts["mitre_tactics"]))
		techniques := splitList(first(texts["mitre_technique"], texts["mitre_techniques"]))
		if len(tactics) == 1 && len(techniques) == 1 {
			d.attack(tactics[0], techniques[0])
			continue
		}
		for _, tactic := range tactics {
			d.attack(tactic, "")
		}
		for _, id := range techniques {
			d.attack("", id)
		}
	}
}

// splitList is the items of a list written with commas.
func splitList(text string) []string {
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// truncated is the event by which somebody hears of alerts that were left out.
func (g *alertGroup) truncated(count int64) alert {
	d := g.draft(alertmanagerProduct, ruleTruncated, g.body)
	d.spec.Source.Instance = clean(g.instance, maxName)
	d.texts(fmt.Sprintf("%d alerts of one group were left out", count),
		fmt.Sprintf("Of group %s, %d alerts were not sent or not recorded. At most %d of one request are recorded: "+
			"let `group_by` of Alertmanager's route make smaller groups, and raise `max_alerts` of its webhook_config to %d, or to 0 for all.",
			clean(g.key, maxTitle), count, maxBatch-1, maxBatch-1))
	d.spec.Severity = v1alpha1.SeverityMedium
	d.attributes.add("alertmanager.truncatedAlerts", fmt.Sprint(count))
	d.attributes.add("alertmanager.groupKey", g.key)
	d.observed(time.Time{})
	return d.finish("truncated", g.key)
}
