package action

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// LabelManagedBy is the label that says which product an object belongs to, and
	// ManagedBy its value on the objects of Firebreak.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	// ManagedBy is the value of LabelManagedBy on objects of Firebreak.
	ManagedBy = "firebreak"

	// isolationPrefix begins the key of every label that isolates a pod.
	isolationPrefix = "isolation.firebreak.dev/"

	shortHashDigits = 10
	maxFieldOwner   = 128
)

// ShortHash gives digits hexadecimal digits of a hash over parts; ("a", "b") and
// ("ab") differ. It must be at most 64.
func ShortHash(digits int, parts ...string) string {
	hash := sha256.New()
	for _, part := range parts {
		_, _ = fmt.Fprintf(hash, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(hash.Sum(nil))[:min(digits, sha256.Size*2)]
}

// NameFor joins a name and a suffix to the name of an object. What is longer than
// limit is cut from the name.
func NameFor(name, suffix string, limit int) string {
	if room := limit - len(suffix) - 1; len(name) > room {
		name = name[:max(room, 0)]
	}
	return strings.TrimRight(name, "-.") + "-" + suffix
}

// IncidentLabel gives the value of the label firebreak.dev/incident for an incident of
// that name: the name, or where it is too long for a label, its beginning and a hash.
func IncidentLabel(name string) string {
	if len(validation.IsValidLabelValue(name)) == 0 {
		return name
	}
	return NameFor(name, ShortHash(shortHashDigits, name), validation.LabelValueMaxLength)
}

func fieldOwner(incident *v1alpha1.Incident) string {
	owner := "firebreak-" + incident.Name
	if len(owner) > maxFieldOwner {
		return NameFor(owner, ShortHash(shortHashDigits, incident.Name), maxFieldOwner)
	}
	return owner
}
