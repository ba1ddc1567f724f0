package expression

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/cel-go/common/types"
)

// With the race detector this finds what parsers share.
func TestExpressionsCompileAtTheSameTime(t *testing.T) {
	failures := make([]error, 64)
	var group sync.WaitGroup
	for i := range failures {
		group.Go(func() {
			source := fmt.Sprintf(`{"a": [%d, "b", {"c": incident.severity == "High" || %d > 1}], "d": resources.map(r, {"e": r.name + "-%d"})}`, i, i, i)
			_, failures[i] = compile(Playbook, source, types.DynType)
		})
	}
	group.Wait()
	for i, err := range failures {
		if err != nil {
			t.Errorf("expression %d: %v", i, err)
		}
	}
}
