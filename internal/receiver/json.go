package receiver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	sigsjson "sigs.k8s.io/json"
)

// maxDepth is how deep the lists and objects of a body may be nested, and maxValues how many
// values, roughly, there may be in it: each takes memory of its own, however short it is. Bodies of
// 4 MiB that mean something have half as many.
const maxDepth, maxValues = 32, 1 << 18

// byteOrderMark is how some libraries begin a text in UTF-8, which parsers may skip (RFC 8259, 8.1).
const byteOrderMark, gzipMagic = "\ufeff", "\x1f\x8b"

// readable takes a byte order mark from the body, and refuses what is no text at all. Where
// CloudEvents keep their attributes in headers, data may be anything.
func (r *report) readable() *Problem {
	r.body = bytes.TrimPrefix(r.body, []byte(byteOrderMark))
	switch {
	case r.header.Get(headerSpecVersion) != "":
	case len(bytes.TrimSpace(r.body)) == 0:
		return fieldProblem("", "must be JSON, is empty")
	case bytes.HasPrefix(r.body, []byte(gzipMagic)):
		return fieldProblem("", "must be JSON, is compressed with gzip: it must be sent without compression")
	}
	return nil
}

// checkShape refuses bodies that would exhaust a parser's stack or memory, before one runs.
func checkShape(body []byte) *Problem {
	_, problem := checkValues(body, "", maxValues)
	return problem
}

// checkShapeFor is checkShape for a format. Of audit events and of lines, each is checked by itself.
func checkShapeFor(wire format, body []byte) *Problem {
	switch wire.(type) {
	case auditFormat:
		return nil
	case tetragonFormat, ocsfFormat:
		if kindOf(body) != "list" {
			return nil
		}
	}
	return checkShape(body)
}

// checkValues is how many values there are in what stands at a pointer, unless they are too many.
func checkValues(raw []byte, pointer string, most int) (values int, problem *Problem) {
	depth, inString := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '[' || c == '{':
			values++
			if depth++; depth > maxDepth {
				return values, fieldProblem(pointer, "is nested too deeply at byte %d: lists and objects must be nested at most %d levels deep", i, maxDepth)
			}
		case c == ',':
			values++
		case c == ']' || c == '}':
			depth--
		}
		if values > most {
			return values, fieldProblem(pointer, "has too many values at byte %d: they must be at most %d", i, most)
		}
	}
	return values, nil
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
