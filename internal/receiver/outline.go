package receiver

import (
	"encoding/json"
	"maps"
	"slices"
)

// outline reads only some fields of an object, whose values it does not check. The others may be
// what they will, nested as deep as they will: they take no memory.
func outline(raw []byte, pointer string, keys ...string) (object, error) {
	o := object{fields: map[string]json.RawMessage{}, pointer: pointer}
	if kindOf(raw) != "object" {
		return o, fieldProblem(pointer, "must be an object, is %s", describe(raw))
	}
	end, whole := members(raw, func(key, value []byte) {
		if name := unquoted(key); slices.Contains(keys, string(name)) {
			o.fields[string(name)] = value
		}
	})
	if !whole {
		return o, fieldProblem(pointer, "must be JSON, is not from byte %d of it on", end)
	}
	return o, nil
}

// checked is how many values there are in the fields that were read, when they are JSON and not
// too many.
func (o object) checked(most int) (values int, err error) {
	for _, key := range slices.Sorted(maps.Keys(o.fields)) {
		raw := o.fields[key]
		more, problem := checkValues(raw, o.at(key), most-values)
		if problem != nil {
			return values, problem
		}
		if values += more; !json.Valid(raw) {
			return values, fieldProblem(o.at(key), "must be JSON")
		}
	}
	return values, nil
}

// outlineList is the items of a list, unparsed and unchecked as the fields of an outline.
func (o object) outlineList(key string) ([]json.RawMessage, error) {
	raw := o.fields[key]
	if kindOf(raw) == "null" {
		return nil, nil
	}
	if kindOf(raw) != "list" {
		return nil, fieldProblem(o.at(key), "must be a list, is %s", describe(raw))
	}
	var items []json.RawMessage
	count := 0
	end, whole := members(raw, func(_, value []byte) {
		if count++; count <= maxItems {
			items = append(items, value)
		}
	})
	switch {
	case count > maxItems:
		return nil, tooManyItems(o.at(key), count)
	case !whole:
		return nil, fieldProblem(o.at(key), "must be JSON, is not from byte %d of it on", end)
	}
	return items, nil
}

// members calls for each member of a list or an object, with its key in quotes. It says where the
// list or object ends, and whether it does.
func members(raw []byte, do func(key, value []byte)) (at int, whole bool) {
	begin := afterSpace(raw, 0)
	isObject, closing := raw[begin] == '{', raw[begin]+2 // in ASCII, of both kinds
	for at = afterSpace(raw, begin+1); at < len(raw) && raw[at] != closing; {
		var key []byte
		if isObject {
			end := endOfValue(raw, at)
			key = raw[at:end]
			if at = afterSpace(raw, end); at == len(raw) || raw[at] != ':' || unquoted(key) == nil {
				return at, false
			}
			at = afterSpace(raw, at+1)
		}
		end := endOfValue(raw, at)
		if end == at {
			return at, false
		}
		do(key, raw[at:end])
		if at = afterSpace(raw, end); at < len(raw) && raw[at] == ',' {
			at = afterSpace(raw, at+1)
		} else if at < len(raw) && raw[at] != closing {
			return at, false
		}
	}
	return at, at < len(raw) && afterSpace(raw, at+1) == len(raw)
}

// endOfValue is where the value ends that begins there, as far as brackets and quotes say so.
func endOfValue(raw []byte, at int) int {
	depth, inString := 0, false
	for i := at; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			if inString = !inString; !inString && depth == 0 {
				return i + 1
			}
		case inString:
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case depth == 0 && (c == ',' || c == ':' || isSpace(c)):
			return i
		}
	}
	return len(raw)
}

func afterSpace(raw []byte, at int) int {
	for at < len(raw) && isSpace(raw[at]) {
		at++
	}
	return at
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\r' || c == '\n'
}

// unquoted is what is between quotes, escapes as they are; nil when there are none.
func unquoted(text []byte) []byte {
	if len(text) < 2 || text[0] != '"' || text[len(text)-1] != '"' {
		return nil
	}
	return text[1 : len(text)-1]
}
