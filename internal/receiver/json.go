package receiver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	sigsjson "sigs.k8s.io/json"
)

// maxDepth is how deep the lists and objects of a body may be nested, and maxValues how many
// values, roughly, there may be in it: each takes memory of its own, however short it is. Audit
// events with the managed fields of objects may have twice as many, of which few are looked at;
// other bodies of 4 MiB that mean something have half as many.
const maxDepth, maxValues, maxAuditValues = 32, 1 << 18, 1 << 19

// checkShape refuses bodies that would exhaust a parser's stack or memory, before one runs.
func checkShape(body []byte) *Problem {
	return checkValues(body, maxValues)
}

// checkShapeFor is checkShape for a format.
func checkShapeFor(wire format, body []byte) *Problem {
	if _, is := wire.(auditFormat); is {
		return checkValues(body, maxAuditValues)
	}
	return checkShape(body)
}

func checkValues(body []byte, most int) *Problem {
	depth, values, inString := 0, 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '[' || c == '{':
			values++
			if depth++; depth > maxDepth {
				return fieldProblem("", "is nested too deeply at byte %d: lists and objects must be nested at most %d levels deep", i, maxDepth)
			}
		case c == ',':
			values++
		case c == ']' || c == '}':
			depth--
		}
		if values > most {
			return fieldProblem("", "has too many values at byte %d: they must be at most %d", i, most)
		}
	}
	return nil
}

// object is a JSON object whose fields are read by their exact names.
type object struct {
	fields  map[string]json.RawMessage
	pointer string
}

func parseObject(raw []byte, pointer string) (object, error) {
	o := object{pointer: pointer}
	if kindOf(raw) != "object" && json.Valid(raw) {
		return o, fieldProblem(pointer, "must be an object, is %s", describe(raw))
	}
	if err := json.Unmarshal(raw, &o.fields); err != nil {
		return o, syntaxProblem(err)
	}
	return o, nil
}

func syntaxProblem(err error) *Problem {
	if isSyntax, offset := sigsjson.SyntaxErrorOffset(err); isSyntax {
		return fieldProblem("", "must be JSON; at byte %d: %s", offset, err)
	}
	return fieldProblem("", "must be JSON: %s", err)
}

func (o object) at(key string) string {
	return o.pointer + "/" + escapePointer(key)
}

// text reads a field that must be a string. null and '<NA>' are absent.
func (o object) text(key string) (string, error) {
	raw, there := o.fields[key]
	if !there || kindOf(raw) == "null" {
		return "", nil
	}
	if kindOf(raw) != "string" {
		return "", fieldProblem(o.at(key), "must be a string, is %s", describe(raw))
	}
	return textOf(raw), nil
}

// texts reads a field that must be a list of strings.
func (o object) texts(key string) ([]string, error) {
	raw, there := o.fields[key]
	if !there || kindOf(raw) == "null" {
		return nil, nil
	}
	var items []json.RawMessage
	if kindOf(raw) != "list" || json.Unmarshal(raw, &items) != nil {
		return nil, fieldProblem(o.at(key), "must be a list of strings, is %s", describe(raw))
	}
	var texts []string
	for i, item := range items {
		if kindOf(item) == "null" {
			continue
		}
		if kindOf(item) != "string" {
			return nil, fieldProblem(fmt.Sprintf("%s/%d", o.at(key), i), "must be a string, is %s", describe(item))
		}
		texts = append(texts, textOf(item))
	}
	return texts, nil
}

// object reads a field that must be an object.
func (o object) object(key string) (object, error) {
	raw, there := o.fields[key]
	if !there || kindOf(raw) == "null" {
		return object{pointer: o.at(key)}, nil
	}
	return parseObject(raw, o.at(key))
}

// textOf is any JSON value as text: strings and numbers as they are, null and
// '<NA>' as nothing, lists and objects as compact JSON.
func textOf(raw json.RawMessage) string {
	switch kindOf(raw) {
	case "null":
		return ""
	case "string":
		var text string
		if json.Unmarshal(raw, &text) != nil || text == "<NA>" {
			return ""
		}
		return text
	case "list", "object":
		var compact bytes.Buffer
		if json.Compact(&compact, raw) != nil {
			return ""
		}
		return compact.String()
	}
	return strings.TrimSpace(string(raw))
}

func kindOf(raw []byte) string {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '{':
		return "object"
	case '[':
		return "list"
	case '"':
		return "string"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "number"
}

func describe(raw []byte) string {
	switch kind := kindOf(raw); kind {
	case "object":
		return "an object"
	case "null", "nothing":
		return kind
	default:
		return "a " + kind
	}
}
