package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

func TestClean(t *testing.T) {
	for name, test := range map[string]struct{ give, want string }{
		"plain":            {"A shell was spawned", "A shell was spawned"},
		"umlauts stay":     {"Gerät gefährdet", "Gerät gefährdet"},
		"colour":           {"\x1b[31mred\x1b[0m", `\x1b[31mred\x1b[0m`},
		"title of window":  {"\x1b]0;pwned\x07", `\x1b]0;pwned\x07`},
		"eight-bit CSI":    {"\u009b2J", `\x9b2J`},
		"raw byte":         {"a\x9bb", `a\x9bb`},
		"carriage return":  {"refused\raccepted", `refused\x0daccepted`},
		"backspace":        {"a\bb", `a\x08b`},
		"new line":         {"one\ntwo", "one two"},
		"tab":              {"one\ttwo", "one two"},
		"no-break space":   {"10\u00a0000", "10 000"},
		"right to left":    {"exe.\u202egnp", `exe.\u202egnp`},
		"isolate":          {"\u2066x\u2069", `\u2066x\u2069`},
		"zero width":       {"pass\u200bword", `pass\u200bword`},
		"line separator":   {"a\u2028b", `a\u2028b`},
		"tag characters":   {"a\U000e0041", `a\U000e0041`},
		"delete character": {"a\x7f", `a\x7f`},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, clean(test.give)); diff != "" {
				t.Errorf("clean(%q) (-want +got):\n%s", test.give, diff)
			}
		})
	}
}

func FuzzClean(f *testing.F) {
	f.Add(hostile)
	f.Fuzz(func(t *testing.T, text string) {
		for _, line := range append(wrap(text, 20), clean(text)) {
			if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q became %q, which is not all printable", text, line)
			}
		}
	})
}

func TestWrap(t *testing.T) {
	for name, test := range map[string]struct {
		text  string
		width int
		want  []string
	}{
		"no terminal":     {"one two three", 0, []string{"one two three"}},
		"at spaces":       {"one two three", 8, []string{"one two", "three"}},
		"exact":           {"one two", 7, []string{"one two"}},
		"a long word":     {"sha256:abcdef0123 is it", 8, []string{"sha256:abcdef0123 is it"}},
		"lines are kept":  {"one\ntwo\n", 20, []string{"one", "two"}},
		"a faked prompt":  {"x\nAccepted: yes", 0, []string{"x", "Accepted: yes"}},
		"wide characters": {"äöü äöü äöü", 7, []string{"äöü äöü", "äöü"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, wrap(test.text, test.width)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestShorten(t *testing.T) {
	for _, test := range []struct {
		text  string
		width int
		want  string
	}{{"abcdef", 0, "abcdef"}, {"abcdef", 6, "abcdef"}, {"abcdef", 5, "ab..."}, {"abcdef", 2, "ab"}, {"äöüäöü", 5, "äö..."}} {
		if got := shorten(test.text, test.width); got != test.want {
			t.Errorf("shorten(%q, %d) = %q, want %q", test.text, test.width, got, test.want)
		}
	}
}

func TestPrintObjectsIsSafeAndLossless(t *testing.T) {
	object := map[string]string{"title": strings.ToValidUTF8(hostile, "") + "\U000e0041"}
	for _, format := range []string{outputJSON, outputYAML} {
		t.Run(format, func(t *testing.T) {
			s, out, _ := testSession(terminal{})
			mustDo(t, printObjects(s.Out, format, object))
			if hasUnprintable(out.String()) {
				t.Errorf("not all printable: %q", out.String())
			}
			var back map[string]string
			mustDo(t, map[string]func([]byte, any) error{outputJSON: json.Unmarshal, outputYAML: func(text []byte, into any) error { return yaml.Unmarshal(text, into) }}[format](out.Bytes(), &back))
			if diff := cmp.Diff(object, back); diff != "" {
				t.Errorf("what was printed reads differently (-want +got):\n%s", diff)
			}
		})
	}
}

func TestQuote(t *testing.T) {
	for give, want := range map[string]string{"plain-1.yaml": "plain-1.yaml", "a b": "'a b'", "it's": `'it'\''s'`, "": "''", "$(x)": "'$(x)'"} {
		if got := quote(give); got != want {
			t.Errorf("quote(%q) = %s, want %s", give, got, want)
		}
	}
}
