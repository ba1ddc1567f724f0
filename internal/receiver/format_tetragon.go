package receiver

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const tetragonProduct = "tetragon"

// tetragonAlerts are the kinds of events that a tracing policy makes; the others tell
// what goes on, not that it should not.
var tetragonAlerts = []string{"process_kprobe", "process_tracepoint", "process_uprobe", "process_lsm", "process_usdt"}

// tetragonPlaces are the fields that say where in the kernel or a program it fired.
var tetragonPlaces = []string{"function_name", "subsys", "event", "path", "symbol", "provider", "name"}

// tetragonFormat is Tetragon's export, as a shipper such as Fluent Bit posts it: one
// event, a list of them, or one on each line.
type tetragonFormat struct{}

// tetragonEvent is one event of a policy.
type tetragonEvent struct {
	node, policy, message, action, cluster string
	tags                                   []string
	place                                  []string
	event, process, pod, container         object
}

func (tetragonFormat) parse(r report) (parsed, error) {
	all := batch{product: tetragonProduct}
	take := func(raw json.RawMessage, pointer string) error {
		a, skipped, err := r.tetragon(raw, pointer)
		if skipped != "" {
			all.skip(1, skipped)
			return nil
		}
		return all.take(a, pointer, err)
	}
	return all.ofBody(r.body, take)
}

// tetragon makes an alert of an event, or says why it is none.
func (r report) tetragon(raw []byte, pointer string) (a alert, skipped string, err error) {
	o, err := parseObject(raw, pointer)
	if err != nil {
		return alert{}, "", err
	}
	kind := ""
	for _, key := range slices.Sorted(maps.Keys(o.fields)) {
		if o.there(key) && (strings.HasPrefix(key, "process_") || key == "rate_limit_info") {
			kind = key
			break
		}
	}
	switch {
	case kind == "":
		return alert{}, "", fieldProblem(pointer, "must be an event of Tetragon, with a key such as 'process_kprobe'")
	case !slices.Contains(tetragonAlerts, kind):
		return alert{}, "an event that tells what goes on, not one of a tracing policy", nil
	}
	e, err := readTetragon(o, kind)
	if err != nil {
		return alert{}, "", err
	}
	if e.policy == "" {
		return alert{}, "an event without `policy_name`, not one of a tracing policy", nil
	}
	a, err = e.alert(r, o, raw)
	return a, "", err
}

func readTetragon(o object, kind string) (*tetragonEvent, error) {
	e := &tetragonEvent{}
	var err error
	if e.event, err = o.object(kind); err != nil {
		return nil, err
	}
	if e.process, err = e.event.object("process"); err != nil {
		return nil, err
	}
	if e.pod, err = e.process.object("pod"); err != nil {
		return nil, err
	}
	if e.container, err = e.pod.object("container"); err != nil {
		return nil, err
	}
	for _, field := range []struct {
		in   object
		key  string
		into *string
	}{
		{o, "node_name", &e.node}, {o, "cluster_name", &e.cluster},
		{e.event, "policy_name", &e.policy}, {e.event, "message", &e.message}, {e.event, "action", &e.action},
	} {
		if *field.into, err = field.in.text(field.key); err != nil {
			return nil, err
		}
	}
	if e.tags, err = e.event.texts("tags"); err != nil {
		return nil, err
	}
	for _, key := range tetragonPlaces {
		if text := e.event.flat(key); text != "" {
			e.place = append(e.place, text)
		}
	}
	return e, nil
}

func (e *tetragonEvent) alert(r report, o object, raw []byte) (alert, error) {
	at, err := o.time("time")
	if err != nil {
		return alert{}, err
	}
	image, err := e.container.object("image")
	if err != nil {
		return alert{}, err
	}
	binary := e.process.flat("binary")
	d := r.draft(tetragonProduct, e.policy, raw)
	d.spec.Source.Instance = clean(e.node, maxName)
	d.texts(first(e.message, strings.TrimSpace(e.policy+": "+strings.Join(e.place, " "))+" by "+first(binary, "an unknown program")), "")
	d.severity(taggedSeverities(e.tags)...)
	d.observed(at)
	d.resource(v1alpha1.ResourceReference{
		Kind: "Pod", Namespace: e.pod.flat("namespace"), Name: e.pod.flat("name"), UID: v1alpha1.ObjectUID(e.pod.flat("uid")),
		Container: e.container.flat("name"), Image: first(image.flat("id"), image.flat("name")), Node: e.node,
	})
	d.tags(e.tags)
	e.describe(d)
	where := []string{e.pod.flat("uid"), e.pod.flat("namespace"), e.pod.flat("name"), e.container.flat("name")}
	if e.pod.flat("name") == "" {
		where = append(where, e.node) // nothing else tells one machine's alert from another's
		d.resource(v1alpha1.ResourceReference{Kind: "Node", Name: e.node})
	}
	return d.finish(append(where, e.policy, strings.Join(e.place, " "), binary)...), nil
}

// describe adds what else is known, what people ask for first before the rest.
func (e *tetragonEvent) describe(d *draft) {
	d.attributes.add("tetragon.policy", e.policy)
	d.attributes.add("tetragon.function", strings.Join(e.place, " "))
	d.attributes.add("tetragon.action", e.action)
	d.attributes.add("tetragon.tags", strings.Join(e.tags, ","))
	d.attributes.add("tetragon.cluster", e.cluster)
	d.attributes.add("args", e.event.flat("args"))
	for _, key := range []string{"binary", "arguments", "pid", "uid", "cwd", "exec_id", "parent_exec_id", "start_time", "docker"} {
		d.attributes.add("process."+key, e.process.flat(key))
	}
	if parent, err := e.event.object("parent"); err == nil {
		d.attributes.add("parent.binary", parent.flat("binary"))
		d.attributes.add("parent.arguments", parent.flat("arguments"))
		d.attributes.add("parent.pid", parent.flat("pid"))
	}
	d.attributes.add("pod.namespace", e.pod.flat("namespace"))
	d.attributes.add("pod.name", e.pod.flat("name"))
	d.attributes.add("pod.workload", e.pod.flat("workload"))
	d.attributes.add("pod.workload_kind", e.pod.flat("workload_kind"))
	d.attributes.add("container.id", e.container.flat("id"))
	d.attributes.add("return", e.event.flat("return"))
}

// taggedSeverities are the severities among tags, such as 'severity.high'. Tetragon has
// no other place for them.
func taggedSeverities(tags []string) []string {
	var words []string
	for _, tag := range tags {
		tag = strings.ToLower(tag)
		if word, is := strings.CutPrefix(tag, "severity"); is && len(word) > 1 && strings.ContainsRune(".:=_-", rune(word[0])) {
			words = append(words, word[1:])
		}
	}
	return words
}
