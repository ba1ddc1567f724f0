package notify_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/notify"
)

// mailServer takes mail, as far as its answers let it.
type mailServer struct {
	address  string
	settings *tls.Config
	pem      []byte
	implicit bool
	// answers replace what is said to a command.
	answers map[string]string

	mu       sync.Mutex
	commands []string
	mail     string
	ended    chan struct{}
}

// newMailServer serves one session.
func newMailServer(t *testing.T, implicit bool, answers map[string]string) *mailServer {
	t.Helper()
	borrowed := httptest.NewTLSServer(http.NotFoundHandler())
	borrowed.Close()
	server := &mailServer{
		settings: &tls.Config{Certificates: borrowed.TLS.Certificates, MinVersion: tls.VersionTLS12}, implicit: implicit, answers: answers, ended: make(chan struct{}),
		pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: borrowed.Certificate().Raw}),
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server.address = listener.Addr().String()
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		defer close(server.ended)
		if connection, err := listener.Accept(); err == nil {
			defer func() { _ = connection.Close() }()
			server.serve(connection)
		}
	}()
	return server
}

func (s *mailServer) serve(connection net.Conn) {
	if s.implicit {
		connection = tls.Server(connection, s.settings)
	}
	fmt.Fprint(connection, "220 mail\r\n")
	reader := bufio.NewReader(connection)
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		s.mu.Lock()
		s.commands = append(s.commands, line)
		s.mu.Unlock()
		verb, _, _ := strings.Cut(line, " ")
		answer, replaced := s.answers[line]
		if !replaced {
			answer, replaced = s.answers[verb]
		}
		switch {
		case replaced:
		case verb == "EHLO":
			answer = "250-mail\r\n250-STARTTLS\r\n250 AUTH PLAIN"
		case verb == "STARTTLS":
			fmt.Fprint(connection, "220 go\r\n")
			connection = tls.Server(connection, s.settings)
			reader = bufio.NewReader(connection)
			continue
		case verb == "AUTH":
			answer = "235 in"
		case verb == "DATA":
			answer = "250 taken"
			fmt.Fprint(connection, "354 go\r\n")
			s.read(reader)
		default:
			answer = "250 fine"
		}
		fmt.Fprint(connection, answer+"\r\n")
	}
}

func (s *mailServer) read(reader *bufio.Reader) {
	for {
		line, err := reader.ReadString('\n')
		if err != nil || line == ".\r\n" {
			return
		}
		s.mu.Lock()
		s.mail += line
		s.mu.Unlock()
	}
}

func (s *mailServer) said() (commands, mail string) {
	<-s.ended
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.commands, "\n"), s.mail
}

func egress(t *testing.T, ca []byte, allow ...string) *action.Egress {
	t.Helper()
	made, err := action.NewEgress(action.EgressOptions{Allow: allow, RootCAs: ca})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

const addresses = "?from=firebreak@example.com&fromname=Fire%20break&to=a%2Boncall@example.com,b@example.com"

func TestMail(t *testing.T) {
	for name, implicit := range map[string]bool{"STARTTLS": false, "TLS from the start": true} {
		t.Run(name, func(t *testing.T) {
			server := newMailServer(t, implicit, nil)
			target := "smtp://user:s3cr3t@" + server.address + "/" + addresses
			if implicit {
				target += "&encryption=ImplicitTLS"
			}
			service, err := notify.Open(target)
			if err != nil {
				t.Fatal(err)
			}
			message := notify.NewMessage("Schlüssel\r\nBcc: evil@example.com", ".\r\nQUIT\r\nline 2", "key-1", now)
			if err := service.Send(t.Context(), egress(t, server.pem, server.address), message); err != nil {
				t.Fatal(err)
			}
			commands, mail := server.said()
			for _, want := range []string{"MAIL FROM:<firebreak@example.com>", "RCPT TO:<a+oncall@example.com>", "RCPT TO:<b@example.com>", "AUTH PLAIN "} {
				if !strings.Contains(commands, want) {
					t.Errorf("%q must be among the commands:\n%s", want, commands)
				}
			}
			if secured := strings.Index(commands, "STARTTLS"); !implicit && (secured < 0 || secured > strings.Index(commands, "AUTH")) {
				t.Errorf("nothing may be said before TLS:\n%s", commands)
			}
			head, body, _ := strings.Cut(mail, "\r\n\r\n")
			text, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\r\n", ""))
			if err != nil || string(text) != ".\r\nQUIT\r\nline 2\r\n" {
				t.Errorf("text %q: %v", text, err)
			}
			for _, want := range []string{`From: "Fire break" <firebreak@example.com>`, "To: <a+oncall@example.com>, <b@example.com>", "Message-ID: <key-1@firebreak.invalid>", "Date: Sat, 21 Nov 2026 16:00:00 +0000", "Subject: =?utf-8?q?Schl=C3=BCssel_Bcc:_evil@example.com?="} {
				if !strings.Contains(head+"\r\n", want+"\r\n") {
					t.Errorf("%q must be among the headers:\n%s", want, head)
				}
			}
		})
	}
}

func TestMailRefused(t *testing.T) {
	for name, test := range map[string]struct {
		answers   map[string]string
		says      string
		permanent bool
	}{
		"no STARTTLS":         {map[string]string{"EHLO": "250 mail"}, "offers no STARTTLS", true},
		"wrong password":      {map[string]string{"AUTH": "535 s3cr3t is wrong"}, "the mail server has answered 535", true},
		"busy":                {map[string]string{"MAIL": "451 later, s3cr3t"}, "the mail server has answered 451", false},
		"nobody":              {map[string]string{"RCPT": "550 no s3cr3t here"}, "the mail server has answered 550", true},
		"one of two":          {map[string]string{"RCPT TO:<b@example.com>": "550 no s3cr3t here"}, "refused some of the 2 recipients (550); the others have it", true},
		"the text is refused": {map[string]string{"DATA": "554 s3cr3t"}, "the mail server has answered 554", true},
	} {
		t.Run(name, func(t *testing.T) {
			server := newMailServer(t, false, test.answers)
			service, err := notify.Open("smtp://user:s3cr3t@" + server.address + "/" + addresses)
			if err != nil {
				t.Fatal(err)
			}
			err = service.Send(t.Context(), egress(t, server.pem, server.address), notify.NewMessage("a", "b", "k", now))
			var answer *notify.Error
			if !errors.As(err, &answer) || answer.Permanent != test.permanent || !strings.Contains(answer.Message, test.says) || strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("%v, want %q, permanent %v", err, test.says, test.permanent)
			}
			if commands, _ := server.said(); name == "no STARTTLS" && strings.Contains(commands, "AUTH") {
				t.Errorf("no password may be sent without TLS:\n%s", commands)
			}
		})
	}
}

// TestConfined lets no service connect to what its host's name leads to, when that is the
// node itself: the address is looked at after the name was looked up.
func TestConfined(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	var connections atomic.Int32
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = connection.Close()
		}
	}()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"generic": "generic://localhost:PORT/s3cr3t", "pagerduty": "pagerduty://localhost:PORT/" + part32,
		"opsgenie": "opsgenie://localhost:PORT/s3cr3t", "smtp": "smtp://u:s3cr3t@localhost:PORT/" + addresses,
	} {
		service, err := notify.Open(strings.Replace(target, "PORT", port, 1))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		named, other := egress(t, nil, "localhost:"+port), egress(t, nil, "hooks.example.com")
		if service.Check(named) != nil || service.Check(other) == nil {
			t.Errorf("%s: only what is named may be reached", name)
		}
		for why, out := range map[string]*action.Egress{"no playbook may reach it": named, "`--egress-allow` does not name this host": other} {
			err := service.Send(t.Context(), out, notify.NewMessage("a", "b", "k", now))
			var unreached *notify.Unreached
			if !errors.As(err, &unreached) || !strings.Contains(unreached.Unwrap().Error(), why) || strings.Contains(err.Error(), "localhost") {
				t.Errorf("%s: %v, want one because %q", name, err, why)
			}
		}
	}
	if connections.Load() != 0 {
		t.Errorf("%d connections were made", connections.Load())
	}
}

// TestMailGivesUp does not wait for a server that says nothing.
func TestMailGivesUp(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	service, err := notify.Open("smtp://u:s3cr3t@" + listener.Addr().String() + "/" + addresses)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if connection, err := listener.Accept(); err == nil {
			defer func() { _ = connection.Close() }()
			cancel()
			<-t.Context().Done()
		}
	}()
	if err := service.Send(ctx, egress(t, nil, listener.Addr().String()), notify.NewMessage("a", "b", "k", now)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was given up", err)
	}
}
