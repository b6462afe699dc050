package cli

import (
	"context"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
)

var (
	assertLong = templates.LongDesc(`
		Trace a Service and say for each access path whether every node does what the API asks for.

		One line is printed for each access path, ok or failed, and one for each finding. The exit code is 1
		when a path failed or a finding is at or above --fail-on, and 3 when a path could not be told.`)

	assertExample = templates.Examples(`
		# In a pipeline, after a rollout
		kubectl svctrace assert web -n shop

		# Let warnings fail too
		kubectl svctrace assert web --fail-on warning`)
)

func newAssertCommand(config *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	f := newRunFlags(config, streams)
	cmd := &cobra.Command{
		Use:                   "assert SERVICE [flags]",
		DisableFlagsInUseLine: true,
		Short:                 "Fail unless the nodes do what the API asks for",
		Long:                  assertLong,
		Example:               assertExample,
		Args:                  cobra.ArbitraryArgs,
		ValidArgsFunction:     f.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.toOptions(cmd, args)
			if err != nil {
				return err
			}
			return o.assert(cmd.Context())
		},
	}
	f.add(cmd)
	return cmd
}

// assert is a run whose every difference is a failure, whatever its severity.
func (o *runOptions) assert(ctx context.Context) error {
	differs := false
	err := o.run(ctx, func(a *render.Answer) error {
		differs = a.Report.Overall() == diagnose.Differs
		return render.WriteAssertions(o.Out, a, colourful(o.Out))
	})
	if differs && codeOf(err) != exitInterrupted {
		return &exitError{code: exitFindings}
	}
	return err
}
