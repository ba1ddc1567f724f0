package expression

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
)

const (
	// maxDepth and maxNodes bound what an expression may yield.
	maxDepth = 32
	maxNodes = 10_000
	// maxBytes is how many bytes of text it may yield in all.
	maxBytes = 256 * 1024
)

// builder makes plain JSON values of what an expression has yielded.
type builder struct{ nodes, bytes int }

// native gives the plain value: nil, bool, int64, float64, string, []any and
// map[string]any, which share nothing with what the expression has seen.
func native(value ref.Val) (any, error) {
	b := &builder{}
	return b.value(value, 0)
}

func (b *builder) value(value any, depth int) (any, error) {
	if b.nodes++; b.nodes > maxNodes {
		return nil, fmt.Errorf("has yielded more than %d values", maxNodes)
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("has yielded more than %d levels", maxDepth)
	}
	switch v := value.(type) {
	case nil, types.Null:
		return nil, nil
	case string:
		return b.text(v)
	case bool:
		return v, nil
	case int64:
		return v, nil
	case int:
		return int64(v), nil
	case int32:
		return int64(v), nil
	case float64:
		return number(v)
	case map[string]any:
		return b.plainMap(v, depth)
	case []any:
		return b.plainList(v, depth)
	case ref.Val:
		return b.yielded(v, depth)
	default:
		return nil, fmt.Errorf("has yielded a %T, which JSON does not have", value)
	}
}

func (b *builder) yielded(value ref.Val, depth int) (any, error) {
	switch v := value.(type) {
	case types.Bool:
		return bool(v), nil
	case types.Int:
		return int64(v), nil
	case types.Uint:
		if v > math.MaxInt64 {
			return nil, fmt.Errorf("has yielded %d, which is too large", uint64(v))
		}
		return int64(v), nil
	case types.Double:
		return number(float64(v))
	case types.String:
		return b.text(string(v))
	case types.Timestamp:
		return b.text(v.UTC().Format(time.RFC3339Nano))
	case types.Duration:
		return b.text(v.String())
	case *types.Err:
		return nil, v
	case *types.Optional:
		if !v.HasValue() {
			return nil, errors.New("has yielded optional.none(): use 'orValue' to give a value in its place")
		}
		return b.value(v.GetValue(), depth)
	case *types.Unknown:
		return nil, errors.New("has yielded nothing")
	}
	switch plain := value.Value().(type) {
	case map[string]any:
		return b.plainMap(plain, depth)
	case []any:
		return b.plainList(plain, depth)
	}
	switch v := value.(type) {
	case traits.Mapper:
		return b.mapper(v, depth)
	case traits.Lister:
		return b.lister(v, depth)
	}
	return nil, fmt.Errorf("has yielded a %s, which JSON does not have", value.Type().TypeName())
}

func (b *builder) text(text string) (any, error) {
	if b.bytes += len(text); b.bytes > maxBytes {
		return nil, fmt.Errorf("has yielded more than %d bytes", maxBytes)
	}
	return text, nil
}

func number(value float64) (any, error) {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return nil, errors.New("has yielded a number that JSON does not have")
	}
	return value, nil
}

func (b *builder) plainMap(from map[string]any, depth int) (any, error) {
	to := make(map[string]any, len(from))
	for key, value := range from {
		if err := b.entry(to, key, value, depth); err != nil {
			return nil, err
		}
	}
	return to, nil
}

func (b *builder) entry(to map[string]any, key string, value any, depth int) error {
	if _, err := b.text(key); err != nil {
		return err
	}
	plain, err := b.value(value, depth+1)
	to[key] = plain
	return err
}

func (b *builder) plainList(from []any, depth int) (any, error) {
	to := make([]any, 0, len(from))
	for _, value := range from {
		plain, err := b.value(value, depth+1)
		if err != nil {
			return nil, err
		}
		to = append(to, plain)
	}
	return to, nil
}

func (b *builder) mapper(from traits.Mapper, depth int) (any, error) {
	to := map[string]any{}
	for keys := from.Iterator(); keys.HasNext() == types.True; {
		key := keys.Next()
		name, ok := key.(types.String)
		if !ok {
			return nil, fmt.Errorf("has yielded a map with a key of type %s: keys must be strings", key.Type().TypeName())
		}
		if err := b.entry(to, string(name), from.Get(key), depth); err != nil {
			return nil, err
		}
	}
	return to, nil
}

func (b *builder) lister(from traits.Lister, depth int) (any, error) {
	to := []any{}
	for values := from.Iterator(); values.HasNext() == types.True; {
		plain, err := b.value(values.Next(), depth+1)
		if err != nil {
			return nil, err
		}
		to = append(to, plain)
	}
	return to, nil
}
