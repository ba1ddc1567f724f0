package notify

import (
	"regexp"
	"strings"
	"time"
	"unicode"
)

const (
	// maxTitle and maxText are how many characters are kept.
	maxTitle = 200
	maxText  = 2000
)

// NewMessage makes a message of texts that others may have written: control and formatting
// characters are taken out, and so is what services would make of plain text, such as
// calls of everybody and links with a text of their own. What is too long is cut.
func NewMessage(title, text, key string, now time.Time) Message {
	return Message{
		Title: cut(strings.Join(strings.Fields(plain(title)), " "), maxTitle),
		Text:  cut(strings.TrimSpace(plain(text)), maxText),
		Key:   key, Time: now,
	}
}

var (
	// mention begins a word with '@', as no mail address does.
	mention = regexp.MustCompile(`(^|[^\pL\pN_.+-])@([\pL\pN_])`)
	// call is how Slack and Discord write whom to call in any text.
	call = regexp.MustCompile(`<([!@#])`)
)

// plain leaves of a text what every service shows as it is.
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return r
		case unicode.IsSpace(r):
			return ' '
		case r == unicode.ReplacementChar, !unicode.IsPrint(r):
			return -1
		default:
			return r
		}
	}, strings.ReplaceAll(text, "\r\n", "\n"))
	// Two in a row share the character between them.
	for range 2 {
		text = mention.ReplaceAllString(text, "${1}＠$2")
	}
	text = call.ReplaceAllString(text, "‹$1")
	return strings.ReplaceAll(text, "](", "] (")
}

func cut(text string, most int) string {
	if characters := []rune(text); len(characters) > most {
		return string(characters[:most-1]) + "…"
	}
	return text
}

// whole is title and text in one.
func (m Message) whole() string {
	return strings.TrimSpace(m.Title + "\n\n" + m.Text)
}
