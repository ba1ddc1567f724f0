package cli

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// clean makes text that came out of an object safe to print on one line. Whoever can
// raise an alert chooses titles and messages: escape sequences, controls and characters
// that reorder a line are shown, not obeyed.
func clean(text string) string {
	return escape(text, func(r rune) string {
		switch {
		case r == '\n' || r == '\t' || unicode.Is(unicode.Zs, r):
			return " "
		case r < 0x100:
			return fmt.Sprintf(`\x%02x`, r)
		case r > 0xffff:
			return fmt.Sprintf(`\U%08x`, r)
		default:
			return fmt.Sprintf(`\u%04x`, r)
		}
	})
}

// marked is a title, safe to print, that says so when it is a drill's.
func marked(mode v1alpha1.Mode, title string) string {
	if mode == v1alpha1.ModeDrill {
		return "DRILL: " + clean(title)
	}
	return clean(title)
}

// onlyDrill is a mode as JSON has it: nothing for the real thing.
func onlyDrill(mode v1alpha1.Mode) v1alpha1.Mode {
	if mode == v1alpha1.ModeDrill {
		return mode
	}
	return ""
}

// cleanLines is clean for text that may have several lines.
func cleanLines(text string) []string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(clean(lines[i]), " ")
	}
	return lines
}

// escapeJSON writes what a terminal may obey as \u escapes. In JSON such characters
// stand in strings only, so that the meaning stays the same.
func escapeJSON(text string) string {
	return escapeStrings(text, func(r rune) string {
		high, low := utf16.EncodeRune(r)
		return fmt.Sprintf(`\u%04x\u%04x`, high, low)
	})
}

// escapeYAML is escapeJSON for JSON that is read as YAML, which knows no surrogates.
func escapeYAML(text string) string {
	return escapeStrings(text, func(r rune) string { return fmt.Sprintf(`\U%08x`, r) })
}

func escapeStrings(text string, wide func(rune) string) string {
	return escape(text, func(r rune) string {
		switch {
		case r == '\n':
			return "\n"
		case r > 0xffff:
			return wide(r)
		default:
			return fmt.Sprintf(`\u%04x`, r)
		}
	})
}

func escape(text string, replace func(rune) string) string {
	if isPlain(text) {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(replace(r))
		}
		text = text[size:]
	}
	return b.String()
}

func isPlain(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// wrap breaks text into lines of at most width characters at spaces. Width 0 means
// that lines may be of any length.
func wrap(text string, width int) []string {
	var wrapped []string
	for _, line := range cleanLines(text) {
		for width > 0 && utf8.RuneCountInString(line) > width {
			runes := []rune(line)
			at := strings.LastIndexByte(string(runes[:width+1]), ' ')
			if at <= 0 {
				break // one long word: the terminal breaks it, so that it can be copied
			}
			wrapped = append(wrapped, line[:at])
			line = strings.TrimLeft(line[at:], " ")
		}
		wrapped = append(wrapped, line)
	}
	return wrapped
}

// shorten cuts text to at most width characters.
func shorten(text string, width int) string {
	if width <= 0 || utf8.RuneCountInString(text) <= width {
		return text
	}
	runes := []rune(text)
	if width <= 3 {
		return string(runes[:width])
	}
	return string(runes[:width-3]) + "..."
}

// plural is '1 step' or '2 steps'.
func plural(count int, noun string) string {
	if count == 1 {
		return "1 " + noun
	}
	if stem, found := strings.CutSuffix(noun, "y"); found {
		noun = stem + "ie"
	}
	return fmt.Sprintf("%d %ss", count, noun)
}
