package command

import (
	"context"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/brief"
)

// verb is one of the agent's commands.
type verb struct {
	// use is the command as it is written, its name first; short and long say what it does, example how it is called.
	use, short, long, example string
	flags                     *pflag.FlagSet
	// lives is true for a command that does more than give one answer: it comes to an orderly end at a signal, which cancels its
	// context. The others just read: a signal ends the process, and nothing that listens for it has to be started.
	lives bool
	run   func(ctx context.Context) error
}

func (v *verb) name() string {
	name, _, _ := strings.Cut(v.use, " ")
	return name
}

// newVerb returns a verb with an empty set of flags. It takes no arguments beside them.
func newVerb(use, short string) *verb {
	v := &verb{use: use, short: short}
	v.flags = flagSet(v.name())
	return v
}

func flagSet(name string) *pflag.FlagSet {
	f := pflag.NewFlagSet(name, pflag.ContinueOnError)
	f.SetOutput(io.Discard) // errors are returned
	f.BoolP("help", "h", false, "help for "+name)
	return f
}

// usage is what --help prints.
func (v *verb) usage() string {
	var b strings.Builder
	about := v.long
	if about == "" {
		about = v.short
	}
	fmt.Fprintf(&b, "%s\n\nUsage:\n  %s %s [flags]\n", about, program, v.use)
	if v.example != "" {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", v.example)
	}
	fmt.Fprintf(&b, "\nFlags:\n%s", v.flags.FlagUsages())
	return b.String()
}

// verbs are all commands of the agent.
type verbs []*verb

const about = `svctrace-agent reads the state of the network namespace it runs in and evaluates it as the kernel would.
It only reads, and sends nothing; only the command probe does.`

func (vs verbs) usage(own *pflag.FlagSet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nUsage:\n  %s [command]\n\nAvailable Commands:\n", about, program)
	for _, v := range vs {
		fmt.Fprintf(&b, "  %-11s %s\n", v.name(), v.short)
	}
	fmt.Fprintf(&b, "\nFlags:\n%s\nUse \"%s [command] --help\" for more information about a command.\n", own.FlagUsages(), program)
	return b.String()
}

// execute runs the command that the arguments name. Errors about the arguments are usageErrors.
func (vs verbs) execute(ctx context.Context, args []string, out io.Writer) error {
	own := flagSet(program)
	own.BoolP("version", "v", false, "version for "+program)
	own.SetInterspersed(false) // what follows the command's name belongs to the command
	if err := own.Parse(args); err != nil {
		return usageError{err}
	}
	help, version := own.Lookup("help").Changed, own.Lookup("version").Changed
	args = own.Args()
	switch {
	case version && !help:
		_, err := fmt.Fprintf(out, "%s version %s\n", program, Version)
		return err
	case len(args) > 0 && args[0] == "help":
		help, args = true, args[1:]
	}
	if len(args) == 0 {
		_, err := io.WriteString(out, vs.usage(own))
		return err
	}
	at := slices.IndexFunc(vs, func(v *verb) bool { return v.name() == args[0] })
	if at < 0 {
		return usageError{fmt.Errorf("unknown command %q for %q", args[0], program)}
	}
	v := vs[at]
	if err := v.flags.Parse(args[1:]); err != nil {
		return usageError{err}
	}
	if help || v.flags.Lookup("help").Changed {
		_, err := io.WriteString(out, v.usage())
		return err
	}
	if v.flags.NArg() > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", v.flags.Arg(0))}
	}
	if v.lives {
		brief.AllProcessors()
		var stop func()
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
		defer stop()
	}
	return v.run(ctx)
}
