package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"time"

	shoutrrr "github.com/nicholas-fedor/shoutrrr/pkg/services/email/smtp"
)

const (
	// mailTimeout bounds the delivery of one message.
	mailTimeout = 30 * time.Second
	// mailLine is how many characters a line of an encoded message has.
	mailLine = 76
)

// mailbox is a mail server, and to whom it takes messages.
type mailbox struct {
	config *shoutrrr.Config
	from   *mail.Address
	to     []string
}

func openSMTP(target *url.URL) (*Service, error) {
	service := &shoutrrr.Service{}
	if err := service.Initialize(target, nil); err != nil {
		return nil, err
	}
	config := service.Config
	if config.SkipTLSVerify || config.Encryption == shoutrrr.EncNone || !config.UseStartTLS {
		return nil, errPlain
	}
	config.FixEmailTags()
	box := &mailbox{config: config, to: config.ToAddresses}
	from, err := mail.ParseAddress(config.FromAddress)
	if err != nil {
		return nil, err
	}
	box.from = &mail.Address{Name: config.FromName, Address: from.Address}
	for i, address := range config.ToAddresses {
		to, err := mail.ParseAddress(address)
		if err != nil {
			return nil, err
		}
		box.to[i] = to.Address
	}
	return &Service{host: config.Host, port: strconv.Itoa(int(config.Port)), deliver: box.deliver}, nil
}

// implicit says that the connection begins with TLS.
func (b *mailbox) implicit() bool {
	return b.config.Encryption == shoutrrr.EncImplicitTLS || b.config.Encryption == shoutrrr.EncAuto && b.config.Port == shoutrrr.ImplicitTLSPort
}

func (b *mailbox) deliver(ctx context.Context, egress Egress, message Message) error {
	ctx, cancel := context.WithTimeout(ctx, mailTimeout)
	defer cancel()
	connection, err := egress.Dial(ctx, "tcp", net.JoinHostPort(b.config.Host, strconv.Itoa(int(b.config.Port))))
	if err != nil {
		return &Unreached{err}
	}
	defer func() { _ = connection.Close() }() // the session is over by then
	defer context.AfterFunc(ctx, func() { _ = connection.Close() })()
	taken, err := b.session(ctx, egress, connection, message)
	if ctx.Err() != nil && !taken {
		err = ctx.Err()
	}
	return b.explain(err, taken)
}

// session hands a message over. It says whether the server has taken it.
func (b *mailbox) session(ctx context.Context, egress Egress, connection net.Conn, message Message) (taken bool, err error) {
	client, err := b.greet(ctx, egress, connection)
	if err != nil {
		return false, err
	}
	defer func() { _ = client.Close() }() // what it said before counts
	if how := b.auth(); how != nil {
		if err := client.Auth(how); err != nil {
			return false, fmt.Errorf("who it is from: %w", err)
		}
	}
	if err := client.Mail(b.from.Address); err != nil {
		return false, err
	}
	var refusals []error
	for _, to := range b.to {
		if err := client.Rcpt(to); err != nil {
			refusals = append(refusals, err)
		}
	}
	if len(refusals) == len(b.to) {
		return false, errors.Join(refusals...)
	}
	writer, err := client.Data()
	if err != nil {
		return false, err
	}
	if _, err := writer.Write(b.write(message)); err != nil {
		return false, err
	}
	if err := writer.Close(); err != nil {
		return false, err
	}
	_ = client.Quit() // it was taken, whatever is said to that
	return true, errors.Join(refusals...)
}

// greet begins a session, with TLS.
func (b *mailbox) greet(ctx context.Context, egress Egress, connection net.Conn) (*smtp.Client, error) {
	settings := egress.TLS(b.config.Host)
	if b.implicit() {
		secured := tls.Client(connection, settings)
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		connection = secured
	}
	client, err := smtp.NewClient(connection, b.config.Host)
	if err != nil {
		return nil, err
	}
	host := b.config.ClientHost
	if host == "" || host == "auto" || strings.ContainsAny(host, "\r\n ") {
		host = "localhost"
	}
	if err := client.Hello(host); err != nil {
		return nil, err
	}
	if b.implicit() {
		return client, nil
	}
	if offered, _ := client.Extension("STARTTLS"); !offered {
		return nil, errNoTLS
	}
	return client, client.StartTLS(settings)
}

func (b *mailbox) auth() smtp.Auth {
	switch b.config.Auth {
	case shoutrrr.AuthTypes.Plain:
		return smtp.PlainAuth("", b.config.Username, b.config.Password, b.config.Host)
	case shoutrrr.AuthTypes.CRAMMD5:
		return smtp.CRAMMD5Auth(b.config.Username, b.config.Password)
	case shoutrrr.AuthTypes.OAuth2:
		return shoutrrr.OAuth2Auth(b.config.Username, b.config.Password)
	default:
		return nil
	}
}

// write makes a mail. Its Message-ID is the same for every try, so that a mailbox can
// leave repetitions out.
func (b *mailbox) write(message Message) []byte {
	var text bytes.Buffer
	recipients := make([]string, len(b.to))
	for i, to := range b.to {
		recipients[i] = (&mail.Address{Address: to}).String()
	}
	for _, header := range [][2]string{
		{"From", b.from.String()}, {"To", strings.Join(recipients, ", ")}, {"Subject", mime.QEncoding.Encode("utf-8", message.Title)},
		{"Date", message.Time.Format(time.RFC1123Z)}, {"Message-ID", "<" + message.Key + "@firebreak.invalid>"}, {"Auto-Submitted", "auto-generated"},
		{"MIME-Version", "1.0"}, {"Content-Type", "text/plain; charset=utf-8"}, {"Content-Transfer-Encoding", "base64"},
	} {
		fmt.Fprintf(&text, "%s: %s\r\n", header[0], header[1])
	}
	encoded := base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(message.Text, "\n", "\r\n") + "\r\n"))
	for len(encoded) > 0 {
		line := encoded[:min(mailLine, len(encoded))]
		encoded = encoded[len(line):]
		fmt.Fprintf(&text, "\r\n%s", line)
	}
	fmt.Fprint(&text, "\r\n")
	return text.Bytes()
}

var errNoTLS = errors.New("the server offers no STARTTLS")

// explain says what became of a message. A server's words may repeat addresses: of them
// only the number is said.
func (b *mailbox) explain(err error, taken bool) error {
	var said *textproto.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errNoTLS):
		return &Error{Message: "the mail server offers no STARTTLS, and nothing is sent without", Permanent: true}
	case errors.As(err, &said) && taken:
		return &Error{Message: fmt.Sprintf("the mail server has refused some of the %d recipients (%d); the others have it", len(b.to), said.Code), Permanent: true}
	case errors.As(err, &said):
		return &Error{Message: fmt.Sprintf("the mail server has answered %d", said.Code), Permanent: said.Code >= 500}
	default:
		return &Unreached{err}
	}
}
