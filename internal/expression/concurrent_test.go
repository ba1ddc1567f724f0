package expression

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/cel-go/common/types"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// With the race detector this would find what environments and parsers share.
func TestExpressionsAreReadAtTheSameTime(t *testing.T) {
	failures := make([]error, 64)
	var group sync.WaitGroup
	for i := range failures {
		group.Go(func() {
			source := fmt.Sprintf(`{"a": [%d, "b", {"c": incident.severity == "High" || %d > 1}], "d": resources.map(r, {"e": r.name + "-%d"})}`, i, i, i)
			if i%2 == 0 {
				_, failures[i] = compile(Playbook, source, types.DynType)
			} else {
				_, failures[i] = Parse(v1alpha1.Expression(source))
			}
		})
	}
	group.Wait()
	for i, err := range failures {
		if err != nil {
			t.Errorf("expression %d: %v", i, err)
		}
	}
}
