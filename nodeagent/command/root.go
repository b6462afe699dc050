// Package command is the agent's command line.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/probe"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/walk"
)

// Version is the agent's version, set by the linker.
var Version = "v0.1.0"

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
	root := &cobra.Command{
		Use:           "svctrace-agent",
		Short:         "Say what this node's kernel does with a packet",
		Long:          "svctrace-agent reads the state of the network namespace it runs in and evaluates it as the kernel would.\nIt only reads, and sends nothing; only the command probe does.",
		Version:       Version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(packetCommand(s), probeCommand(s), serveCommand(s))
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	fmt.Fprintln(s.Err, "svctrace-agent:", clean(err.Error()))
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
	case isCobraUsage(err):
		return ExitUsage
	}
	return ExitUnreadable
}

// isCobraUsage recognises cobra's own errors about arguments, which have no type: they come before any command ran.
func isCobraUsage(err error) bool {
	var ran ranError
	return !errors.As(err, &ran)
}

// ranError marks errors of a command that ran.
type ranError struct{ error }

func (e ranError) Unwrap() error { return e.error }
