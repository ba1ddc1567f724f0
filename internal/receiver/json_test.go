package receiver

import (
	"net/http"
	"testing"
)

// TestReadable says what is no text at all, and what may stand before one.
func TestReadable(t *testing.T) {
	binary := http.Header{"Ce-Specversion": {"1.0"}}
	for name, test := range map[string]struct {
		body    string
		header  http.Header
		left    string
		problem string
	}{
		"object":                {body: `{}`, left: `{}`},
		"mark":                  {body: byteOrderMark + `{}`, left: `{}`},
		"mark alone":            {body: byteOrderMark, problem: "The body must be JSON, is empty"},
		"two marks":             {body: byteOrderMark + byteOrderMark, left: byteOrderMark},
		"empty":                 {problem: "The body must be JSON, is empty"},
		"space":                 {body: " \r\n", problem: "The body must be JSON, is empty"},
		"gzip":                  {body: "\x1f\x8b\x08\x00", problem: "The body must be JSON, is compressed with gzip: it must be sent without compression"},
		"empty, in binary mode": {header: binary},
		"gzip, in binary mode":  {header: binary, body: "\x1f\x8b\x08", left: "\x1f\x8b\x08"},
	} {
		r := report{body: []byte(test.body), header: test.header}
		problem := r.readable()
		said := ""
		if problem != nil {
			said = problem.Detail
		} else if string(r.body) != test.left {
			t.Errorf("%s: %q is left, want %q", name, r.body, test.left)
		}
		if said != test.problem {
			t.Errorf("%s: problem %q, want %q", name, said, test.problem)
		}
	}
}
