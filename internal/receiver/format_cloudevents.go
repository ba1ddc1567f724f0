package receiver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// cloudEventFalco is the type of Falcosidekick's CloudEvents.
	cloudEventFalco = "falco.rule.output.v1"

	mediaCloudEvent      = "application/cloudevents+json"
	mediaCloudEventBatch = "application/cloudevents-batch+json"
	headerSpecVersion    = "Ce-Specversion"
)

var (
	// quotedPair is an escape within a quoted string of a header (RFC 9110, 5.6.4).
	quotedPair     = regexp.MustCompile(`\\(.)`)
	percentEncoded = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
)

// cloudEventsFormat is an event of CloudEvents 1.0 over HTTP, in binary or structured
// mode or as a batch. Data that is of a format the receiver knows is read as that.
type cloudEventsFormat struct{}

func (cloudEventsFormat) parse(r report) (parsed, error) {
	media, _, _ := mime.ParseMediaType(r.header.Get("Content-Type"))
	switch {
	case media == mediaCloudEventBatch:
		return r.cloudEventBatch()
	case media == mediaCloudEvent:
	case r.header.Get(headerSpecVersion) != "":
		e, err := readCloudEvent(decodedHeader(r.header), r.body, "")
		return r.oneCloudEvent(e, "", err)
	case strings.HasPrefix(media, "application/cloudevents"):
		return parsed{}, problemf(http.StatusUnsupportedMediaType, "media-type", "The media type is not known",
			"The Content-Type must be %s, %s, or that of the data beside the headers `ce-…`, is '%s'.", mediaCloudEvent, mediaCloudEventBatch, clean(media, 64))
	case kindOf(r.body) == "list":
		// A sender that forgot the media type is understood all the same.
		return r.cloudEventBatch()
	}
	e, data, err := readStructured(r.body, "")
	return r.oneCloudEvent(e, data, err)
}

func (r report) oneCloudEvent(e *event.Event, data string, err error) (parsed, error) {
	if err != nil {
		return parsed{}, err
	}
	a, err := r.cloudEvent(e, r.body, data)
	if err != nil {
		return parsed{}, err
	}
	return parsed{alerts: []alert{a}}, nil
}

func (r report) cloudEventBatch() (parsed, error) {
	if kindOf(r.body) != "list" {
		return parsed{}, fieldProblem("", "must be a list of CloudEvents, is %s", describe(r.body))
	}
	items, err := parseList(r.body)
	if err != nil {
		return parsed{}, err
	}
	var all batch
	err = each(items, "", func(raw json.RawMessage, pointer string) error {
		e, data, err := readStructured(raw, pointer)
		if err != nil {
			return all.take(alert{}, pointer, err)
		}
		a, err := r.cloudEvent(e, raw, data)
		return all.take(a, pointer, err)
	})
	if err != nil {
		return parsed{}, err
	}
	return all.finish(true)
}

// readStructured reads an event in structured mode, attributes first: the SDK does
// not name the field that is wrong. It says where its data stands.
func readStructured(raw []byte, pointer string) (e *event.Event, data string, err error) {
	o, err := parseObject(raw, pointer)
	if err != nil {
		return nil, "", err
	}
	for _, key := range []string{"specversion", "id", "source", "type", "subject", "datacontenttype", "dataschema", "data_base64"} {
		text, err := o.text(key)
		if err != nil {
			return nil, "", err
		}
		if err := checkCloudAttribute(o.at(key), key, text); err != nil {
			return nil, "", err
		}
	}
	if _, err := o.time("time"); err != nil {
		return nil, "", err
	}
	// The SDK takes a space before `data_base64` for a part of it.
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		return nil, "", fieldProblem(pointer, "must be JSON: %s", err)
	}
	data = o.at("data")
	if o.there("data_base64") {
		data = o.at("data_base64")
	}
	e, err = readCloudEvent(http.Header{"Content-Type": {mediaCloudEvent}}, compact.Bytes(), pointer)
	return e, data, err
}

// decodedHeader is a header whose attributes are as they were before the HTTP binding (3.1.3.2) had
// them quoted and percent-encoded. What is not encoded so stays, as the SDK for Go sends it.
func decodedHeader(header http.Header) http.Header {
	header = header.Clone()
	for key, values := range header {
		if !strings.HasPrefix(key, "Ce-") {
			continue
		}
		for i, value := range values {
			if within, quoted := strings.CutPrefix(value, `"`); quoted && len(value) > 1 && strings.HasSuffix(within, `"`) {
				value = quotedPair.ReplaceAllString(within[:len(within)-1], "$1")
			}
			values[i] = percentEncoded.ReplaceAllStringFunc(value, func(encoded string) string {
				decoded, _ := url.PathUnescape(encoded) // which the expression says it is
				return decoded
			})
		}
	}
	return header
}

func checkCloudAttribute(at, key, text string) error {
	switch {
	case key == "specversion" && text != event.CloudEventsVersionV1:
		return fieldProblem(at, "must be '1.0', is '%s'", clean(text, 32))
	case text == "" && slices.Contains([]string{"id", "source", "type"}, key):
		return fieldProblem(at, "must not be empty: CloudEvents need `id`, `source`, `type` and `specversion`")
	}
	return nil
}

// readCloudEvent lets the SDK read an event. Of hostile input, the SDK panics at some.
func readCloudEvent(header http.Header, body []byte, pointer string) (e *event.Event, err error) {
	defer func() {
		if recover() != nil {
			e, err = nil, fieldProblem(pointer, "must be a CloudEvent as its specification 1.0 has it")
		}
	}()
	if header.Get("Content-Type") != mediaCloudEvent {
		for _, key := range []string{"specversion", "id", "source", "type"} {
			if text := header.Get("Ce-" + key); checkCloudAttribute("", key, text) != nil {
				return nil, problemf(http.StatusBadRequest, "invalid-input", "The headers are not valid",
					"The headers `ce-id`, `ce-source` and `ce-type` must not be empty, and `ce-specversion` must be '1.0': `ce-%s` is '%s'.", key, clean(text, 64))
			}
		}
	}
	e, err = binding.ToEvent(context.Background(), cehttp.NewMessage(header, io.NopCloser(bytes.NewReader(body))))
	if err == nil {
		err = e.Validate()
	}
	if err != nil {
		return nil, fieldProblem(pointer, "must be a CloudEvent as its specification 1.0 has it: %s", err)
	}
	return e, nil
}

// cloudEvent makes an alert of an event, by its data where that is of a known format. The pointer
// is that of the data.
func (r report) cloudEvent(e *event.Event, raw []byte, pointer string) (alert, error) {
	inner := r
	inner.body = e.Data()
	var data object
	if kindOf(inner.body) == "object" {
		if _, problem := checkValues(inner.body, pointer, maxValues); problem != nil {
			return alert{}, problem
		}
		var err error
		if data, err = parseObject(inner.body, pointer); err != nil {
			return alert{}, err
		}
	}
	var a alert
	var err error
	switch {
	case e.Type() == cloudEventFalco, data.there("rule") && data.there("priority") && data.there("output_fields"):
		a, err = inner.falco(pointer)
	case data.there("class_uid"):
		a, err = inner.ocsf(inner.body, pointer)
	default:
		return r.plainCloudEvent(e, data, raw)
	}
	if err != nil {
		return alert{}, err
	}
	a.spec.RawDataHash, a.delivery = hashOf(raw), deliveryOf(e)
	return a, nil
}

// plainCloudEvent is an event whose data says what it will: `title`, `severity` and
// the like are read by convention, from extensions before data.
func (r report) plainCloudEvent(e *event.Event, data object, raw []byte) (alert, error) {
	extensions := map[string]string{}
	for key, value := range e.Extensions() {
		extensions[key] = fmt.Sprint(value)
	}
	says := func(keys ...string) string {
		for _, key := range keys {
			if text := first(extensions[key], data.flat(key)); text != "" {
				return text
			}
		}
		return ""
	}
	d := r.draft(cloudProduct(e.Source()), e.Type(), raw)
	d.texts(first(says("title", "summary", "message"), e.Subject(), e.Type()), says("description", "message"))
	d.severity(says("severity"), says("priority"), says("level"))
	at := e.Time()
	if !inCalendar(at) {
		at = time.Time{}
	}
	d.observed(at)
	if err := cloudResources(d, data); err != nil {
		return alert{}, err
	}
	d.attributes.add("ce.id", e.ID())
	d.attributes.add("ce.source", e.Source())
	d.attributes.add("ce.type", e.Type())
	d.attributes.add("ce.subject", e.Subject())
	d.attributes.addTexts("ce.", extensions)
	d.attributes.addFields("data.", data.fields)
	if len(data.fields) == 0 {
		text := e.Data()
		if kindOf(text) == "string" && json.Valid(text) {
			text = []byte(textOf(text))
		}
		d.attributes.add("data", string(text[:min(len(text), 4*maxAttributeValue)]))
	}
	if fingerprint := says("fingerprint"); fingerprint != "" {
		a := d.finish("fingerprint", e.Source(), fingerprint)
		a.delivery = deliveryOf(e)
		return a, nil
	}
	a := d.finish("id", e.Source(), e.ID())
	a.single, a.window = true, noWindow
	return a, nil
}

// deliveryOf is by what CloudEvents tell that an event is delivered again: source and id.
func deliveryOf(e *event.Event) string { return digest(e.Source(), e.ID()) }

// cloudResources are the objects that data names as `resource` or `resources`.
func cloudResources(d *draft, data object) error {
	var all []object
	if kindOf(data.fields["resource"]) == "object" {
		one, err := data.object("resource")
		if err != nil {
			return err
		}
		all = append(all, one)
	}
	if kindOf(data.fields["resources"]) == "list" {
		more, err := data.objects("resources")
		if err != nil {
			return err
		}
		all = append(all, more...)
	}
	for _, o := range all {
		d.resource(v1alpha1.ResourceReference{
			APIVersion: o.flat("apiVersion"), Kind: first(kubernetesKind(o.flat("kind")), o.flat("kind")),
			Namespace: o.flat("namespace"), Name: o.flat("name"),
			UID: v1alpha1.ObjectUID(o.flat("uid")), Container: o.flat("container"), Image: o.flat("image"), Node: o.flat("node"),
		})
	}
	return nil
}

// cloudProduct is the product behind a source: the host of a URL, or else the source.
func cloudProduct(source string) string {
	if at, err := url.Parse(source); err == nil && at.Host != "" {
		return at.Host
	}
	return first(strings.Trim(source, "/"), "cloudevents")
}
