package action

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// The headers that Firebreak sets.
const (
	// HeaderIdempotencyKey is the same for every try of one step, attempt and target.
	HeaderIdempotencyKey = "Idempotency-Key"
	// HeaderTimestamp is when the request was signed, in seconds since 1970.
	HeaderTimestamp = "Firebreak-Timestamp"
	// HeaderSignature is the HMAC-SHA256 over the timestamp, a full stop and the body, in
	// hexadecimal digits.
	HeaderSignature = "Firebreak-Signature"
)

// ownHeaders cannot be set by a playbook.
var ownHeaders = []string{
	HeaderIdempotencyKey, HeaderTimestamp, HeaderSignature,
	"Host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "Te", "Trailer", "Expect", "Proxy-Authorization", "Proxy-Connection", "Keep-Alive",
}

// shortestSecret is from how many bytes on a secret is looked for in what is said.
const shortestSecret = 4

// renderedRequest is a request that is ready to be sent.
type renderedRequest struct {
	method string
	url    string
	// host is how the message names where it goes; it gives away no secret.
	host   string
	header http.Header
	body   []byte
	// record is what is kept of the body; nil when there is none.
	record *sentRecord
	// secrets are what must not be said, as keepSecret takes it down.
	secrets []string
}

// keepSecret takes down what must not be said, in every way in which it may be written.
func (q *renderedRequest) keepSecret(texts ...string) {
	for _, text := range texts {
		all := []string{text, strings.ToValidUTF8(text, string(utf8.RuneError)), url.QueryEscape(text), url.PathEscape(text)}
		for _, escapeHTML := range []bool{true, false} {
			var quoted strings.Builder
			encoder := json.NewEncoder(&quoted)
			encoder.SetEscapeHTML(escapeHTML)
			if encoder.Encode(text) == nil {
				all = append(all, strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(quoted.String()), `"`), `"`))
			}
		}
		for _, one := range all {
			if len(one) >= shortestSecret {
				q.secrets = append(q.secrets, one)
			}
		}
	}
	// The longest first: what is part of another must not break it up.
	slices.SortFunc(q.secrets, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	q.secrets = slices.Compact(q.secrets)
}

// hide takes the secrets of a request out of a text.
func (q *renderedRequest) hide(text string) string {
	for _, secret := range q.secrets {
		text = strings.ReplaceAll(text, secret, "(hidden)")
	}
	return text
}

// write gives a value without the secrets of a request: a text as it is, and all else as JSON.
func (q *renderedRequest) write(value any) (string, error) {
	value = q.without(value)
	if text, ok := value.(string); ok {
		return text, nil
	}
	raw, err := json.Marshal(value)
	return q.hide(string(raw)), err
}

// without takes the secrets out of every text in a value: as JSON they may look different.
func (q *renderedRequest) without(value any) any {
	switch v := value.(type) {
	case string:
		return q.hide(v)
	case []any:
		hidden := make([]any, 0, len(v))
		for _, part := range v {
			hidden = append(hidden, q.without(part))
		}
		return hidden
	case map[string]any:
		hidden := make(map[string]any, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			hidden[q.hide(key)] = q.without(v[key])
		}
		return hidden
	default:
		return value
	}
}

// renderHTTP makes the request of the step.
func (r *Request) renderHTTP(ctx context.Context) (*renderedRequest, *lifecycle.Result) {
	if r.Step.HTTP == nil {
		problem := refused("step '%s' has no `http`", r.Step.Name)
		return nil, &problem
	}
	if r.Egress == nil || len(r.Egress.rules) == 0 {
		problem := refused("no request leaves the cluster: the manager's `--egress-allow` names no host")
		return nil, &problem
	}
	rendered := &renderedRequest{method: string(r.Step.HTTP.Method), header: http.Header{}}
	if rendered.method == "" {
		rendered.method = http.MethodPost
	}
	for _, part := range []func(context.Context, *renderedRequest) *lifecycle.Result{r.renderURL, r.renderBody, r.renderHeaders, r.sign} {
		if problem := part(ctx, rendered); problem != nil {
			return nil, problem
		}
	}
	return rendered, nil
}

// renderURL finds where the request goes. Of a URL in a Secret nothing is ever said.
func (r *Request) renderURL(ctx context.Context, rendered *renderedRequest) *lifecycle.Result {
	rendered.url = r.Step.HTTP.URL
	field, secret := "`http.url`", r.Step.HTTP.URLFrom //nolint:gosec // the name of a field
	if secret != nil {
		value, problem := r.secretValue(ctx, secret)
		if problem != nil {
			return problem
		}
		rendered.url = value
		rendered.keepSecret(value)
		field = fmt.Sprintf("the URL in key '%s' of Secret '%s'", secret.Key, secret.Name)
	}
	target, err := url.Parse(rendered.url)
	if err != nil || target.Host == "" {
		problem := refused("%s must be a URL, such as 'https://hooks.example.com/x'", field)
		return &problem
	}
	if secret != nil {
		rendered.host = field
		rendered.keepSecret(target.RequestURI(), target.EscapedPath(), target.Path, strings.Trim(target.Path, "/"), target.RawQuery)
		for _, values := range target.Query() {
			rendered.keepSecret(values...)
		}
	} else {
		rendered.host = "'" + target.Host + "'"
	}
	if err := r.Egress.Allows(target); err != nil {
		problem := refused("%s: %v", field, err)
		return &problem
	}
	return nil
}

// renderBody makes the body, or takes the one on record.
func (r *Request) renderBody(ctx context.Context, rendered *renderedRequest) *lifecycle.Result {
	if r.Step.HTTP.Body == "" && (rendered.method == http.MethodGet || rendered.method == http.MethodDelete) {
		return nil
	}
	var problem *lifecycle.Result
	if rendered.body, rendered.record, problem = r.pinBody(ctx); problem != nil {
		return problem
	}
	rendered.header.Set("Content-Type", "application/json")
	return nil
}

// writeBody writes the body as the incident and the object are now.
func (r *Request) writeBody(ctx context.Context, object map[string]any) ([]byte, *lifecycle.Result) {
	content := any(map[string]any{
		"incident": r.Incident.Name, "namespace": r.Incident.Namespace, "title": r.Incident.Spec.Title,
		"severity": firstText(string(r.Incident.Status.Severity), string(r.Incident.Spec.Severity)),
		"category": firstText(string(r.Incident.Status.Category), string(r.Incident.Spec.Category)),
		"step":     r.Step.Name,
	})
	if r.Step.HTTP.Body != "" {
		value, err := r.Values.Value(ctx, r.Incident, r.Step.HTTP.Body, object)
		if err != nil {
			return nil, refusal("`http.body` %v", err)
		}
		content = value
	}
	raw, err := json.Marshal(content)
	if err != nil {
		return nil, refusal("`http.body` %v", err)
	}
	return raw, nil
}

func firstText(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// renderHeaders sets the headers.
func (r *Request) renderHeaders(ctx context.Context, rendered *renderedRequest) *lifecycle.Result {
	rendered.header.Set("User-Agent", "firebreak")
	rendered.header.Set("Accept", "application/json, */*;q=0.1")
	for i := range r.Step.HTTP.Headers {
		header := &r.Step.HTTP.Headers[i]
		name := http.CanonicalHeaderKey(header.Name)
		if slices.Contains(ownHeaders, name) {
			problem := refused("`http.headers[%s]` must not be set: Firebreak sets it", header.Name)
			return &problem
		}
		value := header.Value
		if header.ValueFrom != nil {
			secret, problem := r.secretValue(ctx, header.ValueFrom)
			if problem != nil {
				return problem
			}
			value = secret
			rendered.keepSecret(secret)
			if _, token, found := strings.Cut(secret, " "); found {
				rendered.keepSecret(token)
			}
		}
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			problem := refused("`http.headers[%s]` has a value that no header can have: it must be one line of text", header.Name)
			return &problem
		}
		rendered.header.Set(name, value)
	}
	rendered.header.Set(HeaderIdempotencyKey, r.sendKey())
	return nil
}

// sign signs the body, with the time, so that a request cannot be sent again much later.
func (r *Request) sign(ctx context.Context, rendered *renderedRequest) *lifecycle.Result {
	timestamp := strconv.FormatInt(r.Now.Unix(), 10)
	rendered.header.Set(HeaderTimestamp, timestamp)
	if r.Step.HTTP.SignatureFrom == nil {
		return nil
	}
	key, problem := r.secretValue(ctx, r.Step.HTTP.SignatureFrom)
	if problem != nil {
		return problem
	}
	rendered.keepSecret(key)
	rendered.header.Set(HeaderSignature, Signature(key, timestamp, rendered.body))
	return nil
}

// Signature is what HeaderSignature holds.
func Signature(key, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(key))
	_, _ = mac.Write([]byte(timestamp + ".")) // a hash never fails
	_, _ = mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// secretValue reads one value of a Secret of the domain's namespace, as the playbook's
// ServiceAccount. A line end at its end is not part of it.
func (r *Request) secretValue(ctx context.Context, reference *v1alpha1.SecretKeyReference) (string, *lifecycle.Result) {
	secret := &corev1.Secret{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: r.Incident.Namespace, Name: reference.Name}, secret)
	if err != nil {
		problem := r.failure(err, access{verb: "get", resource: "secrets", namespace: r.Incident.Namespace, name: reference.Name})
		return "", &problem
	}
	value := strings.TrimRight(string(secret.Data[reference.Key]), "\r\n")
	if value == "" {
		problem := refused("Secret '%s' has nothing in key '%s'", reference.Name, reference.Key)
		return "", &problem
	}
	return value, nil
}
