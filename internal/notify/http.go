package notify

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
)

const (
	// maxAnswer is how much of an answer is read.
	maxAnswer = 16 << 10

	httpsPort = "443"
	jsonType  = "application/json"
)

// post is a message as one service takes it.
type post struct {
	method string
	url    string
	header http.Header
	body   []byte
	// judge says what an answer of success means. Nil means success.
	judge func(content []byte) *Error
}

// overHTTP is a service that takes messages by HTTPS.
func overHTTP(target *url.URL, render func(Message) (*post, error)) *Service {
	return &Service{
		host: target.Hostname(), port: cmp.Or(target.Port(), httpsPort),
		deliver: func(ctx context.Context, egress Egress, message Message) error {
			rendered, err := render(message)
			if err != nil {
				return &Error{Message: "the message cannot be written as the service takes it", Permanent: true}
			}
			return rendered.send(ctx, egress, message.Key)
		},
	}
}

// posting is a service that takes JSON at one URL.
func posting(target *url.URL, header http.Header, judge func([]byte) *Error, payload func(Message) any) *Service {
	return overHTTP(target, func(message Message) (*post, error) {
		body, err := json.Marshal(payload(message))
		sent := header.Clone()
		if sent == nil {
			sent = http.Header{}
		}
		sent.Set("Content-Type", jsonType)
		return &post{method: http.MethodPost, url: target.String(), header: sent, body: body, judge: judge}, err
	})
}

func (p *post) send(ctx context.Context, egress Egress, key string) error {
	request, err := http.NewRequestWithContext(ctx, p.method, p.url, bytes.NewReader(p.body))
	if err != nil {
		return &Error{Message: "no request can be made of its URL", Permanent: true}
	}
	for name, values := range p.header {
		request.Header[name] = values
	}
	request.Header.Set("User-Agent", "firebreak")
	request.Header.Set("Idempotency-Key", key)
	answer, err := egress.Client().Do(request)
	if err != nil {
		return &Unreached{err}
	}
	defer func() { _ = answer.Body.Close() }() // it was read as far as it is wanted
	content, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	code := answer.StatusCode
	switch {
	case code < 200 || code > 299:
		return &Error{
			Message:   fmt.Sprintf("it has answered %d %s", code, http.StatusText(code)),
			Permanent: code < 500 && code != http.StatusRequestTimeout && code != http.StatusTooEarly && code != http.StatusTooManyRequests,
		}
	case err != nil || p.judge == nil:
		return nil // it was taken, whatever else was to be said
	}
	if refusal := p.judge(content); refusal != nil {
		return refusal
	}
	return nil
}

// word is an error's name, as services give it; anything else might repeat a secret.
var word = regexp.MustCompile(`^[a-z]{2,20}(_[a-z]{2,20}){0,3}$`)

// secure gives a URL of HTTPS without credentials, and the header that carries them.
func secure(target *url.URL) (*url.URL, http.Header, error) {
	if target.Scheme != "https" {
		return nil, nil, errPlain
	}
	copied, header := *target, http.Header{}
	if copied.User != nil {
		password, _ := copied.User.Password()
		request := &http.Request{Header: header}
		request.SetBasicAuth(copied.User.Username(), password)
	}
	copied.User, copied.Fragment, copied.RawFragment = nil, "", ""
	return &copied, header, nil
}

// atHost is a URL of HTTPS.
func atHost(host string, port uint16, path string) *url.URL {
	target := &url.URL{Scheme: "https", Host: host, Path: path}
	if port != 0 && port != 443 {
		target.Host += ":" + strconv.Itoa(int(port))
	}
	return target
}
