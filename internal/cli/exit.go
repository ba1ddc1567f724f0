package cli

import (
	"errors"
	"fmt"
	"io"
)

// Exit codes of the commands.
const (
	// ExitOK means that it was done: a Decision was accepted, a chain is whole.
	ExitOK = 0
	// ExitRefused means that a Decision was refused, that a chain is broken, or that manifests
	// are faulty.
	ExitRefused = 1
	// ExitError means that it could not be told or done: nobody answered in time, the
	// API server could not be reached, the command was typed wrong.
	ExitError = 2
)

// failure is an error with an exit code and what to do next.
type failure struct {
	code    int
	message string
	hints   []string
	cause   error
}

func (f *failure) Error() string { return f.message }
func (f *failure) Unwrap() error { return f.cause }

// failed is an ExitError with hints.
func failed(message string, hints ...string) *failure {
	return &failure{code: ExitError, message: message, hints: hints}
}

// report prints an error and what to do next, and gives the exit code.
func report(w io.Writer, st style, err error) int {
	if err == nil {
		return ExitOK
	}
	f := &failure{code: ExitError, message: err.Error()}
	errors.As(err, &f)
	label := "Error: "
	if f.code == ExitRefused {
		label = ""
	}
	if f.message == "" && f.code == ExitRefused {
		return f.code // what there is to say was said
	}
	for i, line := range cleanLines(f.message) {
		if i == 0 {
			line = st.red(label + line)
		}
		fmt.Fprintln(w, line)
	}
	for _, hint := range f.hints {
		if hint != "" {
			fmt.Fprintln(w, "  "+clean(hint))
		}
	}
	return f.code
}
