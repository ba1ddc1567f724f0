package receiver

import (
	"bytes"
	"encoding/json"
)

// objects reads the objects of a text one after the other. Behind one that is wrong it goes on with
// the next line that begins an object, and from then on reads none beyond such a line, so that
// however much is wrong the text is read twice at most.
type objects struct {
	body []byte
	// at is where the next one begins, and end up to where it may go on; zero is not known.
	at, end int
	cut     bool
}

// more says whether there is anything left, which begins at `at`.
func (o *objects) more() bool {
	o.at = len(o.body) - len(bytes.TrimLeft(o.body[o.at:], " \t\r\n"))
	return o.at < len(o.body)
}

// next reads what there is next.
func (o *objects) next() (item json.RawMessage, err error) {
	if o.at >= o.end {
		if o.end = len(o.body); o.cut {
			o.end = o.nextLine()
		}
	}
	decoder := json.NewDecoder(bytes.NewReader(o.body[o.at:o.end]))
	if err := decoder.Decode(&item); err != nil {
		o.cut, o.end = true, 0
		o.at = o.nextLine()
		return nil, err
	}
	o.at += int(decoder.InputOffset())
	return item, nil
}

// nextLine is where the next line begins an object, or the text ends.
func (o *objects) nextLine() int {
	if after := bytes.Index(o.body[o.at+1:], []byte("\n{")); after >= 0 {
		return o.at + 1 + after + 1
	}
	return len(o.body)
}
