package bench

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// request is what one of Firebreak's processes has asked the API server for.
type request struct {
	who, verb, what string
	// namespace is that of the object; empty where it has none.
	namespace  string
	start, end time.Time
	code       int32
}

func (r *request) String() string {
	return fmt.Sprintf("%-9s%-7s%s (%d, %.1f ms)", r.who, r.verb, r.what, r.code, float64(r.end.Sub(r.start).Microseconds())/1000)
}

// writes says whether it has changed what is stored. Reviews and dry runs do not.
func (r *request) writes() bool {
	stored := !strings.Contains(r.what, "reviews") && !strings.HasSuffix(r.what, "(dry run)")
	return stored && r.code < 300 && slices.Contains([]string{"create", "update", "patch", "delete"}, r.verb)
}

// alongside says whether it is no step on the way to the isolation: evidence, and the
// projection of the timeline.
func (r *request) alongside() bool {
	return strings.HasPrefix(r.what, "evidence") || strings.HasPrefix(r.what, "events") || strings.HasPrefix(r.what, "lessonslearned")
}

// requests reads the audit log, in the order in which the requests began.
func requests(t *testing.T) []request {
	t.Helper()
	return requestsSince(t, 0)
}

// logged is how long the audit log is by now.
func logged(t *testing.T) int64 {
	t.Helper()
	info, err := os.Stat(auditLog)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// requestsSince reads the audit log from where it ended at some time.
func requestsSince(t *testing.T, at int64) []request {
	t.Helper()
	file, err := os.Open(auditLog)
	if err == nil {
		_, err = file.Seek(at, io.SeekStart)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var all []request
	reader := bufio.NewReader(file)
	for {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break // the last line may be half written
		}
		if err != nil {
			t.Fatal(err)
		}
		var event auditv1.Event
		if err := json.Unmarshal(line, &event); err != nil {
			t.Fatalf("the audit log: %v", err)
		}
		all = append(all, requestOf(&event))
	}
	slices.SortFunc(all, func(a, b request) int { return a.start.Compare(b.start) })
	return all
}

func requestOf(event *auditv1.Event) request {
	r := request{who: "manager", verb: event.Verb, start: event.RequestReceivedTimestamp.Time, end: event.StageTimestamp.Time}
	if strings.HasSuffix(event.User.Username, "receiver") {
		r.who = "receiver"
	}
	if event.ImpersonatedUser != nil {
		r.who = "as " + event.ImpersonatedUser.Username[strings.LastIndex(event.ImpersonatedUser.Username, ":")+1:]
		r.who = r.who[:min(len(r.who), 8)]
	}
	if event.ResponseStatus != nil {
		r.code = event.ResponseStatus.Code
	}
	if object := event.ObjectRef; object != nil {
		r.what, r.namespace = object.Resource, object.Namespace
		if object.Subresource != "" {
			r.what += "/" + object.Subresource
		}
	}
	if strings.Contains(event.RequestURI, "dryRun=") {
		r.what += " (dry run)"
	}
	return r
}

// between gives the requests that began in a span of time.
func between(all []request, from, to time.Time) []request {
	var found []request
	for _, r := range all {
		if !r.start.Before(from) && r.start.Before(to) {
			found = append(found, r)
		}
	}
	return found
}
