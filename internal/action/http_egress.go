package action

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/idna"
)

const (
	// egressTimeout bounds one request with its answer.
	egressTimeout = 30 * time.Second
	maxRedirects  = 3
	httpsPort     = "443"
)

// The ways in which a request is refused before it leaves. Their texts name no address:
// an address may be secret.
var (
	errNotAllowed  = errors.New("the manager's `--egress-allow` does not name this host and port")
	errAddress     = errors.New("the host's address is of the node, the cluster or the cloud's metadata: no playbook may reach it")
	errRedirect    = errors.New("the answer leads to another host, and is not followed")
	errMethod      = errors.New("the answer leads on as a GET, without what was to be sent, and is not followed")
	errTooManyHops = errors.New("the answer leads on too often")
)

// Egress is the one way out of the cluster, to hosts that the platform team names: HTTPS for
// requests, and for the plan's channels mail too.
type Egress struct {
	rules  []egressRule
	deny   []netip.Prefix
	tls    *tls.Config
	client *http.Client
}

// egressRule is one entry of `--egress-allow`.
type egressRule struct {
	host     string
	wildcard bool
	port     string
}

// EgressOptions say what an Egress lets out.
type EgressOptions struct {
	// Allow are the hosts: 'host', 'host:port', '*.suffix' or '*.suffix:port'. Without a
	// port it is 443. An address of the node itself, of its network, of the cluster or of
	// the cloud's metadata is reached only when it is itself an entry.
	Allow []string
	// Deny are further networks that no host may resolve to: those of pods and Services.
	Deny []string
	// RootCAs are who may sign the hosts' certificates, as PEM. Empty means the system's.
	RootCAs []byte
}

// never are networks that no name may resolve to: what is reachable there trusts who is near.
var never = []string{
	"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4",
	"::/128", "::1/128", "fe80::/10", "ff00::/8",
	"168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32", "fd00:ec2::254/128", "fd20:ce::254/128",
}

// nat64 holds IPv4 addresses in its last four bytes.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// NewEgress makes an Egress. An entry that cannot be understood is an error.
func NewEgress(options EgressOptions) (*Egress, error) {
	e := &Egress{}
	for _, entry := range options.Allow {
		rule, err := parseEgressRule(strings.TrimSpace(entry))
		if err != nil {
			return nil, err
		}
		e.rules = append(e.rules, rule)
	}
	for _, entry := range append(append([]string{}, never...), options.Deny...) {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(entry))
		if err != nil {
			return nil, fmt.Errorf("network %q: must be such as '10.96.0.0/12': %w", entry, err)
		}
		e.deny = append(e.deny, prefix.Masked())
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(options.RootCAs) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(options.RootCAs) {
			return nil, errors.New("the file of certificate authorities has no certificate in PEM")
		}
	}
	e.tls = config
	e.client = &http.Client{
		Timeout: egressTimeout,
		Transport: &http.Transport{
			// No proxy: what is reached must be what was allowed.
			DialContext: e.dial, TLSClientConfig: config.Clone(), TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: 2, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: e.redirect,
	}
	return e, nil
}

func parseEgressRule(entry string) (egressRule, error) {
	rule := egressRule{port: httpsPort}
	host := entry
	if splitHost, port, err := net.SplitHostPort(entry); err == nil {
		host, rule.port = splitHost, port
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if rest, ok := strings.CutPrefix(host, "*."); ok {
		host, rule.wildcard = rest, true
	}
	name, err := hostName(host)
	if _, portErr := net.LookupPort("tcp", rule.port); err != nil || portErr != nil || name == "" || rule.wildcard && !strings.Contains(name, ".") {
		return rule, fmt.Errorf("egress entry %q: must be such as 'hooks.example.com', 'siem.example.com:8443' or '*.example.com'", entry)
	}
	rule.host = name
	return rule, nil
}

// hostName writes a host in the one way in which hosts are compared.
func hostName(host string) (string, error) {
	if address, err := netip.ParseAddr(host); err == nil {
		return address.Unmap().WithZone("").String(), nil
	}
	name, err := idna.Lookup.ToASCII(strings.TrimSuffix(host, "."))
	return strings.ToLower(name), err
}

// Allows says whether a URL may be reached, and nothing of the URL when it may not.
func (e *Egress) Allows(target *url.URL) error {
	if target.Scheme != "https" {
		return errors.New("must begin with 'https://'")
	}
	if target.User != nil || target.Fragment != "" || target.Opaque != "" {
		return errors.New("must have no user, password or fragment: give credentials by `headers`")
	}
	port := target.Port()
	if port == "" {
		port = httpsPort
	}
	return e.Reaches(target.Hostname(), port)
}

// Reaches says whether a host and port may be reached, and nothing of them when they may not.
func (e *Egress) Reaches(host, port string) error {
	if _, ok := e.rule(host, port); !ok {
		return errNotAllowed
	}
	return nil
}

// Client sends HTTPS requests to what may be reached.
func (e *Egress) Client() *http.Client { return e.client }

// Dial connects to what may be reached, unless its name leads where none may.
func (e *Egress) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return e.dial(ctx, network, address)
}

// TLS is how servers prove who they are.
func (e *Egress) TLS(serverName string) *tls.Config {
	config := e.tls.Clone()
	config.ServerName = serverName
	return config
}

// rule finds the entry that names a host.
func (e *Egress) rule(host, port string) (egressRule, bool) {
	name, err := hostName(host)
	if err != nil || name == "" {
		return egressRule{}, false
	}
	for _, rule := range e.rules {
		same := name == rule.host && !rule.wildcard || rule.wildcard && strings.HasSuffix(name, "."+rule.host)
		if same && rule.port == port {
			return rule, true
		}
	}
	return egressRule{}, false
}

// dial connects to a host that is allowed, unless its name leads where none may.
func (e *Egress) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	rule, ok := e.rule(host, port)
	if !ok {
		return nil, errNotAllowed
	}
	_, notAnAddress := netip.ParseAddr(rule.host)
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	dialer.Control = func(_, to string, _ syscall.RawConn) error {
		// A name that leads to an address was looked up; an address was allowed as it is.
		if notAnAddress == nil {
			return nil
		}
		return e.reachable(to)
	}
	return dialer.DialContext(ctx, network, address)
}

// reachable says whether an address may be reached by a name.
func (e *Egress) reachable(address string) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return errAddress
	}
	ip := to.Addr().Unmap().WithZone("")
	if nat64.Contains(ip) {
		bytes := ip.As16()
		ip = netip.AddrFrom4([4]byte(bytes[12:]))
	}
	for _, prefix := range e.deny {
		if prefix.Contains(ip) {
			return errAddress
		}
	}
	return nil
}

// redirect follows an answer only to the host that gave it.
func (e *Egress) redirect(next *http.Request, before []*http.Request) error {
	if len(before) > maxRedirects {
		return errTooManyHops
	}
	if next.URL.Scheme != "https" || next.URL.Host != before[0].URL.Host || next.URL.User != nil {
		return errRedirect
	}
	// What 301, 302 and 303 lead to is asked for with GET: nobody has taken what was sent.
	if next.Method != before[0].Method {
		return errMethod
	}
	return nil
}

// notLetOut gives why a request was not let out; nil when it was.
func notLetOut(err error) error {
	for _, known := range []error{errNotAllowed, errAddress, errRedirect, errMethod, errTooManyHops} {
		if errors.Is(err, known) {
			return known
		}
	}
	return nil
}

// explainEgress says why a request got no answer. Nothing of the URL is said but, when it
// is no secret, its host.
func explainEgress(err error, host string) (message string, permanent bool) {
	var resolve *net.DNSError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var network net.Error
	switch {
	case notLetOut(err) != nil:
		message, permanent = notLetOut(err).Error(), true
	case errors.As(err, &certificate):
		message = "its certificate is not trusted"
	case errors.As(err, &record):
		message = "it does not speak TLS"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		message = "no answer in time"
	case errors.As(err, &resolve):
		message = "its name cannot be resolved"
	case errors.Is(err, syscall.ECONNREFUSED):
		message = "it does not accept the connection"
	default:
		message = "the connection failed"
	}
	return host + ": " + message, permanent
}
