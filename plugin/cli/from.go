package cli

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/cluster"
)

// origin is what one --from names: where packets start.
type origin struct {
	// text is the value as the user gave it.
	text string
	// kind is pod, node, external, or the resource of a workload (deployments …).
	kind      string
	name      string
	container string
	// address is that of external=ADDRESS; the zero address for the default.
	address netip.Addr
}

const (
	originPod      = "pod"
	originNode     = "node"
	originExternal = "external"
)

// parseOrigin reads a value of --from: pod/NAME[/CONTAINER], node/NAME, KIND/NAME of a workload, external[=ADDRESS].
func parseOrigin(s string) (origin, error) {
	const forms = "use pod/NAME, pod/NAME/CONTAINER, node/NAME, deploy/NAME, external or external=ADDRESS"
	o := origin{text: s}
	if s == originExternal {
		o.kind = originExternal
		return o, nil
	}
	if text, ok := strings.CutPrefix(s, originExternal+"="); ok {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return o, usagef(forms, "--from %s: %q is no IP address", s, text)
		}
		o.kind, o.address = originExternal, a.Unmap()
		return o, nil
	}
	parts := strings.Split(s, "/")
	if len(parts) < 2 || slices.Contains(parts, "") {
		return o, usagef(forms, "--from %q names no client", s)
	}
	o.name = parts[1]
	switch kind := strings.ToLower(parts[0]); kind {
	case "pod", "pods", "po":
		o.kind = originPod
		if len(parts) == 3 {
			o.container = parts[2]
		}
	case "node", "nodes", "no":
		o.kind = originNode
	default:
		resource, ok := cluster.WorkloadResource(kind)
		if !ok {
			return o, usagef(forms, "--from %s: %q is no kind of client", s, parts[0])
		}
		o.kind = resource
	}
	if len(parts) > 2 && o.container == "" || len(parts) > 3 {
		return o, usagef(forms, "--from %s has too many parts", s)
	}
	return o, nil
}

// parseOrigins reads every value of --from.
func parseOrigins(values []string) ([]origin, error) {
	var out []origin
	for _, v := range values {
		o, err := parseOrigin(v)
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

// completeFrom completes --from: the kinds, then the pods and nodes of the live cluster.
func (f *runFlags) completeFrom(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	kind, name, ok := strings.Cut(prefix, "/")
	if !ok {
		return []string{"pod/", "node/", "deploy/", "external", "external="}, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	list := listNodes
	switch kind {
	case "pod":
		list = listPods
	case "deploy":
		list = listDeployments
	case "node":
	default:
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := live(cmd, f.config, name, list)
	for i := range names {
		names[i] = kind + "/" + names[i]
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
