package receiver

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// attributeSet gathers attributes while there is room: what comes first finds it.
type attributeSet struct {
	values  map[string]v1alpha1.AttributeValue
	dropped int
}

// add adds an attribute of which key and value may be hostile. What is empty is absent.
func (s *attributeSet) add(key, value string) {
	key, value = attributeKey(key), cleanLines(value, maxAttributeValue)
	_, taken := s.values[key]
	switch {
	case value == "" || key == "":
	case taken, len(s.values) == maxAttributes-1:
		s.dropped++
	default:
		if s.values == nil {
			s.values = map[string]v1alpha1.AttributeValue{}
		}
		s.values[key] = v1alpha1.AttributeValue(value)
	}
}

// addTexts adds texts by their sorted keys.
func (s *attributeSet) addTexts(prefix string, texts map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(texts)) {
		s.add(prefix+key, texts[key])
	}
}

// addFields adds the fields of an object by their sorted keys, as text.
func (s *attributeSet) addFields(prefix string, fields map[string]json.RawMessage) {
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		s.add(prefix+key, textOf(fields[key]))
	}
}

// all are the attributes, and how many had no room.
func (s *attributeSet) all() map[string]v1alpha1.AttributeValue {
	if s.dropped > 0 {
		s.values[attributeDropped] = v1alpha1.AttributeValue(itoa(s.dropped))
	}
	return s.values
}
