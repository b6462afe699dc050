package cli

import (
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
)

var (
	traceLong = templates.LongDesc(`
		Show what each node's kernel really does with a connection to a Service, hop by hop, and whether
		that is what the API asks for.

		Connections start in a pod, on each node itself, and outside, or where --from says. They are followed
		from node to node to the socket that takes them, and so is the reply back to the client.

		One short-lived agent pod on each node that a connection passes reads the live packet filter, routes and connection
		tracking, evaluates them as the kernel would, and is deleted again. Nothing is written on the node
		and no packet is sent, unless --probe asks for real connections.

		A Service whose name is also a verb is named as svc/NAME.

		Exit codes: 0 traced, and nothing found at or above --fail-on; 1 findings; 2 usage; 3 could not tell;
		130 interrupted.`)

	traceExample = templates.Examples(`
		# Trace the Service web of the current namespace
		kubectl svctrace web

		# Trace on two nodes of your choice, with every rule
		kubectl svctrace svc/web -n shop --node node1 --node node2 -o wide

		# Keep the answer, and let a script see whether it is bad
		kubectl svctrace web -o json > web.json

		# Also open 50 real connections from each client, and compare where they go
		kubectl svctrace web --probe=50

		# Trace from a pod, and from a client outside with a certain address, to the node port only
		kubectl svctrace web --from pod/client --from external=203.0.113.7 --to nodeport`)
)

// traceFlags are the flags of the default verb.
type traceFlags struct {
	*runFlags
	output string
	probe  probeFlag
}

// traceOptions are what the default verb works with.
type traceOptions struct {
	*runOptions
	format render.Format
}

func newTraceCommand(config *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	f := &traceFlags{runFlags: newRunFlags(config, streams)}
	cmd := &cobra.Command{
		Use:                   "kubectl-svctrace SERVICE [flags]",
		DisableFlagsInUseLine: true,
		Short:                 "Show what the nodes do with connections to a Service",
		Long:                  traceLong,
		Example:               traceExample,
		Args:                  cobra.ArbitraryArgs,
		ValidArgsFunction:     f.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.toOptions(cmd, args)
			if err != nil {
				return err
			}
			return o.run(cmd.Context(), func(a *render.Answer) error {
				return render.Write(o.Out, a, o.format, colourful(o.Out))
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVarP(&f.output, "output", "o", "", "Output format: wide, json or yaml. The default is for people.")
	f.probe.add(cmd)
	completeValues(cmd, "output", render.Formats()...)
	return cmd
}

// toOptions turns flags into options.
func (f *traceFlags) toOptions(cmd *cobra.Command, args []string) (*traceOptions, error) {
	format, err := render.ParseFormat(f.output)
	if err != nil {
		return nil, usagef("", "--output: %s", err)
	}
	run, err := f.runFlags.toOptions(cmd, args)
	if err != nil {
		return nil, err
	}
	if run.probe, err = f.probe.value(); err != nil {
		return nil, err
	}
	run.agents.Impersonate = run.probe > 0
	return &traceOptions{runOptions: run, format: format}, nil
}
