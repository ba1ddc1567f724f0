package action

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/firebreak-dev/firebreak/internal/lifecycle"
	"github.com/firebreak-dev/firebreak/internal/notify"
)

// sentRecord is what is kept before something is sent, so that under one key always the
// same is sent, whatever has become of the incident since. The lifecycle keeps it until
// there is an answer.
type sentRecord struct {
	// Key is the idempotency key. A record of another key is of an earlier attempt.
	Key string `json:"sentAs"`
	// Body is the body of a request.
	Body json.RawMessage `json:"body,omitempty"`
	// Digest stands in for a body with secrets of the target: those are in no record.
	Digest string `json:"digest,omitempty"`
	// Message is what people are told.
	Message *sentMessage `json:"message,omitempty"`
}

// sentMessage is a message as it is kept.
type sentMessage struct {
	Title string    `json:"title"`
	Text  string    `json:"text"`
	Time  time.Time `json:"time"`
}

// sendKey is the same for every try of one step, attempt and target.
func (r *Request) sendKey() string {
	return ShortHash(32, string(r.Incident.UID), r.Step.Name, strconv.Itoa(int(r.Attempt)), string(r.Target.UID))
}

// sent gives what is on record of what is sent under the request's key; nil when nothing is.
func (r *Request) sent() (*sentRecord, *lifecycle.Result) {
	if r.Target.Undo == "" {
		return nil, nil
	}
	record := &sentRecord{}
	if err := json.Unmarshal([]byte(r.Target.Undo), record); err != nil {
		return nil, refusal("the record of what is sent cannot be read: %v", err)
	}
	if record.Key != r.sendKey() {
		return nil, nil
	}
	return record, nil
}

// text writes the record for the status.
func (s *sentRecord) text() (string, *lifecycle.Result) {
	raw, err := json.Marshal(s)
	if err != nil {
		return "", refusal("what is sent cannot be kept: %v", err)
	}
	return string(raw), nil
}

// pinBody gives the body to send: the one on record, or the one that is made now, and the
// record to keep of it.
func (r *Request) pinBody(ctx context.Context) ([]byte, *sentRecord, *lifecycle.Result) {
	record, problem := r.sent()
	if problem != nil || record != nil && record.Body != nil {
		return bodyOf(record), record, problem
	}
	body, secret, problem := r.makeBody(ctx)
	if problem != nil {
		return nil, nil, problem
	}
	made := &sentRecord{Key: r.sendKey(), Body: body}
	if secret {
		made.Body, made.Digest = nil, digestOf(body)
	}
	if record != nil && record.Digest != digestOf(body) {
		return nil, nil, refusal("what was to be sent has changed, and is not sent under the same key: it holds secrets of %s, so only its digest was kept; RetryStep sends it as it is now",
			r.targetName())
	}
	return body, made, nil
}

func bodyOf(record *sentRecord) []byte {
	if record == nil {
		return nil
	}
	return record.Body
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// makeBody makes the body of a request. It is secret when it is another one without the
// secrets of the object that it speaks of.
func (r *Request) makeBody(ctx context.Context) (body []byte, secret bool, problem *lifecycle.Result) {
	if r.Step.HTTP.Body == "" {
		body, problem = r.writeBody(ctx, nil)
		return body, false, problem
	}
	object, problem := r.seenTarget(ctx, true)
	if problem != nil {
		return nil, false, problem
	}
	redacted := runtime.DeepCopyJSON(object)
	if body, problem = r.writeBody(ctx, object); problem != nil {
		return nil, false, problem
	}
	hidden := &redaction{}
	if hidden.redact(redacted, ""); len(hidden.paths) == 0 {
		return body, false, nil
	}
	without, problem := r.writeBody(ctx, redacted)
	return body, problem != nil || !bytes.Equal(body, without), nil
}

// pinMessage gives the message to send: the one on record, or the one that is made now.
func (r *Request) pinMessage(write func() (notify.Message, *lifecycle.Result)) (notify.Message, *lifecycle.Result) {
	record, problem := r.sent()
	if problem != nil {
		return notify.Message{}, problem
	}
	if record != nil && record.Message != nil {
		kept := record.Message
		return notify.Message{Title: kept.Title, Text: kept.Text, Key: record.Key, Time: kept.Time}, nil
	}
	return write()
}

func recordOfMessage(message notify.Message) *sentRecord {
	return &sentRecord{Key: message.Key, Message: &sentMessage{Title: message.Title, Text: message.Text, Time: message.Time.UTC()}}
}
