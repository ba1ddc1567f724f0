package receiver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	sigsjson "sigs.k8s.io/json"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// maxListItems is how many events one body may hold.
const maxListItems = 256

// nativeFormat is a SecurityEvent as JSON, its spec alone, or a list of these.
// Events are named by the receiver, so a manifest's name is not used.
type nativeFormat struct{}

// manifest is as much of a SecurityEvent as a sender may write.
type manifest struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name              string `json:"name"`
		GenerateName      string `json:"generateName"`
		Namespace         string `json:"namespace"`
		CreationTimestamp any    `json:"creationTimestamp"`
	} `json:"metadata"`
	Spec v1alpha1.SecurityEventSpec `json:"spec"`
}

func (nativeFormat) parse(r report) (parsed, error) {
	if kindOf(r.body) != "list" {
		a, err := r.native(r.body, "")
		return parsed{alerts: []alert{a}}, err
	}
	var items []json.RawMessage
	if err := json.Unmarshal(r.body, &items); err != nil {
		return parsed{}, syntaxProblem(err)
	}
	if len(items) == 0 || len(items) > maxListItems {
		return parsed{}, fieldProblem("", "must be a list of 1 to %d events, holds %d", maxListItems, len(items))
	}
	all := parsed{list: true, alerts: make([]alert, 0, len(items))}
	for i, item := range items {
		a, err := r.native(item, fmt.Sprintf("/%d", i))
		if err != nil {
			return parsed{}, err
		}
		all.alerts = append(all.alerts, a)
	}
	return all, nil
}

func (r report) native(raw []byte, pointer string) (alert, error) {
	o, err := parseObject(raw, pointer)
	if err != nil {
		return alert{}, err
	}
	a := alert{native: true, pointer: pointer}
	if isManifest(o) {
		a.pointer += "/spec"
		if err := r.checkManifest(o); err != nil {
			return alert{}, err
		}
		var m manifest
		if err := decodeStrict(raw, &m, pointer); err != nil {
			return alert{}, err
		}
		a.spec = m.Spec
	} else {
		if err := checkTime(o); err != nil {
			return alert{}, err
		}
		if err := decodeStrict(raw, &a.spec, pointer); err != nil {
			return alert{}, err
		}
	}
	if err := a.complete(r, raw); err != nil {
		return alert{}, err
	}
	return a, nil
}

func isManifest(o object) bool {
	for _, key := range []string{"apiVersion", "kind", "metadata", "spec", "status"} {
		if _, there := o.fields[key]; there {
			return true
		}
	}
	return false
}

func (r report) checkManifest(o object) error {
	metadata, err := o.object("metadata")
	if err != nil {
		return err
	}
	for _, check := range []struct {
		in          object
		field, want string
	}{
		{o, "apiVersion", v1alpha1.SchemeGroupVersion.String()},
		{o, "kind", "SecurityEvent"},
		{metadata, "namespace", r.namespace},
	} {
		got, err := check.in.text(check.field)
		if err != nil {
			return err
		}
		if got != "" && got != check.want {
			return fieldProblem(check.in.at(check.field), "must be '%s' or absent, is '%s'", check.want, clean(got, 64))
		}
	}
	spec, err := o.object("spec")
	if err != nil {
		return err
	}
	if len(spec.fields) == 0 {
		return fieldProblem(spec.pointer, "must say what happened, is empty")
	}
	return checkTime(spec)
}

// checkTime names the field, which the decoder of times does not.
func checkTime(spec object) error {
	if !spec.there("observedTime") {
		return nil
	}
	raw, text := spec.fields["observedTime"], ""
	if kindOf(raw) != "string" || json.Unmarshal(raw, &text) != nil {
		return fieldProblem(spec.at("observedTime"), "must be a string, is %s", describe(raw))
	}
	if _, err := time.Parse(time.RFC3339, text); err != nil {
		return fieldProblem(spec.at("observedTime"), "must be a time such as '2026-11-21T16:00:00Z', is '%s'", clean(text, 64))
	}
	return nil
}

// complete checks what the schema alone does not say, and fills in what may be absent. What
// the CRD says in CEL (`x-kubernetes-validations`) is here, because validate runs no CEL.
func (a *alert) complete(r report, raw []byte) error {
	spec := &a.spec
	sanitize(spec)
	if err := a.checkWords(); err != nil {
		return err
	}
	if spec.Mode.OrLive() != v1alpha1.ModeLive && spec.Mode != v1alpha1.ModeDrill {
		return fieldProblem(a.pointer+"/mode", "must be Live or Drill, is '%s'", clean(string(spec.Mode), 32))
	}
	if spec.SubmittedBy != "" && spec.SubmittedBy != r.sender {
		return fieldProblem(a.pointer+"/submittedBy", "must be '%s', who sends it, or absent", clean(r.sender, maxName))
	}
	if len(spec.Attributes) > maxAttributes {
		return fieldProblem(a.pointer+"/attributes", "must have at most %d entries, has %d", maxAttributes, len(spec.Attributes))
	}
	for i := range spec.Resources {
		if spec.Resources[i].Kind == "Pod" && spec.Resources[i].Namespace == "" {
			return fieldProblem(fmt.Sprintf("%s/resources/%d/namespace", a.pointer, i), "must be set for kind 'Pod'")
		}
	}
	for key := range spec.Attributes {
		if key == "" || utf8.RuneCountInString(key) > maxAttributeKey || clean(key, maxAttributeKey) != key {
			return fieldProblem(a.pointer+"/attributes/"+escapePointer(clean(key, 64)), "must have a key of 1 to %d printable characters", maxAttributeKey)
		}
	}
	spec.SubmittedBy, spec.Mode = r.sender, saidMode(spec.Mode)
	if spec.Source.Kind == "" {
		spec.Source.Kind = v1alpha1.SourceAutomatic
	}
	if a.undated = spec.ObservedTime.IsZero(); a.undated {
		spec.ObservedTime = metav1.Time{Time: r.receivedTime}
	}
	spec.ObservedTime = metav1.Time{Time: spec.ObservedTime.UTC().Truncate(time.Second)}
	if year := spec.ObservedTime.Year(); year < 1 || year > 9999 {
		return fieldProblem(a.pointer+"/observedTime", "must be a time such as '2026-11-21T16:00:00Z' in UTC's years 1 to 9999")
	}
	if a.unhashed = spec.RawDataHash == ""; a.unhashed {
		spec.RawDataHash = hashOf(raw)
	}
	if spec.Fingerprint == "" {
		spec.Fingerprint = fingerprintOf(spec)
	}
	return nil
}

// checkWords checks what is of a few words, and that there is a title.
func (a *alert) checkWords() error {
	spec := &a.spec
	switch {
	case spec.Title == "":
		return fieldProblem(a.pointer+"/title", "must say in one line what happened, is empty")
	case spec.Severity.Rank() == 0:
		return fieldProblem(a.pointer+"/severity", "must be one of Informational, Low, Medium, High, Critical, is '%s'", clean(string(spec.Severity), 32))
	case spec.Mode.OrLive() != v1alpha1.ModeLive && spec.Mode != v1alpha1.ModeDrill:
		return fieldProblem(a.pointer+"/mode", "must be Live or Drill, is '%s'", clean(string(spec.Mode), 32))
	}
	return nil
}

// sanitize makes the texts of a spec fit for a terminal. It shortens none: what is
// too long is the sender's to mend.
func sanitize(spec *v1alpha1.SecurityEventSpec) {
	line := func(text *string) { *text = clean(*text, len(*text)+1) }
	for _, text := range []*string{&spec.Title, &spec.Source.Product, &spec.Source.Rule, &spec.Source.Instance, &spec.Fingerprint, &spec.Reporter.User, &spec.Reporter.Email} {
		line(text)
	}
	for _, text := range []*string{&spec.Report.Malfunction, &spec.Report.ScreenMessages, &spec.Report.ActionsTaken} {
		*text = cleanLines(*text, len(*text)+1)
	}
	spec.Description = cleanLines(spec.Description, len(spec.Description)+1)
	for key, value := range spec.Attributes {
		spec.Attributes[key] = v1alpha1.AttributeValue(cleanLines(string(value), len(value)+1))
	}
	for i := range spec.Assets {
		line(&spec.Assets[i].Identifier)
		line(&spec.Assets[i].Owner)
	}
	for i := range spec.Attacks {
		line(&spec.Attacks[i].Tactic)
	}
	for i := range spec.Resources {
		line(&spec.Resources[i].Container)
		line(&spec.Resources[i].Image)
		line(&spec.Resources[i].Node)
	}
}

// decodeStrict refuses unknown and repeated fields, naming them.
func decodeStrict(raw []byte, into any, pointer string) error {
	strict, err := sigsjson.UnmarshalStrict(raw, into)
	if err != nil {
		return decodeProblem(err, raw, pointer)
	}
	if len(strict) == 0 {
		return nil
	}
	var field sigsjson.FieldError
	if !errors.As(strict[0], &field) {
		return fieldProblem(pointer, "is not valid: %s", strict[0])
	}
	at := pointer + pointerOf(field.FieldPath())
	switch {
	case strings.HasPrefix(strict[0].Error(), "duplicate"):
		return fieldProblem(at, "must be there once only")
	case strings.HasPrefix(field.FieldPath(), "metadata"), strings.HasPrefix(field.FieldPath(), "status"):
		return fieldProblem(at, "must be absent: of a SecurityEvent a sender may write `apiVersion`, `kind`, `spec`, and `name`, `generateName` and `namespace` of `metadata`")
	}
	return fieldProblem(at, "is not a field of a SecurityEvent; `kubectl explain securityevent.spec` lists those there are")
}

func decodeProblem(err error, raw []byte, pointer string) *Problem {
	var wrongType *json.UnmarshalTypeError
	if !errors.As(err, &wrongType) {
		return syntaxProblem(err)
	}
	return fieldProblem(pointer+pointerAt(raw, wrongType.Offset), "must be %s, is %s", kindOfType(wrongType.Type), decoderWords.Replace("a "+wrongType.Value))
}

// decoderWords are what the decoder calls kinds of values, and what all else here does.
var decoderWords = strings.NewReplacer("a object", "an object", "array", "list", "bool", "boolean")

// kindOfType is what JSON calls values of a type.
func kindOfType(of reflect.Type) string {
	switch of.Kind() {
	case reflect.Pointer:
		return kindOfType(of.Elem())
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	}
	return "a number"
}

// pointerAt is the JSON Pointer of what a decoder read last, when it had read so many bytes. Its
// errors name fields only, neither items of lists nor keys.
func pointerAt(raw []byte, offset int64) string {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	type level struct {
		key     string
		isList  bool
		members int
	}
	var path []level
	for {
		token, err := decoder.Token()
		if err != nil {
			return ""
		}
		if token == json.Delim('}') || token == json.Delim(']') {
			path = path[:len(path)-1]
			continue
		}
		if last := len(path) - 1; last >= 0 {
			in := &path[last]
			if in.members++; in.isList {
				in.key = itoa(in.members - 1)
			} else if in.members%2 == 1 {
				in.key, _ = token.(string)
				continue
			}
		}
		if decoder.InputOffset() >= offset {
			break
		}
		if delim, opens := token.(json.Delim); opens {
			path = append(path, level{isList: delim == '['})
		}
	}
	pointer := ""
	for _, in := range path {
		pointer += "/" + escapePointer(in.key)
	}
	return pointer
}
