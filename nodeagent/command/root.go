// Package command is the agent's command line.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/probe"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/walk"
)

// Version is the agent's version, set by the linker.
var Version = "v0.1.0"

const program = "svctrace-agent"

// The agent's exit codes.
const (
	ExitOK         = 0
	ExitUsage      = 2
	ExitUnreadable = 3
)

// Streams are the agent's standard streams.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// usageError marks errors about how the agent was called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Run runs the agent with its arguments, without the program's name, and returns its exit code.
func Run(ctx context.Context, args []string, s Streams) int {
	err := verbs{packetCommand(s), probeCommand(s), serveCommand(s)}.execute(ctx, args, s.Out)
	if err == nil {
		return ExitOK
	}
	fmt.Fprintln(s.Err, program+":", clean(err.Error()))
	return exitCode(err)
}

func exitCode(err error) int {
	var usage usageError
	var read *node.ReadError
	switch {
	case errors.As(err, &read):
		return ExitUnreadable
	case errors.As(err, &usage), errors.Is(err, walk.ErrStart), errors.Is(err, probe.ErrRequest):
		return ExitUsage
	}
	return ExitUnreadable
}
