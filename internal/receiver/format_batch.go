package receiver

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
)

const (
	// maxBatch is how many alerts one body may bring.
	maxBatch = 512
	// maxItems is how many items a list may have, alerts or not.
	maxItems = 4096
)

// Skipped says that items of a body were understood and are no alerts.
type Skipped struct {
	// Count is how many items it is about.
	Count int `json:"count"`
	// Reason says why they are no alerts.
	Reason string `json:"reason"`
}

// batch gathers what the items of one body are. An item that is wrong does not keep
// the others from being recorded: a sender that gives up would lose them with it.
type batch struct {
	alerts  []alert
	skipped []Skipped
	// product is whose the skipped items are.
	product string
	// leftOut is how many alerts were let go for worse ones.
	leftOut int
}

// skip counts items that are no alerts. Reasons are few, and none is the sender's text.
func (b *batch) skip(count int, reason string) {
	if count <= 0 {
		return
	}
	i := slices.IndexFunc(b.skipped, func(s Skipped) bool { return s.Reason == reason })
	if i < 0 {
		b.skipped = append(b.skipped, Skipped{Count: count, Reason: reason})
		return
	}
	b.skipped[i].Count += count
}

// take adds what an item is: an alert, or wrong. It fails when there are too many.
func (b *batch) take(a alert, pointer string, err error) error {
	if err != nil {
		var problem *Problem
		if !errors.As(err, &problem) {
			return err
		}
		a = alert{problem: problem}
	}
	a.pointer = pointer
	if len(b.alerts) == maxBatch {
		return fieldProblem("", "must bring at most %d alerts, brings more: send them in several requests", maxBatch)
	}
	b.alerts = append(b.alerts, a)
	return nil
}

// takeWorst is take for what comes in numbers of its own: where there are too many, half of
// what there is room for is kept, those of the highest severity. What is wrong goes first.
func (b *batch) takeWorst(a alert, pointer string, err error) error {
	if len(b.alerts) == maxBatch {
		b.keepWorst()
	}
	return b.take(a, pointer, err)
}

func (b *batch) keepWorst() {
	slices.SortStableFunc(b.alerts, func(x, y alert) int { return cmp.Compare(y.spec.Severity.Rank(), x.spec.Severity.Rank()) })
	b.leftOut += len(b.alerts) - maxBatch/2
	b.alerts = b.alerts[: maxBatch/2 : maxBatch/2]
}

// tell adds the alert by which somebody hears of those that were left out, if there are any.
func (b *batch) tell(truncated func(count int) alert) {
	if b.leftOut == 0 {
		return
	}
	if len(b.alerts) == maxBatch {
		b.keepWorst() // there must be room to say so
	}
	b.alerts = append(b.alerts, truncated(b.leftOut))
}

// finish is what the body says. list says that it was a list.
func (b *batch) finish(list bool) (parsed, error) {
	sound := slices.ContainsFunc(b.alerts, func(a alert) bool { return a.problem == nil })
	if len(b.alerts) > 0 && !sound {
		return parsed{}, b.alerts[0].problem
	}
	return parsed{alerts: b.alerts, skipped: b.skipped, product: b.product, list: list || len(b.alerts) != 1}, nil
}

// each calls for every item of a list, with where it stands.
func each(items []json.RawMessage, pointer string, do func(raw json.RawMessage, pointer string) error) error {
	if len(items) > maxItems {
		return tooManyItems(pointer, len(items))
	}
	for i, item := range items {
		if err := do(item, pointer+"/"+strconv.Itoa(i)); err != nil {
			return err
		}
	}
	return nil
}

// ofBody is what a body says that is one object, a list, or one object on each line.
func (b *batch) ofBody(body []byte, do func(raw json.RawMessage, pointer string) error) (parsed, error) {
	if kindOf(body) == "list" {
		items, err := parseList(body)
		if err == nil {
			err = each(items, "", do)
		}
		if err != nil {
			return parsed{}, err
		}
		return b.finish(true)
	}
	return b.ofLines(body, do)
}

// ofLines is what a body says that is one object, or one on each line. What is wrong with a line
// does not keep those after it from being read: a file that was cut goes on after it. The shape of
// each is checked by itself: one that is cut ends within a text or a list.
func (b *batch) ofLines(body []byte, do func(raw json.RawMessage, pointer string) error) (parsed, error) {
	lines := &objects{body: body}
	count, values := 0, 0
	for ; lines.more(); count++ {
		if count == maxItems {
			return parsed{}, fieldProblem("", "must be at most %d objects, is more: send them in several requests", maxItems)
		}
		at := lines.at
		item, wrong := lines.next()
		pointer := ""
		if count > 0 || lines.more() {
			pointer = "/" + strconv.Itoa(count)
		}
		var err error
		if wrong != nil {
			err = b.take(alert{}, pointer, fieldProblem("", "must be JSON; object %d, at byte %d: %s", count+1, at, wrong))
		} else if more, problem := checkValues(item, pointer, maxValues-values); problem != nil {
			err = b.take(alert{}, pointer, problem)
		} else {
			values += more
			err = do(item, pointer)
		}
		if err != nil {
			return parsed{}, err
		}
	}
	if count == 0 {
		return parsed{}, fieldProblem("", "must be JSON, is empty")
	}
	return b.finish(count > 1)
}

// parseList reads a body that must be a list.
func parseList(raw []byte) ([]json.RawMessage, error) {
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		return nil, syntaxProblem(err)
	}
	return items, nil
}

func tooManyItems(pointer string, count int) *Problem {
	return fieldProblem(pointer, "must be a list of at most %d items, has %d", maxItems, count)
}
