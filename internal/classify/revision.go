package classify

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// maxRevisionPrefix is how much of a policy's name is in the name of its revisions.
const maxRevisionPrefix = 200

// errOtherText says that a kept text is not the one that was kept.
var errOtherText = errors.New("the kept text is not the one that was in force: it was changed, or belongs to another policy")

// Revision gives the name of the revision that keeps a policy's text, and the text.
func Revision(source *v1alpha1.ClassificationPolicy) (v1alpha1.PolicyRevision, []byte, error) {
	raw, err := json.Marshal(source.Spec)
	if err != nil {
		return v1alpha1.PolicyRevision{}, nil, fmt.Errorf("policy %s: %w", source.Name, err)
	}
	// The hash is over the UID too: one that was deleted and made anew is another policy.
	sum := sha256.Sum256(append([]byte(source.UID+"\n"), raw...))
	prefix := strings.TrimRight(source.Name[:min(len(source.Name), maxRevisionPrefix)], "-.")
	name := fmt.Sprintf("%s-%d-%s", prefix, source.Generation, hex.EncodeToString(sum[:8]))
	return v1alpha1.PolicyRevision{Generation: source.Generation, Revision: name}, raw, nil
}

// Revised gives a policy as it was in a generation whose text was kept. The error says that
// the text is another one.
func Revised(source *v1alpha1.ClassificationPolicy, kept v1alpha1.PolicyRevision, raw []byte) (*v1alpha1.ClassificationPolicy, error) {
	then := &v1alpha1.ClassificationPolicy{ObjectMeta: *source.ObjectMeta.DeepCopy()}
	then.Generation = kept.Generation
	if err := json.Unmarshal(raw, &then.Spec); err != nil {
		return nil, errOtherText
	}
	// The API server keeps the text as an object, in an order of its own.
	if again, _, err := Revision(then); err != nil || again != kept {
		return nil, errOtherText
	}
	return then, nil
}
