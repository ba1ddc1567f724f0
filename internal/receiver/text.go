package receiver

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const ellipsis = "…"

// clean makes hostile text fit for one line of a terminal: valid UTF-8 without
// control or bidirectional formatting characters, at most limit runes.
func clean(text string, limit int) string {
	return cut(strings.TrimSpace(strings.Map(harmless, strings.ToValidUTF8(text, "\uFFFD"))), limit)
}

// cleanLines is clean, but keeps line breaks and tabs.
func cleanLines(text string, limit int) string {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	return cut(strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		return harmless(r)
	}, strings.ToValidUTF8(text, "\uFFFD"))), limit)
}

func harmless(r rune) rune {
	switch {
	case r == '\n', r == '\r', r == '\t', r == '\u2028', r == '\u2029':
		return ' '
	case unicode.Is(unicode.Cc, r), unicode.Is(unicode.Bidi_Control, r):
		return '\uFFFD'
	}
	return r
}

// cut shortens text to at most limit runes, the last of which says so.
func cut(text string, limit int) string {
	if utf8.RuneCountInString(text) <= limit {
		return text
	}
	count := 0
	for i := range text {
		if count == limit-1 {
			return text[:i] + ellipsis
		}
		count++
	}
	return text
}
