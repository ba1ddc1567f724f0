package receiver

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// window is the time within which an equal fingerprint is the same event.
	window = time.Hour

	nameStep    = 10
	maxProduct  = 40
	eventPrefix = "event"
)

// identity is what makes two alerts the same event: equal identities are one event.
type identity struct {
	namespace string
	prefix    string
	hash      string
}

func identify(namespace string, a *alert) identity {
	spec := &a.spec
	id := identity{namespace: namespace, prefix: productSlug(spec.Source.Product)}
	start := a.windowOf(spec.ObservedTime)
	if spec.Fingerprint != "" {
		id.hash = digest("fingerprint", spec.SubmittedBy, spec.Source.Product, spec.Source.Rule, spec.Fingerprint, string(spec.Mode.OrLive()), start)
		return id
	}
	if !a.undated {
		start = ""
	}
	// A struct of strings, times and maps always marshals, and always the same way.
	content, _ := json.Marshal(a.content(spec))
	id.hash = digest("content", spec.SubmittedBy, string(content), string(spec.Mode.OrLive()), start)
	return id
}

// content is a spec without what the receiver filled in differently for each delivery.
func (a *alert) content(spec *v1alpha1.SecurityEventSpec) *v1alpha1.SecurityEventSpec {
	content := spec.DeepCopy()
	content.Mode = saidMode(spec.Mode)
	if a.undated {
		content.ObservedTime = metav1.Time{}
	}
	if a.unhashed {
		content.RawDataHash = ""
	}
	return content
}

// saidMode is a mode as a sender says it who does not say the usual one: the API server fills
// that in, and reports were named before there was any.
func saidMode(mode v1alpha1.Mode) v1alpha1.Mode {
	if mode == v1alpha1.ModeLive {
		return ""
	}
	return mode
}

// sameAs says whether a recorded event is this alert's, and not one that has its name.
func (a *alert) sameAs(event *v1alpha1.SecurityEvent) bool {
	if a.spec.SubmittedBy != event.Spec.SubmittedBy || a.spec.Fingerprint != event.Spec.Fingerprint ||
		a.spec.Mode.OrLive() != event.Spec.Mode.OrLive() {
		return false
	}
	if a.spec.Fingerprint == "" {
		return equality.Semantic.DeepEqual(a.content(&a.spec), a.content(&event.Spec))
	}
	return a.spec.Source.Product == event.Spec.Source.Product && a.spec.Source.Rule == event.Spec.Source.Rule &&
		a.windowOf(a.spec.ObservedTime) == a.windowOf(event.Spec.ObservedTime)
}

// windowOf is the window of an alert's kind in which a time is.
func (a *alert) windowOf(observed metav1.Time) string {
	length := window
	switch {
	case a.window < 0:
		return ""
	case a.window > 0:
		length = a.window
	}
	return observed.UTC().Truncate(length).Format(time.RFC3339)
}

// name is the n-th name to try, each longer than the one before while that is possible.
func (id identity) name(n int) string {
	return id.prefix + "-" + id.hash[:min((n+1)*nameStep, len(id.hash))]
}

// names is how many names there are.
func (id identity) names() int {
	return (len(id.hash) + nameStep - 1) / nameStep
}

// beside is the identity to go on with when a foreign event has even the longest
// name: nobody can know it before that event exists.
func (id identity) beside(foreign types.UID) identity {
	id.hash = digest("beside", id.hash, string(foreign))
	return id
}

// apart is the identity to go on with when others have made events of all names that can be
// known beforehand.
func (id identity) apart(by ...string) identity {
	id.hash = digest(append([]string{"apart", id.hash}, by...)...)
	return id
}

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

func productSlug(product string) string {
	slug := strings.Trim(notInName.ReplaceAllString(strings.ToLower(product), "-"), "-")
	if len(slug) > maxProduct {
		slug = strings.Trim(slug[:maxProduct], "-")
	}
	if slug == "" {
		return eventPrefix
	}
	return slug
}

// digest is the SHA-256 of a list of strings, none of which can run into the next.
func digest(parts ...string) string {
	hash := sha256.New()
	for _, part := range parts {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		hash.Write(length[:])
		hash.Write([]byte(part))
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// hashOf is the value of rawDataHash for a report as it was received.
func hashOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func itoa(n int) string {
	return strconv.Itoa(n)
}
