package notify_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/notify"
)

var now = time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC)

// wire is a way out that leads nowhere: it keeps what would be sent.
type wire struct {
	requests []*http.Request
	bodies   []string
	code     int
	answer   string
	broken   error
}

func (w *wire) RoundTrip(request *http.Request) (*http.Response, error) {
	if w.broken != nil {
		return nil, w.broken
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	w.requests, w.bodies = append(w.requests, request), append(w.bodies, string(body))
	return &http.Response{StatusCode: max(w.code, 200), Body: io.NopCloser(strings.NewReader(w.answer)), Header: http.Header{}, Request: request}, nil
}

func (w *wire) Client() *http.Client       { return &http.Client{Transport: w} }
func (*wire) Reaches(string, string) error { return nil }
func (*wire) TLS(serverName string) *tls.Config {
	return &tls.Config{ServerName: serverName, MinVersion: tls.VersionTLS12}
}
func (*wire) Dial(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("nothing may be dialled")
}

const (
	part32 = "0123456789abcdef0123456789abcdef"
	part36 = "01234567-89ab-cdef-0123-456789abcdef"
	hook   = "AAAAAAAAA-BBBBBBBBB-s3cr3ts3cr3ts3cr3ts3cr3t"
)

// TestSend holds what each service is sent, and where, to what its documentation says.
func TestSend(t *testing.T) {
	for name, test := range map[string]struct {
		url, wantURL, wantBody string
		header                 map[string]string
	}{
		"generic, text": {
			url: "generic://hooks.example.com:8443/x?token=1", wantURL: "https://hooks.example.com:8443/x?token=1",
			wantBody: "Title\n\nline 1\nline 2", header: map[string]string{"Content-Type": "text/plain; charset=utf-8"},
		},
		"generic, JSON": {
			url:     "generic://u:p@hooks.example.com/x?template=json&messagekey=text&titlekey=head&$channel=sec&@X-Kind=a&@authToken=b",
			wantURL: "https://hooks.example.com/x", wantBody: `{"channel":"sec","head":"Title","text":"line 1\nline 2"}`,
			header: map[string]string{"Content-Type": "application/json", "Authorization": "Basic dTpw", "X-Kind": "a", "Auth-Token": "b"},
		},
		"generic, from a webhook": {url: "generic+https://hooks.example.com/x?y=z", wantURL: "https://hooks.example.com/x?y=z", wantBody: "Title\n\nline 1\nline 2"},
		"slack, webhook": {
			url: "slack://hook:" + hook + "@webhook", wantURL: "https://hooks.slack.com/services/AAAAAAAAA/BBBBBBBBB/s3cr3ts3cr3ts3cr3ts3cr3t",
			wantBody: `{"text":"Title","attachments":[{"text":"line 1"},{"text":"line 2"}]}`,
		},
		"slack, API": {
			url: "slack://xoxb:" + hook + "@C001", wantURL: "https://slack.com/api/chat.postMessage",
			wantBody: `{"text":"Title","attachments":[{"text":"line 1"},{"text":"line 2"}],"channel":"C001"}`,
			header:   map[string]string{"Authorization": "Bearer xoxb-" + hook},
		},
		"teams": {
			url:      "teams://" + part36 + "@" + part36 + "/" + part32 + "/" + part36 + "/V2extra?host=example.webhook.office.com",
			wantURL:  "https://example.webhook.office.com/webhookb2/" + part36 + "@" + part36 + "/IncomingWebhook/" + part32 + "/" + part36 + "/V2extra",
			wantBody: `{"@type":"MessageCard","@context":"http://schema.org/extensions","summary":"Title","title":"Title","sections":[{"text":"line 1","markdown":false},{"text":"line 2","markdown":false}]}`,
		},
		"pagerduty": {
			url: "pagerduty://events.eu.pagerduty.com/" + part32 + "?severity=critical", wantURL: "https://events.eu.pagerduty.com/v2/enqueue",
			wantBody: `{"payload":{"summary":"Title\n\nline 1\nline 2","severity":"critical","source":"default"},"routing_key":"` + part32 + `","event_action":"trigger","dedup_key":"key-1"}`,
		},
		"opsgenie": {
			url: "opsgenie://api.eu.opsgenie.com/s3cr3t?tags=a,b&priority=P1", wantURL: "https://api.eu.opsgenie.com/v2/alerts",
			wantBody: `{"message":"Title","alias":"key-1","description":"line 1\nline 2","tags":["a","b"],"priority":"P1"}`,
			header:   map[string]string{"Authorization": "GenieKey s3cr3t"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			service, err := notify.Open(test.url)
			if err != nil {
				t.Fatal(err)
			}
			out := &wire{answer: `{"ok": true}`}
			if err := service.Send(t.Context(), out, notify.NewMessage("Title", "line 1\nline 2", "key-1", now)); err != nil {
				t.Fatal(err)
			}
			if len(out.requests) != 1 {
				t.Fatalf("%d requests, want 1", len(out.requests))
			}
			sent := out.requests[0]
			if got := sent.URL.String(); got != test.wantURL {
				t.Errorf("sent to %s, want %s", got, test.wantURL)
			}
			if diff := cmp.Diff(test.wantBody, out.bodies[0]); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
			if sent.Method != http.MethodPost || sent.Header.Get("Idempotency-Key") != "key-1" {
				t.Errorf("%s with key %q", sent.Method, sent.Header.Get("Idempotency-Key"))
			}
			for name, want := range test.header {
				if got := sent.Header.Get(name); got != want {
					t.Errorf("header %s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

// TestOpenRefuses says of a URL that cannot be used what would be right, and nothing of it.
func TestOpenRefuses(t *testing.T) {
	for name, test := range map[string]struct{ url, says string }{
		"nothing":                   {"", "must be a shoutrrr URL of one of the services generic, opsgenie, pagerduty, slack, smtp, teams"},
		"no URL":                    {"::s3cr3t", "must be a shoutrrr URL"},
		"a bare token":              {"s3cr3t:token", "is of no service that Firebreak sends to"},
		"what dials by itself":      {"telegram://s3cr3t@telegram?chats=1", "is of no service that Firebreak sends to"},
		"what writes to the log":    {"logger://s3cr3t", "is of no service that Firebreak sends to"},
		"plain HTTP":                {"generic://s3cr3t.example.com/?disabletls=yes", "must not turn TLS off"},
		"plain HTTP from a webhook": {"generic+http://s3cr3t.example.com/", "must not turn TLS off"},
		"a template":                {"generic://s3cr3t.example.com/?template=mine", "is no URL of the service 'generic'"},
		"a method that reads":       {"generic://s3cr3t.example.com/?method=GET", "is no URL of the service 'generic'"},
		"a header of two lines":     {"generic://s3cr3t.example.com/?@X=a%0d%0aY:b", "is no URL of the service 'generic'"},
		"the host by a header":      {"generic://s3cr3t.example.com/?@Host=other", "is no URL of the service 'generic'"},
		"no host":                   {"generic:///s3cr3t", "is no URL of the service 'generic'"},
		"a token too short":         {"slack://hook:s3cr3t@webhook", "is no URL of the service 'slack', with all that it takes: it must be such as 'slack://hook:A-B-C@webhook"},
		"no token":                  {"slack://webhook", "is no URL of the service 'slack'"},
		"a host that is not Teams'": {"teams://" + part36 + "@" + part36 + "/" + part32 + "/" + part36 + "/s3cr3t?host=evil.example.com", "is no URL of the service 'teams'"},
		"half of a Teams URL":       {"teams://s3cr3t@x", "is no URL of the service 'teams'"},
		"no key":                    {"pagerduty://s3cr3t.example.com/", "is no URL of the service 'pagerduty'"},
		"what ends an alert":        {"pagerduty://s3cr3t.example.com/" + part32 + "?action=resolve", "is no URL of the service 'pagerduty'"},
		"an unknown parameter":      {"opsgenie://api.opsgenie.com/key?s3cr3t=1", "is no URL of the service 'opsgenie'"},
		"mail to nobody":            {"smtp://u:s3cr3t@mail.example.com/?from=a@example.com", "is no URL of the service 'smtp'"},
		"mail without TLS":          {"smtp://u:s3cr3t@mail.example.com/?from=a@example.com&to=b@example.com&encryption=None", "must not turn TLS off"},
		"mail without STARTTLS":     {"smtp://u:s3cr3t@mail.example.com/?from=a@example.com&to=b@example.com&usestarttls=no", "must not turn TLS off"},
		"mail to whoever answers":   {"smtp://u:s3cr3t@mail.example.com/?from=a@example.com&to=b@example.com&skiptlsverify=yes", "must not turn TLS off"},
		"mail from what is no name": {"smtp://u:s3cr3t@mail.example.com/?from=a%0d%0aBcc:c@example.com&to=b@example.com", "is no URL of the service 'smtp'"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := notify.Open(test.url)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Fatalf("it says %v, want %q", err, test.says)
			}
			if strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("%v gives away the URL", err)
			}
		})
	}
}

// TestAnswers holds what an answer means, and that nothing of it is said.
func TestAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		url, answer, says string
		code              int
		permanent         bool
	}{
		"refused":              {"generic://h/s3cr3t", "no such hook s3cr3t", "it has answered 403 Forbidden", 403, true},
		"too many":             {"generic://h/s3cr3t", "", "429 Too Many Requests", 429, false},
		"broken":               {"generic://h/s3cr3t", "", "502 Bad Gateway", 502, false},
		"leads elsewhere":      {"generic://h/s3cr3t", "", "it has answered 304", 304, true},
		"slack says no":        {"slack://xoxb:" + hook + "@C", `{"ok": false, "error": "channel_not_found"}`, "refused the message: channel_not_found", 200, true},
		"slack is slow":        {"slack://xoxb:" + hook + "@C", `{"ok": false, "error": "ratelimited"}`, "ratelimited", 200, false},
		"slack repeats it":     {"slack://xoxb:" + hook + "@C", `{"ok": false, "error": "s3cr3t is wrong"}`, "has not said that it took the message", 200, false},
		"slack says something": {"slack://xoxb:" + hook + "@C", `<html>s3cr3t`, "has not said that it took the message", 200, false},
	} {
		t.Run(name, func(t *testing.T) {
			service, err := notify.Open(test.url)
			if err != nil {
				t.Fatal(err)
			}
			err = service.Send(t.Context(), &wire{code: test.code, answer: test.answer}, notify.NewMessage("a", "b", "k", now))
			var answer *notify.Error
			if !errors.As(err, &answer) || answer.Permanent != test.permanent || !strings.Contains(answer.Message, test.says) || strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("%+v, want %q, permanent %v", err, test.says, test.permanent)
			}
		})
	}
	service, err := notify.Open("generic://h/s3cr3t")
	if err != nil {
		t.Fatal(err)
	}
	err = service.Send(t.Context(), &wire{broken: net.ErrClosed}, notify.NewMessage("a", "b", "k", now))
	var unreached *notify.Unreached
	if !errors.As(err, &unreached) || !errors.Is(err, net.ErrClosed) || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("%v must be unreached, for the reason beneath, without the URL", err)
	}
}

// TestHostileText takes out what a service would make of plain text.
func TestHostileText(t *testing.T) {
	for name, test := range map[string]struct{ title, text, wantTitle, wantText string }{
		"lines in a title":      {"a\r\nBcc: evil@example.com\n\n b", "x", "a Bcc: evil@example.com b", "x"},
		"control characters":    {"a\x1b[2Jb", "a\x00b\u202ec\u200bd\te\r\nf", "a[2Jb", "abcd\te\nf"},
		"calls of everybody":    {"@everyone @here", "(@channel) @@all @jäne\n@x mail jane@example.com a.b+c@example.com", "＠everyone ＠here", "(＠channel) @＠all ＠jäne\n＠x mail jane@example.com a.b+c@example.com"},
		"calls by number":       {"<!channel>", "<@U012> <#C012> <@&1> a < b", "‹!channel>", "<＠U012> ‹#C012> ‹@&1> a < b"},
		"links that look other": {"[bank](https://evil.example)", "[a](b)", "[bank] (https://evil.example)", "[a] (b)"},
		"templates":             {"{{.Secret}}", "${HOME} {{ range . }}", "{{.Secret}}", "${HOME} {{ range . }}"},
		"no UTF-8":              {"a\xff\xfeb", "\xc3\x28", "ab", "("},
	} {
		t.Run(name, func(t *testing.T) {
			got := notify.NewMessage(test.title, test.text, "", now)
			if diff := cmp.Diff([]string{test.wantTitle, test.wantText}, []string{got.Title, got.Text}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	long := notify.NewMessage(strings.Repeat("ä", 1000), strings.Repeat("ß", 10000), "", now)
	if got := []int{len([]rune(long.Title)), len([]rune(long.Text))}; !cmp.Equal(got, []int{200, 2000}) || !strings.HasSuffix(long.Text, "…") {
		t.Errorf("%v characters are kept, want 200 and 2000, and a mark where it was cut", got)
	}
}

// TestSlackEscapes has Slack show what it would make links and calls of.
func TestSlackEscapes(t *testing.T) {
	service, err := notify.Open("slack://hook:" + hook + "@webhook")
	if err != nil {
		t.Fatal(err)
	}
	out := &wire{}
	if err := service.Send(t.Context(), out, notify.NewMessage("<https://evil.example|bank>", "a & <!here> b", "k", now)); err != nil {
		t.Fatal(err)
	}
	want := `{"text":"\u0026lt;https://evil.example|bank\u0026gt;","attachments":[{"text":"a \u0026amp; ‹!here\u0026gt; b"}]}`
	if diff := cmp.Diff(want, out.bodies[0]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestPermits is the order Red > AmberStrict > Amber > Green > Clear, in full.
func TestPermits(t *testing.T) {
	order := []v1alpha1.TLP{v1alpha1.TLPRed, v1alpha1.TLPAmberStrict, v1alpha1.TLPAmber, v1alpha1.TLPGreen, v1alpha1.TLPClear}
	for i, carries := range order {
		for j, marking := range order {
			err := notify.Permits(&v1alpha1.PlanChannel{Name: "pager", TLP: carries}, marking)
			if (err == nil) != (j >= i) {
				t.Errorf("a channel of %s, an incident of %s: %v", carries, marking, err)
			}
			if err != nil && (!strings.Contains(err.Error(), "TLP "+string(marking)) || !strings.Contains(err.Error(), "channel 'pager' may carry "+string(carries))) {
				t.Errorf("it must say both markings: %v", err)
			}
		}
	}
	if notify.Permits(&v1alpha1.PlanChannel{}, v1alpha1.TLPGreen) == nil || notify.Permits(&v1alpha1.PlanChannel{TLP: v1alpha1.TLPAmberStrict}, "Purple") == nil {
		t.Error("a channel without a marking carries Clear only, and what has no known marking is Red")
	}
}
