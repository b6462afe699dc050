package cli

import (
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/nearest"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
)

var (
	explainLong = templates.LongDesc(`
		Say what a finding means, how it is proven, and what to do about it.

		Without an ID every kind of finding is listed. No cluster is asked.`)

	explainExample = templates.Examples(`
		# List every kind of finding
		kubectl svctrace explain

		# Explain one
		kubectl svctrace explain no-ready-endpoints`)
)

// explainOptions are what the verb explain works with.
type explainOptions struct {
	genericiooptions.IOStreams
	// kind is what to explain; nil to list all.
	kind *diagnose.Kind
}

func newExplainCommand(streams genericiooptions.IOStreams) *cobra.Command {
	return &cobra.Command{
		Use:                   "explain [ID]",
		DisableFlagsInUseLine: true,
		Short:                 "Say what a finding means and what to do about it",
		Long:                  explainLong,
		Example:               explainExample,
		Args:                  cobra.ArbitraryArgs,
		ValidArgsFunction:     completeFindings,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := newExplainOptions(cmd, streams, args)
			if err != nil {
				return err
			}
			return o.explain()
		},
	}
}

// newExplainOptions looks up the kind that is named.
func newExplainOptions(cmd *cobra.Command, streams genericiooptions.IOStreams, args []string) (*explainOptions, error) {
	o := &explainOptions{IOStreams: streams}
	switch len(args) {
	case 0:
		return o, nil
	case 1:
	default:
		return nil, usagef("usage: "+cmd.UseLine(), "one finding can be explained at a time, and %d were named", len(args))
	}
	if k, ok := diagnose.Find(args[0]); ok {
		o.kind = &k
		return o, nil
	}
	next := "list them with: kubectl svctrace explain"
	if near := nearest.Names(strings.ToLower(args[0]), findingIDs()); len(near) > 0 {
		next = "did you mean " + strings.Join(near, ", ") + "?"
	}
	return nil, usagef(next, "there is no finding %q", args[0])
}

// explain writes one kind, or the list of all.
func (o *explainOptions) explain() error {
	if o.kind == nil {
		return render.WriteCatalogue(o.Out, diagnose.Families(), colourful(o.Out))
	}
	return render.WriteKind(o.Out, *o.kind, colourful(o.Out))
}

func findingIDs() []string {
	kinds := diagnose.Catalogue()
	out := make([]string, 0, len(kinds))
	for _, k := range kinds {
		out = append(out, k.ID)
	}
	return out
}

// completeFindings completes an ID, with its title for shells that show one.
func completeFindings(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, k := range diagnose.Catalogue() {
		if strings.HasPrefix(k.ID, strings.ToLower(prefix)) {
			out = append(out, cobra.CompletionWithDesc(k.ID, k.Title))
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
