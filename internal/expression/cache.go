package expression

import (
	"sync"

	"github.com/google/cel-go/common/types"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// maxPrograms is how many compiled expressions a Cache keeps; beyond it all are compiled anew.
const maxPrograms = 1024

// Cache keeps compiled expressions, so that each is compiled once. The zero value is
// ready to use; it is safe for concurrent use.
type Cache struct {
	mu       sync.Mutex
	programs map[cacheKey]*Program
}

type cacheKey struct {
	scope  Scope
	want   string
	source string
}

// compile gives the program of an expression that must yield a type.
func (c *Cache) compile(scope Scope, source v1alpha1.Expression, want *types.Type) (*Program, error) {
	key := cacheKey{scope, want.String(), string(source)}
	c.mu.Lock()
	known, ok := c.programs[key]
	c.mu.Unlock()
	if ok {
		return known, nil
	}
	program, err := compile(scope, string(source), want)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.programs == nil || len(c.programs) >= maxPrograms {
		c.programs = map[cacheKey]*Program{}
	}
	c.programs[key] = program
	return program, nil
}
