package receiver

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// minMilliseconds is before anything was seen, and more than any time in seconds.
	minMilliseconds = 1e11            // 1973
	maxMilliseconds = 253402300799999 // 9999-12-31T23:59:59.999Z
	exampleTime     = "2026-11-21T16:00:00Z"
)

// list reads a field that must be a list. null is absent.
func (o object) list(key string) ([]json.RawMessage, error) {
	raw, there := o.fields[key]
	if !there || kindOf(raw) == "null" {
		return nil, nil
	}
	var items []json.RawMessage
	if kindOf(raw) != "list" || json.Unmarshal(raw, &items) != nil {
		return nil, fieldProblem(o.at(key), "must be a list, is %s", describe(raw))
	}
	return items, nil
}

// objects reads a field that must be a list of objects; null items are left out.
func (o object) objects(key string) ([]object, error) {
	items, err := o.list(key)
	if err != nil {
		return nil, err
	}
	var all []object
	err = each(items, o.at(key), func(raw json.RawMessage, pointer string) error {
		if kindOf(raw) == "null" {
			return nil
		}
		item, err := parseObject(raw, pointer)
		all = append(all, item)
		return err
	})
	return all, err
}

// stringMap reads a field that must be an object of strings; null values are absent.
func (o object) stringMap(key string) (map[string]string, error) {
	inner, err := o.object(key)
	if err != nil {
		return nil, err
	}
	texts := make(map[string]string, len(inner.fields))
	for _, name := range slices.Sorted(maps.Keys(inner.fields)) {
		if texts[name], err = inner.text(name); err != nil {
			return nil, err
		}
	}
	return texts, nil
}

// there says whether a field is in the body and not null.
func (o object) there(key string) bool {
	raw, there := o.fields[key]
	return there && kindOf(raw) != "null"
}

// flat is a field of any kind as text; what is absent or null is empty.
func (o object) flat(key string) string {
	return textOf(o.fields[key])
}

// integer reads a field that must be a whole number; absent and null are 0. Decimals
// that are whole, such as '4.0' and '1e3', are taken too: some senders write them.
func (o object) integer(key string) (int64, error) {
	raw, there := o.fields[key]
	if !there || kindOf(raw) == "null" {
		return 0, nil
	}
	if kindOf(raw) != "number" {
		return 0, fieldProblem(o.at(key), "must be a whole number, is %s", describe(raw))
	}
	text := strings.TrimSpace(string(raw))
	if number, err := strconv.ParseInt(text, 10, 64); err == nil {
		return number, nil
	}
	number, err := strconv.ParseFloat(text, 64)
	if err != nil || number != math.Trunc(number) || math.Abs(number) > 1<<53 {
		return 0, fieldProblem(o.at(key), "must be a whole number of at most 64 bits, is '%s'", clean(text, 32))
	}
	return int64(number), nil
}

// flag reads a field that must be true or false; absent and null are as said.
func (o object) flag(key string, absent bool) (bool, error) {
	raw, there := o.fields[key]
	if !there || kindOf(raw) == "null" {
		return absent, nil
	}
	if kindOf(raw) != "boolean" {
		return false, fieldProblem(o.at(key), "must be true or false, is %s", describe(raw))
	}
	return strings.TrimSpace(string(raw)) == "true", nil
}

// time reads a field that must be a time as RFC 3339 has it. Absent, null, empty and
// Go's zero time are the zero time.
func (o object) time(key string) (time.Time, error) {
	text, err := o.text(key)
	if err != nil || text == "" {
		return time.Time{}, err
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || !inCalendar(at) {
		return time.Time{}, fieldProblem(o.at(key), "must be a time such as '%s', is '%s'", exampleTime, clean(text, 64))
	}
	return at, nil
}

// milliseconds reads a field that must be a time in milliseconds since 1970. Absent,
// null and 0 are the zero time. Some senders write seconds, with a fraction or without:
// in milliseconds those would be a time in early 1970.
func (o object) milliseconds(key string) (time.Time, error) {
	raw, there := o.fields[key]
	if !there || kindOf(raw) == "null" {
		return time.Time{}, nil
	}
	if kindOf(raw) != "number" {
		return time.Time{}, fieldProblem(o.at(key), "must be a time in milliseconds since 1970, is %s", describe(raw))
	}
	number, err := strconv.ParseFloat(strings.TrimSpace(string(raw)), 64)
	switch {
	case err != nil || number < 0 || number > maxMilliseconds:
		return time.Time{}, fieldProblem(o.at(key), "must be a time in milliseconds since 1970, such as 1795276800000, is '%s'", clean(string(raw), 32))
	case number == 0:
		return time.Time{}, nil
	case number < minMilliseconds:
		number *= 1000
	}
	return time.UnixMilli(int64(number)), nil
}

// inCalendar says whether the API can keep a time.
func inCalendar(at time.Time) bool {
	year := at.UTC().Year()
	return year >= 1 && year <= 9999
}

// first is the first of several texts that says something.
func first(texts ...string) string {
	for _, text := range texts {
		if strings.TrimSpace(text) != "" {
			return text
		}
	}
	return ""
}
