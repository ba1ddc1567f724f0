package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// terminal says what the streams can do.
type terminal struct {
	color       bool // the output understands colours and the user wants them
	interactive bool // a person can answer questions
	width       int  // characters a line; 0 where there is no terminal
}

func detectTerminal(streams genericiooptions.IOStreams) terminal {
	var t terminal
	if fd, ok := terminalFile(streams.Out); ok {
		t.color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		if width, _, err := term.GetSize(fd); err == nil {
			t.width = width
		}
	}
	_, canRead := terminalFile(streams.In)
	_, canAsk := terminalFile(streams.ErrOut)
	t.interactive = canRead && canAsk
	return t
}

func terminalFile(stream any) (int, bool) {
	file, ok := stream.(*os.File)
	if !ok {
		return 0, false
	}
	fd := int(file.Fd())
	return fd, term.IsTerminal(fd)
}

// paint colours text, or leaves it as it is.
type paint func(string) string

// style has the few colours there are.
type style struct{ on bool }

func (s style) with(code, text string) string {
	if !s.on || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) bold(text string) string   { return s.with("1", text) }
func (s style) dim(text string) string    { return s.with("2", text) }
func (s style) red(text string) string    { return s.with("1;31", text) }
func (s style) green(text string) string  { return s.with("32", text) }
func (s style) yellow(text string) string { return s.with("33", text) }

var errNoAnswer = errors.New("nothing was decided: there was no answer")

// ask is askOrEnd where the end of the input is an empty answer.
func (s *session) ask(ctx context.Context, question string) (string, error) {
	answer, err := s.askOrEnd(ctx, question)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return answer, err
}

// askOrEnd puts a question to the person at the terminal and gives the line they type, or
// io.EOF. It gives up when the context ends, which a plain read would not.
func (s *session) askOrEnd(ctx context.Context, question string) (string, error) {
	fmt.Fprint(s.ErrOut, question)
	type answer struct {
		line string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		line, err := s.answers.ReadString('\n')
		answers <- answer{line, err}
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(s.ErrOut)
		return "", errNoAnswer
	case got := <-answers:
		if got.err != nil && !errors.Is(got.err, io.EOF) {
			return "", fmt.Errorf("reading the answer: %w", got.err)
		}
		if got.err != nil {
			fmt.Fprintln(s.ErrOut)
			if got.line == "" {
				return "", io.EOF
			}
		}
		return strings.TrimSpace(got.line), nil
	}
}
