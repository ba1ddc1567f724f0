package receiver

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// parseOne is the alert of a body that has one.
func parseOne(t *testing.T, wire format, body string) *alert {
	t.Helper()
	what, err := wire.parse(testReport([]byte(body)))
	if err != nil || len(what.alerts) != 1 || what.alerts[0].problem != nil {
		t.Fatalf("%.200s: %+v and error %v, want an alert", body, what.alerts, err)
	}
	return &what.alerts[0]
}

// TestFalcoFingerprintOfPlugins says what tells events of Falco's plugins apart: who did it.
func TestFalcoFingerprintOfPlugins(t *testing.T) {
	for name, test := range map[string]struct {
		source, fields, message string
		otherFields, otherText  string
		same                    bool
	}{
		"audit, another user":      {"k8s_audit", `"ka.target.resource":"pods","ka.target.name":"cart","ka.user.name":"alice"`, "a", `"ka.target.resource":"pods","ka.target.name":"cart","ka.user.name":"mallory"`, "a", false},
		"audit, another verb":      {"k8s_audit", `"ka.verb":"create","ka.user.name":"alice"`, "a", `"ka.verb":"delete","ka.user.name":"alice"`, "a", false},
		"audit, impersonated":      {"k8s_audit", `"ka.user.name":"alice"`, "a", `"ka.user.name":"alice","ka.impuser.name":"bob"`, "a", false},
		"audit, another text":      {"k8s_audit", `"ka.user.name":"alice"`, "a", `"ka.user.name":"alice"`, "b", true},
		"cloud, another user":      {"aws_cloudtrail", `"ct.user":"root"`, "login by root from 1.2.3.4", `"ct.user":"bob"`, "login by bob from 9.9.9.9", false},
		"cloud, later":             {"aws_cloudtrail", `"ct.user":"root"`, "login by root at 16:00:01", `"ct.user":"root"`, "login by root at 16:00:02", true},
		"cloud with pod":           {"custom", `"k8s.pod.name":"cart"`, "a", `"k8s.pod.name":"cart"`, "b", true},
		"system call, another":     {"syscall", `"user.name":"root"`, "a", `"user.name":"bob"`, "b", true},
		"Falcosidekick's word":     {"syscalls", `"user.name":"root"`, "a", `"user.name":"bob"`, "b", true},
		"Falco's own":              {"internal", `"n_evts":1`, "1 dropped", `"n_evts":2`, "2 dropped", true},
		"system call without word": {"", `"user.name":"root"`, "a", `"user.name":"bob"`, "b", true},
	} {
		body := func(fields, text string) string {
			return fmt.Sprintf(`{"rule":"r","priority":"Notice","hostname":"n1","source":%q,"message":%q,"output_fields":{%s}}`, test.source, text, fields)
		}
		one, other := parseOne(t, falcoFormat{}, body(test.fields, test.message)), parseOne(t, falcoFormat{}, body(test.otherFields, test.otherText))
		if got := one.spec.Fingerprint == other.spec.Fingerprint; got != test.same {
			t.Errorf("%s: same fingerprint %t, want %t", name, got, test.same)
		}
	}
}

// TestFalcoByAlertmanager says what tells events of Falco apart that Falcosidekick has sent to
// Alertmanager: what Falco's own format goes by.
func TestFalcoByAlertmanager(t *testing.T) {
	const base = `{"alerts":[{"status":"firing","fingerprint":"f1","startsAt":"2026-11-21T16:00:00Z","labels":{"alertname":"Shell","rule":"Shell","priority":"Notice","source":"falco",` +
		`"eventsource":"syscall","hostname":"n1","k8s_ns_name":"shop","k8s_pod_name":"cart","container_name":"c","proc_pid":"1","evt_time":"1"},"annotations":{"description":"a"}}]}`
	first := parseOne(t, alertmanagerFormat{}, base)
	for name, test := range map[string]struct {
		changes []string // old, new, …
		same    bool     // the same event
		again   bool     // the same delivery
	}{
		"again":                  {nil, true, true},
		"process":                {[]string{`"proc_pid":"1"`, `"proc_pid":"2"`, `"f1"`, `"f2"`, `"evt_time":"1"`, `"evt_time":"2"`}, true, false},
		"later":                  {[]string{"16:00:00Z", "16:00:01Z"}, true, false},
		"without a fingerprint":  {[]string{`"fingerprint":"f1",`, ``, `"proc_pid":"1"`, `"proc_pid":"2"`}, true, false},
		"rule":                   {[]string{`"Shell"`, `"Other"`}, false, true},
		"pod":                    {[]string{`"cart"`, `"cart2"`}, false, true},
		"namespace":              {[]string{`"shop"`, `"shop2"`}, false, true},
		"container":              {[]string{`"c"`, `"c2"`}, false, true},
		"a rule of Prometheus":   {[]string{`"rule":"Shell",`, ``, `"f1"`, `"f2"`}, false, false},
		"another source's alert": {[]string{`"source":"falco"`, `"source":"other"`}, false, false},
		"resolved":               {[]string{`"firing"`, `"resolved"`}, false, false},
		"user of an audit event": {[]string{`"syscall"`, `"k8s_audit","ka_user_name":"eve"`}, false, true},
	} {
		body := strings.NewReplacer(test.changes...).Replace(base)
		if body == base && len(test.changes) > 0 {
			t.Fatalf("%s: nothing changed", name)
		}
		other := parseOne(t, alertmanagerFormat{}, body)
		if got := identify("security", first) == identify("security", other); got != test.same {
			t.Errorf("%s: same event %t, want %t", name, got, test.same)
		}
		if got := first.delivery == other.delivery; got != test.again {
			t.Errorf("%s: same delivery %t, want %t", name, got, test.again)
		}
	}
}

// TestFalcoTimeOfEvent has Falco say when it was in an output field only.
func TestFalcoTimeOfEvent(t *testing.T) {
	at, received := time.Date(2023, 7, 26, 22, 9, 57, 0, time.UTC), testTime
	for fields, want := range map[string]time.Time{
		`"evt.time":1690409397827858816`:               at,
		`"evt.time":"1690409397827858816"`:             at,
		`"evt.time":1.690409397827859e18`:              at,
		`"evt.rawtime":1690409397827858816`:            at,
		`"evt.time":"22:09:57.827858816"`:              received,
		`"evt.time":1690409397`:                        received,
		`"evt.time":1e300`:                             received,
		`"evt.time":null,"evt.rawtime":"<NA>"`:         received,
		`"evt.time":-1690409397827858816,"proc.pid":1`: received,
	} {
		if got := parseOne(t, falcoFormat{}, `{"rule":"r","priority":"Notice","output_fields":{`+fields+`}}`).spec.ObservedTime; !got.Time.Equal(want) {
			t.Errorf("%s: observed at %s, want %s", fields, got, want)
		}
	}
}
