package receiver

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// auditExec is a request that the sample's rules select, with more fields or none.
func auditExec(id, more string) string {
	return `{"auditID":"` + id + `","verb":"create","stage":"Panic","objectRef":{"resource":"pods","subresource":"exec","namespace":"shop","name":"cart"}` + more + `}`
}

// TestAuditHostileItem sends a request beside one of which somebody else decides what is in it.
func TestAuditHostileItem(t *testing.T) {
	deep := func(levels int) string { return strings.Repeat(`{"a":[`, levels/2) + strings.Repeat(`]}`, levels/2) }
	wide := "[" + strings.TrimSuffix(strings.Repeat("1,", 1<<20), ",") + "]"
	for name, test := range map[string]struct {
		item    string
		problem string // of the item; empty is none
		skipped bool
	}{
		"deep request":     {item: auditExec("2", `,"requestObject":`+deep(40))},
		"deeper request":   {item: auditExec("2", `,"requestObject":`+deep(40000))},
		"deep answer":      {item: auditExec("2", ` , "responseObject" : `+deep(40)+" ")},
		"wide request":     {item: auditExec("2", `,"requestObject":`+wide)},
		"brackets in text": {item: auditExec("2", `,"requestObject":{"a\"]":"]}\"{","b":"\\"}`)},
		"not selected":     {item: `{"verb":"create","stage":"ResponseComplete","objectRef":{"resource":"things"},"requestObject":` + deep(40) + `}`, skipped: true},
		"deep user":        {item: auditExec("2", `,"user":`+deep(40)), problem: "`items[0].user` is nested too deeply at byte "},
		"deep annotation":  {item: auditExec("2", `,"annotations":{"a":`+deep(40)+`}`), problem: "`items[0].annotations` is nested too deeply"},
		"wide user":        {item: auditExec("2", `,"user":{"groups":`+wide+`}`), problem: "`items[0].user` has too many values at byte "},
		"no object":        {item: `7`, problem: "`items[0]` must be an object, is a number"},
		"no value":         {item: `{"verb":}`, problem: "`items[0]` must be JSON, is not from byte 8 of it on"},
		"no JSON":          {item: auditExec("2", `,"user":{"username":"a",,}`), problem: "`items[0].user` must be JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			body := `{"kind":"EventList","metadata":` + deep(40) + `,"items":[` + test.item + ` , ` + auditExec("1", "") + `]}`
			r := testReport([]byte(body))
			wire := testFormats(t)["audit"]
			if problem := checkShapeFor(wire, r.body); problem != nil {
				t.Fatal(problem)
			}
			what, err := wire.parse(r)
			if err != nil {
				t.Fatal(err)
			}
			last := what.alerts[len(what.alerts)-1]
			if last.problem != nil || last.spec.Attributes["audit.auditID"] != "1" || last.pointer != "/items/1" {
				t.Errorf("the last alert is %+v, want the request beside it", last)
			}
			if want := map[bool]int{true: 1, false: 2}[test.skipped]; len(what.alerts) != want {
				t.Fatalf("%d alerts, want %d", len(what.alerts), want)
			}
			said := ""
			if what.alerts[0].problem != nil {
				said = what.alerts[0].problem.Detail
			}
			if !strings.HasPrefix(said, test.problem) || (said == "") != (test.problem == "") {
				t.Errorf("problem %q, want %q", said, test.problem)
			}
			if test.problem == "" && !test.skipped {
				if diff := cmp.Diff(hashOf([]byte(test.item)), what.alerts[0].spec.RawDataHash); diff != "" {
					t.Errorf("the hash is not of all that was sent (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// TestAuditValuesInAll sends more values than may be read: the first events have theirs.
func TestAuditValuesInAll(t *testing.T) {
	groups := `,"user":{"groups":[` + strings.TrimSuffix(strings.Repeat(`"g",`, maxEventValues-10), ",") + `]}`
	var items []string
	for i := range maxAuditValues/maxEventValues + 2 {
		items = append(items, auditExec(fmt.Sprint(i), groups))
	}
	what, err := testFormats(t)["audit"].parse(testReport([]byte(`{"items":[` + strings.Join(items, ",") + `]}`)))
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range what.alerts {
		if wrong := i >= maxAuditValues/maxEventValues; (a.problem != nil) != wrong {
			t.Errorf("alert %d: problem %v, want one: %t", i, a.problem, wrong)
		}
	}
}

// TestAuditLists says what is a list of events.
func TestAuditLists(t *testing.T) {
	many := strings.TrimSuffix(strings.Repeat("{},", maxItems+1), ",")
	for body, want := range map[string]string{
		`{"kind":"EventList","items":[]}`:                  "",
		`{"kind":"EventList","items":null}`:                "",
		` { "items" : [ ] , "kind" : "EventList" } `:       "",
		`{"kind":"EventList"}`:                             "`items` must be there",
		`{"kind":"Event","items":[]}`:                      "`kind` must be 'EventList'",
		`{"kind":7,"items":[]}`:                            "`kind` must be a string",
		`{"items":{}}`:                                     "`items` must be a list, is an object",
		`[]`:                                               "The body must be an object, is a list",
		`{"items":[{}`:                                     "The body must be JSON, is not from byte 12",
		`{"items":[{} {}]}`:                                "`items` must be JSON, is not from byte 4",
		`{"items":[]} {}`:                                  "The body must be JSON",
		`{"items":[` + many + `]}`:                         "`items` must be a list of at most 4096 items, has 4097",
		`{"items":[{"verb":"get"},` + "\x00" + `,{"a":1}]`: "The body must be JSON",
	} {
		what, err := testFormats(t)["audit"].parse(testReport([]byte(body)))
		switch {
		case want == "" && (err != nil || len(what.alerts) != 0 || !what.list):
			t.Errorf("%.60s: %+v and error %v, want no alerts", body, what, err)
		case want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)):
			t.Errorf("%.60s: error %v, want %q", body, err, want)
		}
	}
}

// TestAuditKeepsTheWorst floods a batch with requests of little weight beside one that matters.
func TestAuditKeepsTheWorst(t *testing.T) {
	wire := auditFormat{rules: []AuditRule{
		{Name: "grave", Severity: "Critical", Verbs: []string{"delete"}}, {Name: "light", Severity: "Low", Verbs: []string{"create"}},
	}}
	flood := make([]string, 2000)
	for i := range flood {
		flood[i] = auditExec(fmt.Sprint(i), "")
	}
	flood[1000] = strings.Replace(flood[1000], "create", "delete", 1)
	r := testReport([]byte(`{"items":[` + strings.Join(flood, ",") + `]}`))
	what, err := wire.parse(r)
	if err != nil {
		t.Fatal(err)
	}
	first, last := &what.alerts[0], &what.alerts[len(what.alerts)-1]
	if first.spec.Source.Rule != "grave" {
		t.Errorf("the first alert is of rule %q, want the worst", first.spec.Source.Rule)
	}
	checkSchema(t, last)
	want := fmt.Sprintf("%d audit events of one batch were left out", 2000-len(what.alerts)+1)
	if last.spec.Source.Rule != ruleTruncated || last.spec.Title != want || last.delivery == "" {
		t.Errorf("the last alert is of rule %q, %q; want one that says %q", last.spec.Source.Rule, last.spec.Title, want)
	}
	r.receivedTime = r.receivedTime.Add(time.Minute)
	again, err := wire.parse(r)
	if err != nil || again.alerts[len(again.alerts)-1].deliveryKey("security") != last.deliveryKey("security") {
		t.Errorf("the batch delivered again says otherwise, error %v", err)
	}
}
