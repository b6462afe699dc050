package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/cluster"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/launch"
)

var (
	cleanupLong = templates.LongDesc(`
		Delete agent pods that a killed run left.

		An agent ends by itself when its plugin is gone, but its pod object stays. The pods are found by their
		labels, ` + launch.Selector + `. Pods of a run that
		is still going on are deleted too, and that run fails.`)

	cleanupExample = templates.Examples(`
		# Show what would be deleted in all namespaces
		kubectl svctrace cleanup --all-namespaces --dry-run

		# Delete it
		kubectl svctrace cleanup --all-namespaces`)
)

// cleanupFlags are the flags of cleanup.
type cleanupFlags struct {
	config *genericclioptions.ConfigFlags
	genericiooptions.IOStreams

	allNamespaces bool
	dryRun        bool
}

// cleanupOptions are what cleanup works with.
type cleanupOptions struct {
	genericiooptions.IOStreams

	client    kubernetes.Interface
	namespace string // empty for all
	dryRun    bool
	now       func() time.Time
}

func newCleanupCommand(config *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	f := &cleanupFlags{config: config, IOStreams: streams}
	cmd := &cobra.Command{
		Use:                   "cleanup [flags]",
		DisableFlagsInUseLine: true,
		Short:                 "Delete agent pods that a killed run left",
		Long:                  cleanupLong,
		Example:               cleanupExample,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("a namespace is chosen with -n", "cleanup takes no arguments")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := f.toOptions()
			if err != nil {
				return err
			}
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVarP(&f.allNamespaces, "all-namespaces", "A", false, "Look in all namespaces.")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "Only show what would be deleted.")
	return cmd
}

func (f *cleanupFlags) toOptions() (*cleanupOptions, error) {
	client, _, namespace, err := connect(f.config, false)
	if err != nil {
		return nil, err
	}
	if f.allNamespaces {
		namespace = ""
	}
	return &cleanupOptions{IOStreams: f.IOStreams, client: client, namespace: namespace, dryRun: f.dryRun, now: time.Now}, nil
}

// run finds the pods, deletes them and prints one line for each.
func (o *cleanupOptions) run(ctx context.Context) error {
	left, err := launch.Leftovers(ctx, o.client, o.namespace, o.now())
	if err != nil {
		return cluster.Explain(err, "list", "pods", o.namespace)
	}
	if len(left) == 0 {
		where := "namespace " + o.namespace
		if o.namespace == "" {
			where = "any namespace"
		}
		fmt.Fprintf(o.ErrOut, "no agent pods in %s\n", where)
		return nil
	}
	word := "deleted"
	if o.dryRun {
		word = "would be deleted"
	} else if err := launch.Delete(ctx, o.client, left); err != nil {
		return cluster.Explain(err, "delete", "pods", o.namespace)
	}
	for _, l := range left {
		phase := l.Phase
		if phase == "" {
			phase = corev1.PodUnknown
		}
		fmt.Fprintf(o.Out, "pod/%s in namespace %s %s (%s, on node %s, %s old)\n", l.Name, l.Namespace, word, phase, l.Node, duration.HumanDuration(l.Age))
	}
	return nil
}
