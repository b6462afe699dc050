// Command lab starts, ends and enters labs: real Kubernetes clusters on this machine.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		os.Exit(exit.ExitCode())
	}
	fmt.Fprintln(os.Stderr, "lab:", err)
	os.Exit(1)
}

func root() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:           "lab",
		Short:         "A real Kubernetes cluster on this machine",
		SilenceUsage:  true,
		SilenceErrors: true,
		// `lab --name NAME kubectl …`: the flag is this command's, all after kubectl is kubectl's
		TraverseChildren: true,
	}
	cmd.PersistentFlags().StringVar(&name, "name", lab.DefaultName, "which lab")
	cmd.AddCommand(
		upCommand(&name), downCommand(&name), listCommand(), shellCommand(&name), execCommand(&name), kubectlCommand(&name),
		connectCommand(&name), demoCommand(&name), loadCommand(&name), imageCommand(), buildCommand(), depsCommand(),
	)
	return cmd
}
