package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/cluster"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
)

// The exit codes, the same for every verb and every form of output.
const (
	exitOK = 0
	// exitFindings: something was found at or above --fail-on, or an assertion failed.
	exitFindings = 1
	// exitUsage: the command line asks for what does not exist or makes no sense.
	exitUsage = 2
	// exitUnknown: the API, a permission or an agent was missing, so that no verdict is possible.
	exitUnknown = 3
	// exitInterrupted: a signal ended the run.
	exitInterrupted = 130
)

// exitError ends a run with a code; its error is nil when everything has been said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageError is a fault in the command line, with a next step.
type usageError struct {
	sentence string
	next     string
}

func (e *usageError) Error() string { return e.sentence }

// NextStep returns what the user may do.
func (e *usageError) NextStep() string { return e.next }

func usagef(next, format string, args ...any) error {
	return &usageError{sentence: fmt.Sprintf(format, args...), next: next}
}

// nextStepper is an error that knows what the user may do.
type nextStepper interface {
	error
	NextStep() string
}

// codeOf is the exit code of an error.
func codeOf(err error) int {
	var (
		exit    *exitError
		usage   *usageError
		problem *cluster.Problem
		nothing *intent.UntranslatableError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return exit.code
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &usage), errors.As(err, &nothing):
		return exitUsage
	case errors.As(err, &problem) && problem.Input:
		return exitUsage
	default:
		return exitUnknown
	}
}

// report writes an error as a sentence and a next step, each on a line of its own.
func report(w io.Writer, err error) {
	var exit *exitError
	if errors.As(err, &exit) && exit.err == nil {
		return
	}
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(w, "interrupted")
		return
	}
	fmt.Fprintf(w, "error: %s\n", render.Clean(strings.TrimSpace(err.Error())))
	var next nextStepper
	if errors.As(err, &next) && next.NextStep() != "" {
		fmt.Fprintf(w, "next:  %s\n", render.Clean(next.NextStep()))
	}
	var found *foundError
	if errors.As(err, &found) {
		found.report(w)
	}
}
