package classify

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// nameDigits is by how many characters of the hash an incident's name grows.
const nameDigits = 5

var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Correlation says which incident an event belongs to. Everything in it is
// deterministic: whoever asks again, after a crash or in another replica, gets the
// same label and names.
type Correlation struct {
	// Mode keeps drills from mixing with the real thing. Empty means Live.
	Mode v1alpha1.Mode
	// Policy and Rule are what decided; 'decision' and empty when a person did.
	Policy, Rule string
	// Key are the values by which events belong together.
	Key []string
	// Within is how long after an incident was opened events still join it; zero means
	// that no other event ever joins.
	Within time.Duration
}

// DecisionCorrelation is the correlation of an incident that a person's Decision opens for
// an event. No event ever joins by it.
func DecisionCorrelation(decision *v1alpha1.Decision, event *v1alpha1.SecurityEvent) Correlation {
	return Correlation{Mode: event.Spec.Mode, Policy: "decision", Key: []string{string(decision.UID)}}
}

// Label is the value of the label v1alpha1.LabelCorrelation: a hash of all but Within.
func (c Correlation) Label() string {
	return c.hash()
}

// SequenceLabel is the value of the label v1alpha1.LabelCorrelationSequence.
func SequenceLabel(sequence int) string { return strconv.Itoa(sequence) }

// IncidentName is the name of the sequence-th incident of the correlation, when its
// first event was observed at that time. Where the name is taken by an incident of
// another correlation, attempt 1, 2 and so on give longer ones, until ok is false.
func (c Correlation) IncidentName(observed time.Time, sequence, attempt int) (name string, ok bool) {
	hash := c.hash(strconv.Itoa(sequence))
	digits := nameDigits * (attempt + 1)
	if attempt < 0 || digits > len(hash) {
		return "", false
	}
	return fmt.Sprintf("inc-%s-%s", observed.UTC().Format("20060102"), hash[:digits]), true
}

// hash is over length-prefixed parts, so that no part can pass for two.
func (c Correlation) hash(more ...string) string {
	sum := sha256.New()
	for _, parts := range [][]string{{string(c.Mode.OrLive()), c.Policy, c.Rule}, c.Key, more} {
		fmt.Fprintf(sum, "%d;", len(parts))
		for _, part := range parts {
			fmt.Fprintf(sum, "%d:%s", len(part), part)
		}
	}
	return lowerBase32.EncodeToString(sum.Sum(nil))
}

// Line makes one line of at most limit characters of a text that may be hostile: what
// is not printable becomes a space, so that no terminal is steered by it.
func Line(text string, limit int) string {
	var line strings.Builder
	count := 0
	for _, r := range strings.ToValidUTF8(text, "\uFFFD") {
		if count == limit {
			break
		}
		if !unicode.IsPrint(r) {
			r = ' '
		}
		line.WriteRune(r)
		count++
	}
	return strings.TrimSpace(line.String())
}
