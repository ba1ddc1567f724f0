package action

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

const (
	// maxAnswer is how much of an answer is read.
	maxAnswer = 64 << 10
	// maxAnswerHeaders is how many headers of an answer expressions see.
	maxAnswerHeaders = 64
)

// httpRequest sends one HTTPS request. A manager that was killed before the answer was on
// record sends it again, with the same Idempotency-Key and the same body.
type httpRequest struct{}

var _ = register("http", httpRequest{})

// Plan renders the request, gives its body to be kept, and sends nothing.
func (httpRequest) Plan(ctx context.Context, r *Request) lifecycle.Result {
	rendered, problem := r.renderHTTP(ctx)
	if problem != nil {
		return *problem
	}
	result := lifecycle.Result{State: v1alpha1.TargetActing, Message: say("%s to %s will be sent", rendered.method, rendered.host)}
	if rendered.record == nil || r.DryRun {
		return result
	}
	if result.Undo, problem = rendered.record.text(); problem != nil {
		return *problem
	}
	return result
}

// Apply sends the request.
func (httpRequest) Apply(ctx context.Context, r *Request) lifecycle.Result {
	rendered, problem := r.renderHTTP(ctx)
	if problem != nil {
		return *problem
	}
	if r.DryRun {
		return done("dry run: %s to %s would be sent, with %d bytes", rendered.method, rendered.host, len(rendered.body))
	}
	request, err := http.NewRequestWithContext(ctx, rendered.method, rendered.url, bytes.NewReader(rendered.body))
	if err != nil {
		return refused("the request to %s cannot be made", rendered.host)
	}
	request.Header = rendered.header
	answer, err := r.Egress.client.Do(request)
	if err != nil {
		message, permanent := explainEgress(err, rendered.host)
		result := failed("%s", message)
		result.Permanent = permanent
		return result
	}
	defer func() { _ = answer.Body.Close() }() // it was read as far as it is wanted
	content, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return failed("%s: the answer broke off", rendered.host)
	}
	return r.judgeAnswer(ctx, rendered, answer, content)
}

// judgeAnswer says what an answer means, and takes the outputs from it.
func (r *Request) judgeAnswer(ctx context.Context, rendered *renderedRequest, answer *http.Response, content []byte) lifecycle.Result {
	code := answer.StatusCode
	if code < 200 || code > 299 {
		result := failed("%s has answered %d %s", rendered.host, code, http.StatusText(code))
		result.Permanent = code < 500 && code != http.StatusRequestTimeout && code != http.StatusTooEarly && code != http.StatusTooManyRequests
		return result
	}
	result := done("%s has answered %d %s", rendered.host, code, http.StatusText(code))
	if len(r.Step.HTTP.Outputs) == 0 {
		return result
	}
	if len(content) > maxAnswer {
		return refused("%s has answered %d with more than %d bytes: no outputs can be taken from it", rendered.host, code, maxAnswer)
	}
	response := responseOf(answer, content)
	for i := range r.Step.HTTP.Outputs {
		output := &r.Step.HTTP.Outputs[i]
		value, err := r.Values.FromResponse(ctx, output.Expression, response)
		if err != nil {
			return refused("%s has answered %d, but `http.outputs[%s].expression` %s", rendered.host, code, output.Name, rendered.hide(err.Error()))
		}
		text, err := rendered.write(value)
		if err != nil {
			return refused("%s has answered %d, but `http.outputs[%s].expression` has yielded what cannot be written as JSON", rendered.host, code, output.Name)
		}
		result.Outputs = append(result.Outputs, v1alpha1.StepOutput{Name: output.Name, Value: &text})
	}
	return result
}

// responseOf is an answer as expressions see it. The body is parsed when it is JSON.
func responseOf(answer *http.Response, content []byte) map[string]any {
	headers := map[string]any{}
	names := slices.Sorted(maps.Keys(answer.Header))
	for _, name := range names[:min(len(names), maxAnswerHeaders)] {
		headers[strings.ToLower(name)] = strings.ToValidUTF8(strings.Join(answer.Header[name], ", "), string(utf8.RuneError))
	}
	var body any
	if err := utiljson.Unmarshal(content, &body); err != nil {
		body = strings.ToValidUTF8(string(content), string(utf8.RuneError))
	}
	return map[string]any{"status": int64(answer.StatusCode), "headers": headers, "body": body}
}

// Observe has nothing to look at: what was answered was answered.
func (httpRequest) Observe(context.Context, *Request) lifecycle.Result {
	return done("the request was answered")
}

// Undo cannot take back a request.
func (httpRequest) Undo(context.Context, *Request) lifecycle.Result {
	return refused("the request was sent, and that cannot be undone")
}
