package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/kubernetes"
)

// completionDeadline bounds how long a shell waits for the cluster.
const completionDeadline = 3 * time.Second

type lister func(context.Context, *kubernetes.Clientset, string) ([]string, error)

// completeServices completes the name of a Service from the live cluster; svc/ in front stays.
func (f *runFlags) completeServices(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	kind := ""
	if k, rest, ok := strings.Cut(prefix, "/"); ok {
		kind, prefix = k+"/", rest
	}
	names := live(cmd, f.config, prefix, func(ctx context.Context, c *kubernetes.Clientset, namespace string) ([]string, error) {
		list, err := c.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		var out []string
		for i := range list.Items {
			out = append(out, list.Items[i].Name)
		}
		return out, nil
	})
	for i := range names {
		names[i] = kind + names[i]
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// complete registers the completion of the flags of a run.
func (f *runFlags) complete(cmd *cobra.Command) {
	completeValues(cmd, "fail-on", "error", "warning", "info", "none")
	completeValues(cmd, "profile", "netadmin", "privileged")
	completeValues(cmd, "image-pull-policy", "Always", "IfNotPresent", "Never")
	completeLive(cmd, f.config, "node", listNodes)
	completeLive(cmd, f.config, "agent-namespace", listNamespaces)
	completeLive(cmd, f.config, "from-namespace", listNamespaces)
	completeValues(cmd, "to", "clusterip", "nodeport", "loadbalancer", "externalip")
	_ = cmd.RegisterFlagCompletionFunc("from", f.completeFrom)
}

// completeConfig registers the completion of kubectl's own flags.
func completeConfig(cmd *cobra.Command, config *genericclioptions.ConfigFlags) {
	completeLive(cmd, config, "namespace", listNamespaces)
	_ = cmd.RegisterFlagCompletionFunc("context", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		raw, err := config.ToRawKubeConfigLoader().RawConfig()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var out []string
		for name := range raw.Contexts {
			out = append(out, name)
		}
		slices.Sort(out)
		return out, cobra.ShellCompDirectiveNoFileComp
	})
}

func completeValues(cmd *cobra.Command, flag string, values ...string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

func completeLive(cmd *cobra.Command, config *genericclioptions.ConfigFlags, flag string, list lister) {
	_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		return live(cmd, config, prefix, list), cobra.ShellCompDirectiveNoFileComp
	})
}

// live lists names from the cluster that begin with a prefix; none if the cluster does not answer in time.
func live(cmd *cobra.Command, config *genericclioptions.ConfigFlags, prefix string, list lister) []string {
	client, _, namespace, err := connect(config, false)
	if err != nil {
		return nil
	}
	parent := cmd.Context()
	if parent == nil {
		parent = context.Background()
	}
	ctx, cancel := context.WithTimeout(parent, completionDeadline)
	defer cancel()
	names, err := list(ctx, client, namespace)
	if err != nil {
		return nil
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, prefix) })
	slices.Sort(names)
	return names
}

func listNodes(ctx context.Context, c *kubernetes.Clientset, _ string) ([]string, error) {
	list, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []string
	for i := range list.Items {
		out = append(out, list.Items[i].Name)
	}
	return out, nil
}

func listNamespaces(ctx context.Context, c *kubernetes.Clientset, _ string) ([]string, error) {
	list, err := c.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []string
	for i := range list.Items {
		out = append(out, list.Items[i].Name)
	}
	return out, nil
}

func listPods(ctx context.Context, c *kubernetes.Clientset, namespace string) ([]string, error) {
	list, err := c.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []string
	for i := range list.Items {
		out = append(out, list.Items[i].Name)
	}
	return out, nil
}

func listDeployments(ctx context.Context, c *kubernetes.Clientset, namespace string) ([]string, error) {
	list, err := c.AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []string
	for i := range list.Items {
		out = append(out, list.Items[i].Name)
	}
	return out, nil
}
