package main

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

const (
	// margin is the width of the elapsed time that begins a line, indent of its sign.
	margin       = 11
	indent       = 2
	defaultWidth = 110
	maxWidth     = 130
)

// screen shows what happens, a line a thing.
type screen struct {
	out     io.Writer
	started time.Time
	colour  bool
	width   int
}

func newScreen(out *os.File, started time.Time) *screen {
	s := &screen{out: out, started: started, width: defaultWidth}
	if fd := int(out.Fd()); term.IsTerminal(fd) {
		s.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		if width, _, err := term.GetSize(fd); err == nil && width > 40 {
			s.width = min(width, maxWidth)
		}
	}
	return s
}

func (s *screen) paint(code, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s *screen) bold(text string) string { return s.paint("1", text) }
func (s *screen) dim(text string) string  { return s.paint("2", text) }

// strong is an argument of line, good and detail to look at.
type strong string

// Around what is strong, until its line is printed. No text from an object has them:
// clean takes private characters out.
const strongBegin, strongEnd = "\uE000", "\uE001"

// format is fmt.Sprintf that lets no argument steer the terminal.
func format(text string, args ...any) string {
	safe := make([]any, len(args))
	for i, arg := range args {
		safe[i] = arg
		if word, ok := arg.(strong); ok {
			safe[i] = strongBegin + clean(string(word)) + strongEnd
		} else if err, ok := arg.(error); ok {
			safe[i] = clean(err.Error())
		} else if value := reflect.ValueOf(arg); value.Kind() == reflect.String {
			safe[i] = clean(value.String())
		}
	}
	return fmt.Sprintf(text, safe...)
}

func (s *screen) emphasise(text string) string {
	begin, end := "", ""
	if s.colour {
		begin, end = "\x1b[1m", "\x1b[0m"
	}
	return strings.NewReplacer(strongBegin, begin, strongEnd, end).Replace(text)
}

// heading begins a stage and says what there is to see.
func (s *screen) heading(title, explanation string) {
	fmt.Fprintf(s.out, "\n%s\n", s.paint("1;36", title))
	for _, line := range wrap(explanation, s.width) {
		fmt.Fprintln(s.out, s.dim(line))
	}
}

// line says one thing, and when.
func (s *screen) line(text string, args ...any) { s.stamped("  ", format(text, args...)) }

// good is a line about something that was waited for and came.
func (s *screen) good(text string, args ...any) {
	s.stamped(s.paint("32", "+")+" ", format(text, args...))
}

func (s *screen) stamped(sign, text string) {
	before := s.dim(fmt.Sprintf("[%6.2f s]", time.Since(s.started).Seconds())) + " " + sign
	for _, line := range wrap(text, s.width-margin-indent) {
		fmt.Fprintln(s.out, before+s.emphasise(line))
		before = strings.Repeat(" ", margin+indent)
	}
}

// detail adds to the line before.
func (s *screen) detail(text string, args ...any) {
	for _, line := range wrap(format(text, args...), s.width-margin-indent) {
		s.block(s.emphasise(line), "")
	}
}

// command shows the line that shows or does the same.
func (s *screen) command(text string, args ...any) {
	s.block("$ "+format(text, args...), "33")
}

func (s *screen) block(text, code string) {
	fmt.Fprintf(s.out, "%s%s\n", strings.Repeat(" ", margin+indent), s.paint(code, text))
}

// quoted shows what another program has printed.
func (s *screen) quoted(text string) {
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		s.block(strings.TrimRight("| "+clean(line), " "), "2")
	}
}

// table shows rows with aligned columns.
func (s *screen) table(rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, text := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(text))
		}
	}
	for n, row := range rows {
		var line strings.Builder
		for i, text := range row {
			line.WriteString(clean(text) + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+2))
		}
		code := ""
		if n == 0 {
			code = "2"
		}
		s.block(strings.TrimRight(line.String(), " "), code)
	}
}

// wrap breaks text at spaces.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// clean keeps what stands in objects from steering the terminal.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// span is a duration as people say it.
func span(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// shortDigest is the beginning of 'sha256:…', enough to tell digests apart by eye.
func shortDigest(digest string) string {
	if len(digest) <= 19 {
		return digest
	}
	return digest[:19] + "…"
}
