// Package notify sends messages to the channels of a response plan. A channel is a
// shoutrrr URL: shoutrrr understands the URLs, and what leaves goes through the manager's
// confined way out of the cluster, never by shoutrrr's own connections.
//
// A URL is a secret. No error of this package, and no error that it wraps, is ever shown
// with the text of somebody else's error, which may repeat it.
package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Egress is the way out of the cluster.
type Egress interface {
	// Reaches says whether a host and port may be reached, and nothing of them when not.
	Reaches(host, port string) error
	// Client sends HTTPS requests to what may be reached.
	Client() *http.Client
	// Dial connects to what may be reached, after its name was looked up.
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	// TLS is how servers prove who they are.
	TLS(serverName string) *tls.Config
}

// Message is what people are told. NewMessage makes one.
type Message struct {
	// Title is one line.
	Title string
	// Text is plain text.
	Text string
	// Key is the same for every try of the same message to the same channel.
	Key string
	// Time is when it was made.
	Time time.Time
}

// Service is a channel whose URL was understood.
type Service struct {
	// Name is how shoutrrr calls the service, such as 'slack'.
	Name string

	host, port string
	deliver    func(ctx context.Context, egress Egress, message Message) error
}

// Error is an answer that means that a message was not delivered, or not to everybody.
type Error struct {
	// Message says why, in words that hold nothing of the URL.
	Message string
	// Permanent says that sending it again cannot help, or would repeat it to some.
	Permanent bool
}

// Error says why.
func (e *Error) Error() string { return e.Message }

// Unreached is a message that got no answer. What is beneath may repeat the URL: it is for
// errors.Is and errors.As, and not to be shown.
type Unreached struct{ beneath error }

// Error says that there was no answer, and nothing else.
func (*Unreached) Error() string { return "no answer" }

// Unwrap gives what is beneath.
func (e *Unreached) Unwrap() error { return e.beneath }

var errPlain = errors.New("must not turn TLS off")

// services are those whose messages can be kept to the way out.
var services = map[string]func(*url.URL) (*Service, error){
	"generic": openGeneric, "slack": openSlack, "teams": openTeams,
	"pagerduty": openPagerDuty, "opsgenie": openOpsgenie, "smtp": openSMTP,
}

// Names lists the services, sorted.
func Names() []string {
	names := make([]string, 0, len(services))
	for name := range services {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Open understands a shoutrrr URL. The error holds nothing of it.
func Open(raw string) (service *Service, err error) {
	target, problem := url.Parse(strings.TrimSpace(raw))
	if problem != nil || target.Scheme == "" {
		return nil, fmt.Errorf("must be a shoutrrr URL of one of the services %s", strings.Join(Names(), ", "))
	}
	name, custom, _ := strings.Cut(target.Scheme, "+")
	open, known := services[name]
	if !known {
		return nil, fmt.Errorf("is of no service that Firebreak sends to: it must be one of %s", strings.Join(Names(), ", "))
	}
	defer func() {
		if recover() != nil { // shoutrrr takes some parts of a URL for granted
			service, err = nil, notA(name)
		}
	}()
	if custom == "http" {
		return nil, errPlain
	}
	service, problem = open(target)
	switch {
	case errors.Is(problem, errPlain):
		return nil, errPlain
	case problem != nil || service.host == "":
		return nil, notA(name)
	}
	service.Name = name
	return service, nil
}

// shapes are what the URLs look like.
var shapes = map[string]string{ //nolint:gosec // words that stand for what is secret
	"generic": "generic://HOST/PATH?template=json", "slack": "slack://hook:A-B-C@webhook or slack://xoxb:A-B-C@CHANNEL",
	"teams": "teams://GROUP@TENANT/ALTID/GROUPOWNER/EXTRAID?host=ORGANISATION.webhook.office.com", "pagerduty": "pagerduty://events.pagerduty.com/KEY",
	"opsgenie": "opsgenie://api.opsgenie.com/KEY", "smtp": "smtp://USER:PASSWORD@HOST:587/?from=ADDRESS&to=ADDRESS",
}

func notA(name string) error {
	return fmt.Errorf("is no URL of the service '%s', with all that it takes: it must be such as '%s'", name, shapes[name])
}

// Check says whether the channel may be reached. It sends nothing.
func (s *Service) Check(egress Egress) error {
	return egress.Reaches(s.host, s.port)
}

// Send sends a message. The error is an *Error or an *Unreached.
func (s *Service) Send(ctx context.Context, egress Egress, message Message) error {
	return s.deliver(ctx, egress, message)
}

// strictness orders the markings, the strictest first.
var strictness = []v1alpha1.TLP{v1alpha1.TLPRed, v1alpha1.TLPAmberStrict, v1alpha1.TLPAmber, v1alpha1.TLPGreen, v1alpha1.TLPClear}

// Permits says whether a channel may carry what is marked so. What has no known marking
// counts as 'Red', and a channel without one carries only what is 'Clear'.
func Permits(channel *v1alpha1.PlanChannel, marking v1alpha1.TLP) error {
	carries := slices.Index(strictness, channel.TLP)
	if carries < 0 {
		carries = len(strictness) - 1
	}
	if max(slices.Index(strictness, marking), 0) >= carries {
		return nil
	}
	return fmt.Errorf("the incident is marked TLP %s, and channel '%s' may carry %s at the strictest: nothing is sent. It must be told otherwise, or by a channel whose `tlp` is '%s' or stricter",
		marking, channel.Name, strictness[carries], marking)
}
