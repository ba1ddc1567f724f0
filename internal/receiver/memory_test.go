package receiver

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"k8s.io/utils/clock"
)

// mostPerBody is how many bytes may be allocated to parse one body, all together and whether
// they are let go or not: 18 for each byte of the largest. mostAtOnce is what all that comes in may
// take, the GOMEMLIMIT of config/receiver.
const mostPerBody, mostAtOnce = 18 * DefaultMaxBodyBytes, 400 << 20

// fill repeats a part, with a separator, until a body of the largest size is full.
func fill(before, part, separator, after string) string {
	count := (DefaultMaxBodyBytes - len(before) - len(after)) / (len(part) + len(separator))
	return before + strings.TrimSuffix(strings.Repeat(part+separator, count), separator) + after
}

// number is fill with parts that differ.
func number(before, format, separator, after string) string {
	var body strings.Builder
	body.WriteString(before)
	for n := 0; body.Len() < DefaultMaxBodyBytes-len(after)-len(format)-len(separator)-16; n++ {
		if n > 0 {
			body.WriteString(separator)
		}
		fmt.Fprintf(&body, format, n)
	}
	return body.String() + after
}

// heavyBodies are bodies of the largest size that mean to cost more than they weigh.
func heavyBodies() map[string]string {
	bodies := map[string]string{
		"numbers":       fill("[", "1", ",", "]"),
		"empty objects": fill("[", "{}", ",", "]"),
		"empty lists":   fill("[", "[]", ",", "]"),
		"lists":         fill("[", "[1,1,1,1,1,1]", ",", "]"),
		"nested":        fill("[", strings.Repeat("[", maxDepth-1)+strings.Repeat("]", maxDepth-1), ",", "]"),
		"empty strings": fill("[", `""`, ",", "]"),
		"escapes":       fill(`["`, `\u0001`, "", `"]`),
		"keys":          number("{", `"k%d":1`, ",", "}"),
		"same keys":     fill("{", `"k":1`, ",", "}"),
		"lines":         fill("", "{}", "\n", ""),
		"no JSON":       fill("", "x", "", ""),
		"open":          fill("", "[", "1", ""),
	}
	for field, values := range map[string]string{
		"output_fields": "o", "alerts": "l", "results": "l", "items": "l", "resources": "l", "attributes": "o", "tags": "l", "labels": "o",
		"properties": "o", "data": "o", "annotations": "o", "spec": "o", "report": "o",
	} {
		before := `{"rule":"r","policy":"p","kind":"EventList","version":"4","priority":"Notice","specversion":"1.0","id":"i","source":"s","type":"t","title":"t","severity":"Low","class_uid":2004,"finding_info":{"uid":"u","title":"t"},"` + field + `":`
		if values == "o" {
			bodies["many "+field] = number(before+"{", `"k%d":""`, ",", "}}")
			continue
		}
		bodies["many "+field] = fill(before+"[", "{}", ",", "]}")
		bodies["numbers of "+field] = fill(before+"[", "1", ",", "]}")
	}
	bodies["trivy"] = number(`{"kind":"VulnerabilityReport","report":{"vulnerabilities":[`, `{"vulnerabilityID":"CVE-%d","severity":"LOW"}`, ",", "]}}")
	bodies["trivy checks"] = number(`{"status":{"detailReport":{"results":[{"id":"1","checks":[`, `{"checkID":"k%d"}`, ",", "]}]}}}")
	bodies["trivy controls"] = number(`{"status":{"detailReport":{"results":[`, `{"id":"k%d","status":"FAIL"}`, ",", "]}}}")
	bodies["audit"] = fill(`{"kind":"EventList","items":[`, `{"user":{"username":"u"},"objectRef":{"resource":"pods","subresource":"exec"},"stage":"ResponseComplete","verb":"create"}`, ",", "]}")
	bodies["alertmanager"] = number(`{"version":"4","status":"firing","alerts":[`, `{"status":"firing","labels":{"alertname":"a%d"}}`, ",", "]}")
	bodies["ocsf lines"] = number("", `{"class_uid":2004,"finding_info":{"uid":"%d","title":"t"}}`, "\n", "")
	bodies["native"] = number("[", `{"title":"t%d","severity":"Low"}`, ",", "]")
	// What begins with a line that is wrong.
	for what, before := range map[string]string{"closed": "x" + strings.Repeat("}", 600) + "\n", "quoted": "{\"\n", "cut": ""} {
		bodies[what+", then nested lines"] = fill(before+strings.Repeat("{\"a\":\n", 510)+`"`, "a", "", "")
		bodies[what+", then some nested lines and spaces"] = fill(before+strings.Repeat("{\"a\":\n", maxDepth-1), " ", "", "")
		bodies[what+", then numbers"] = fill(before+`{"class_uid":2004,"process_lsm":{"policy_name":"p","tags":[`, "1", ",", "]}}")
		bodies[what+", then glued objects"] = fill(before, "{}", "", "\n{}")
		bodies[what+", then deep lists"] = fill(before+`{"process_lsm":{"policy_name":"p","process":{"binary":`, "[", "", "")
		bodies[what+", then keys"] = number(before+"{", `"k%d":1`, ",", "}")
	}
	for what, part := range map[string]string{"numbers": "1,", "objects": "{},", "texts": `"",`} {
		bodies["just so many "+what] = "[" + strings.Repeat(part, maxValues/(1+strings.Count(part, "{"))-8) + "1]"
		bodies["twice as many "+what] = "[" + strings.Repeat(part, maxAuditValues/(1+strings.Count(part, "{"))-8) + "1]"
	}
	return bodies
}

// allocated is what a call allocates, let go or not.
func allocated(call func()) uint64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	call()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestMemoryOfBodies has each format parse bodies of the largest size that mean to cost much.
func TestMemoryOfBodies(t *testing.T) {
	var worst uint64
	formats := testFormats(t)
	for what, text := range heavyBodies() {
		body := []byte(text)
		if len(body) > DefaultMaxBodyBytes {
			t.Errorf("%s: the body has %d bytes, want at most %d", what, len(body), DefaultMaxBodyBytes)
		}
		if problem := checkShape(body); strings.HasPrefix(what, "just so many") && problem != nil {
			t.Errorf("%s: %s", what, problem)
		}
		for name, wire := range formats {
			used := allocated(func() {
				if problem := checkShapeFor(wire, body); problem == nil {
					_, _ = wire.parse(testReport(body))
				}
			})
			if used > mostPerBody {
				t.Errorf("%s as %s: %d MiB are allocated for a body of %d KiB, want at most %d", what, name, used>>20, len(body)>>10, mostPerBody>>20)
			} else if used > worst {
				worst = used
				t.Logf("%s as %s: %d MiB are allocated for a body of %d KiB", what, name, used>>20, len(body)>>10)
			}
		}
	}
}

// TestMemoryOfAllThatComesIn adds up what those who send can have the receiver hold.
func TestMemoryOfAllThatComesIn(t *testing.T) {
	const places = DefaultMaxInFlight + DefaultMaxWaiting
	strangers := newStrangers(clock.RealClock{}, places/4*3)
	holds := map[string]int{
		"bodies":               bodyBudget + littleBudget,
		"parsers":              maxParsers * mostPerBody,
		"headers of known":     places * maxHeaderBytes,
		"headers of strangers": 2 * strangers.most * maxHeaderBytes,
		"connections":          maxConnections * connectionBuffer,
	}
	sum := 0
	for _, bytes := range holds {
		sum += bytes
	}
	if t.Logf("%d MiB", sum>>20); sum > mostAtOnce {
		t.Errorf("all takes up to %d MiB, want at most %d: %v", sum>>20, mostAtOnce>>20, holds)
	}
}
