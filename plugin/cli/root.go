// Package cli is the command line: one file for each verb, each as flags -> options -> Complete -> Validate -> Run.
package cli

import (
	"context"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/klog/v2"
)

// patience is how long the clean-up has before another signal ends the process at once. A second Ctrl-C often comes right
// after the first, and must not leave pods.
const patience = 3 * time.Second

// Main runs the command line and returns the exit code. The first signal ends the run orderly, so that agent pods are
// deleted.
func Main(args []string, streams genericiooptions.IOStreams) int {
	klog.SetLogger(logr.Discard()) // the client libraries' log; what matters comes back as an error
	// Who reads the answer may stop reading (| head): then writing fails, and must not end the process with pods left.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, func() { time.AfterFunc(patience, stop) })
	return Run(ctx, args, streams)
}

// Run runs the command line under a context and returns the exit code.
func Run(ctx context.Context, args []string, streams genericiooptions.IOStreams) int {
	cmd := NewCommand(streams)
	cmd.SetArgs(args)
	cmd.SetIn(streams.In)
	cmd.SetOut(streams.Out)
	cmd.SetErr(streams.ErrOut)
	err := cmd.ExecuteContext(ctx)
	if err != nil {
		report(streams.ErrOut, err)
	}
	return codeOf(err)
}

// NewCommand returns the root command. It traces a Service itself; the other verbs are its subcommands, so a Service that
// has the name of a verb is named as svc/NAME.
func NewCommand(streams genericiooptions.IOStreams) *cobra.Command {
	config := genericclioptions.NewConfigFlags(true)
	cmd := newTraceCommand(config, streams)
	cmd.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl svctrace"}
	cmd.Version = Version
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.CompletionOptions.HiddenDefaultCmd = true
	cmd.SetHelpCommand(&cobra.Command{Hidden: true, Use: "no-help"})
	cmd.SetVersionTemplate("kubectl-svctrace {{.Version}}\n")
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("see "+c.CommandPath()+" --help", "%s", err)
	})
	config.AddFlags(cmd.PersistentFlags())
	completeConfig(cmd, config)
	cmd.AddCommand(newAssertCommand(config, streams), newExplainCommand(streams), newCleanupCommand(config, streams))
	return cmd
}

// serviceName reads a Service from the command line: NAME, svc/NAME, service/NAME or services/NAME.
func serviceName(c *cobra.Command, args []string) (string, error) {
	next := "usage: " + c.UseLine()
	switch len(args) {
	case 0:
		return "", usagef("list the Services with: kubectl get services; "+next, "no Service was named")
	case 1:
	default:
		return "", usagef(next, "one Service can be traced at a time, and %d were named", len(args))
	}
	kind, name, ok := strings.Cut(args[0], "/")
	if !ok {
		kind, name = "svc", args[0]
	}
	switch strings.ToLower(kind) {
	case "svc", "service", "services":
		// an object's name is one segment of a path: any other never reaches the API server
		if name == "" || len(content.IsPathSegmentName(name)) > 0 {
			return "", usagef(next, "%q names no Service", args[0])
		}
		return name, nil
	case "pod", "pods", "po", "deploy", "deployment", "deployments", "ingress", "ing", "node", "no":
		return "", usagef(next, "%q is no Service, and only Services can be traced", args[0])
	default:
		if kind == "" || name == "" {
			return "", usagef(next, "%q names no Service", args[0])
		}
		return "", usagef("a namespace is chosen with a flag: kubectl svctrace "+name+" -n "+kind, "%q is no Service: %q is no name for the kind", args[0], kind)
	}
}
