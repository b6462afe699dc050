package render

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/journey"
)

// group is comparisons of one access path whose packets meet the same end: shown once, with everybody it holds for.
type group struct {
	path intent.AccessPath
	// members are in the order of nodes and clients; the first is shown.
	members []*diagnose.Comparison

	end     string
	sources map[netip.AddrPort]bool
}

// groupsOf sorts the comparisons of one access path into groups, in the order they occur.
func groupsOf(m *intent.Model, r *diagnose.Report, path intent.AccessPath) []group {
	var out []group
	for i := range r.Comparisons {
		c := &r.Comparisons[i]
		if c.Walk.Path != path {
			continue
		}
		end, sources := endOf(m, c), sourcesOf(c)
		k := slices.IndexFunc(out, func(g group) bool { return g.end == end && agree(g.sources, sources) })
		if k < 0 {
			k = len(out)
			out = append(out, group{path: path, end: end, sources: map[netip.AddrPort]bool{}})
		}
		out[k].members = append(out[k].members, c)
		maps.Copy(out[k].sources, sources)
	}
	return out
}

// sourcesOf says for each endpoint whether the client's address is replaced on the way to it. What tells nothing is left
// out: the node's own packets have the node's address either way, and a pod that meets itself is masqueraded always.
func sourcesOf(c *diagnose.Comparison) map[netip.AddrPort]bool {
	out := map[netip.AddrPort]bool{}
	if c.Walk.Client.Kind == intent.FromNode {
		return out
	}
	for _, s := range c.Kernel {
		if s.Endpoint.Addr() != c.Walk.Client.Source {
			out[s.Endpoint] = s.Masqueraded
		}
	}
	return out
}

// agree reports whether two answers of sourcesOf do not contradict each other.
func agree(a, b map[netip.AddrPort]bool) bool {
	for k, v := range b {
		if w, both := a[k]; both && w != v {
			return false
		}
	}
	return true
}

// endOf is a text that two comparisons share when their packets meet the same end. By which interface a packet leaves,
// and whether an endpoint is on this node or another, is no difference.
func endOf(m *intent.Model, c *diagnose.Comparison) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s|", c.Result, c.Expect.Fate, intentAddresses(c.Expect))
	for _, k := range c.Kinds {
		b.WriteString(k.ID + " ")
	}
	if c.Walk.Error != nil {
		fmt.Fprintf(&b, "|error %s", c.Walk.Error.Code)
	}
	if c.Walk.Trace == nil {
		return b.String()
	}
	ends := make([]string, 0, len(c.Walk.Trace.Outcomes))
	for i := range c.Walk.Trace.Outcomes {
		o := &c.Walk.Trace.Outcomes[i]
		to := diagnose.EndpointOf(m, c.Walk, o).String()
		if o.Destination == c.Walk.Destination {
			to = "as sent" // a nodePort has another address on each node
		}
		ends = append(ends, fmt.Sprintf("%s %s %s %s %v %v", classOf(o), probabilityText(o), to, o.RejectWith, o.Conditions, o.Unknown))
	}
	slices.Sort(ends)
	for i := range c.Walk.Replies {
		if r := &c.Walk.Replies[i]; r.Return != journey.Symmetric {
			fmt.Fprintf(&b, "|reply %s", replyKey(r))
		}
	}
	for _, s := range c.Walk.Stops {
		fmt.Fprintf(&b, "|stop %s", s.Node)
	}
	if c.Sidecar {
		b.WriteString("|sidecar")
	}
	b.WriteString("|" + strings.Join(ends, "|"))
	return b.String()
}

func intentAddresses(e intent.Expectation) string {
	if e.Fate != intent.Translated {
		return ""
	}
	return fmt.Sprint(e.Endpoints())
}

// classOf is how an outcome ends, with all ways to reach an endpoint counted as one.
func classOf(o *trace.Outcome) string {
	switch {
	case diagnose.Deaf(o):
		return "refused"
	case o.Verdict == trace.Delivered, o.Verdict == trace.Forwarded, o.Verdict == trace.Local:
		return "reaches"
	default:
		return string(o.Verdict)
	}
}

func probabilityText(o *trace.Outcome) string {
	if o.Probability == nil {
		return "?"
	}
	return diagnose.Fraction(o.Probability.Rat())
}

// shown is the member whose walk is shown: rather not the node's own, whose source address tells nothing.
func (g group) shown() *diagnose.Comparison {
	for _, c := range g.members {
		if c.Walk.Client.Kind != intent.FromNode {
			return c
		}
	}
	return g.members[0]
}

// kinds lists the kinds of clients of a group, in a fixed order.
func (g group) kinds() []string {
	var out []string
	for _, k := range []intent.ClientKind{intent.FromPod, intent.FromNode, intent.FromOutside} {
		if slices.ContainsFunc(g.members, func(c *diagnose.Comparison) bool { return c.Walk.Client.Kind == k }) {
			out = append(out, string(k))
		}
	}
	return out
}

// nodes lists the nodes of a group, in order.
func (g group) nodes() []string {
	var out []string
	for _, c := range g.members {
		if !slices.Contains(out, c.Node) {
			out = append(out, c.Node)
		}
	}
	return out
}

// clients says in words whom a group holds for: "pod shop/client on node1; node1 itself; outside via node1, node2".
func (g group) clients() string {
	var (
		pods, plainNodes, outside []string
		podAt                     []*diagnose.Comparison
		hostPods                  []string
		from                      string
	)
	for _, c := range g.members {
		switch c.Walk.Client.Kind {
		case intent.FromPod:
			pods, podAt = append(pods, c.Node), append(podAt, c)
		case intent.FromNode:
			if c.Walk.Client.Pod != "" {
				hostPods = append(hostPods, c.Walk.Client.String())
				continue
			}
			plainNodes = append(plainNodes, c.Node)
		default:
			outside, from = append(outside, c.Node), c.Walk.Client.Source.String()
		}
	}
	var parts []string
	switch len(podAt) {
	case 0:
	case 1:
		parts = append(parts, podText(podAt[0].Walk.Client)+" on "+pods[0])
	default:
		parts = append(parts, fmt.Sprintf("pods on %s (as %s)", list(pods), podText(podAt[0].Walk.Client)))
	}
	parts = append(parts, hostPods...)
	if len(plainNodes) == 1 {
		parts = append(parts, plainNodes[0]+" itself")
	} else if len(plainNodes) > 1 {
		parts = append(parts, list(plainNodes)+" themselves")
	}
	if len(outside) > 0 {
		parts = append(parts, fmt.Sprintf("outside (%s) via %s", from, list(outside)))
	}
	return strings.Join(parts, "; ")
}

func podText(c intent.Client) string {
	if c.Invented {
		return "an unused pod address " + c.Source.String()
	}
	return fmt.Sprintf("pod %s/%s %s", c.PodNamespace, c.Pod, c.Source)
}

// list joins names; many are cut short.
func list(names []string) string {
	if len(names) > 4 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), len(names)-3)
	}
	return strings.Join(names, ", ")
}
