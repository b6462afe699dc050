package diagnose

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// MTUAboveTunnel is of the family of tunnels, as MTUTooSmall, which the walks prove as well as the facts of a node do.
var MTUAboveTunnel = Kind{
	ID: "mtu-above-tunnel", Severity: Info, Title: "MTU above tunnel",
	Means: "A sender's packets may be larger than the tunnel on their way takes. The node tells the sender so (ICMP fragmentation needed, packet too big): " +
		"the first large packet is lost, and the following ones work where that message comes through.",
	Proven: "The MTU of the sender's own interface, at either end of the walk, is larger than that of the tunnel on the way.",
	Fix: "give pods the tunnel's MTU in the network plugin's configuration, and recreate them; until then let ICMP \"fragmentation needed\" and ICMPv6 \"packet too " +
		"big\" pass",
}

// checkMTU holds the size of packets against what the tunnels on the walked way, and on the ways back, let through.
func checkMTU(w *survey.Walk) []draft {
	out := mtuOfTrace(w.Trace)
	for _, r := range w.Replies {
		if r.Trace != nil {
			out = append(out, mtuOfTrace(r.Trace)...)
		}
	}
	return out
}

func mtuOfTrace(t *trace.Trace) []draft {
	var out []draft
	seen := map[string]bool{}
	for i := range t.Outcomes {
		for _, d := range mtuOfPath(t, t.Outcomes[i].Path) {
			if key := d.kind.ID + "\x00" + d.subject + "\x00" + d.sentence; !seen[key] {
				seen[key] = true
				out = append(out, d)
			}
		}
	}
	return out
}

// mtuOfPath follows one branch. The sender's own size is known where the walk starts in a pod, with a routing decision. A
// node's own interface is always above the tunnel that goes over it, and the node knows of both.
func mtuOfPath(t *trace.Trace, path []int) []draft {
	var (
		out    []draft
		sender *trace.Hop
	)
	first := true
	for _, i := range path {
		if i < 0 || i >= len(t.Hops) {
			continue
		}
		h := &t.Hops[i]
		if first && h.Hook == "route" && h.MTU > 0 && h.Namespace != hostNamespace {
			sender = h
		}
		first = first && h.Hook == "process"
		x := h.Tunnel
		if x == nil {
			continue
		}
		if x.Overhead > 0 && x.OuterMTU > 0 && x.MTU+x.Overhead > x.OuterMTU {
			out = append(out, draft{kind: MTUTooSmall, on: h.Node, subject: x.Device,
				sentence: fmt.Sprintf("packets of %s grow to %d bytes, and %s takes %d", x.Device, x.MTU+x.Overhead, x.OuterDevice, x.OuterMTU),
				evidence: []Evidence{
					value(x.Device+" mtu", x.MTU, "%s (%s): mtu %d, adds %d", x.Device, x.Kind, x.MTU, x.Overhead),
					value(x.OuterDevice+" mtu", x.OuterMTU, "%s: mtu %d", x.OuterDevice, x.OuterMTU),
				}})
		}
		if sender != nil && x.MTU > 0 && sender.MTU > x.MTU {
			out = append(out, draft{kind: MTUAboveTunnel, on: h.Node, subject: x.Device,
				sentence: fmt.Sprintf("senders with packets of up to %d bytes are behind %s, which takes %d: large packets depend on the node's ICMP messages", sender.MTU, x.Device, x.MTU),
				evidence: []Evidence{
					value(sender.Namespace+" mtu", sender.MTU, "%s in %s: %s, mtu %d", sender.Node, sender.Namespace, sender.Action, sender.MTU),
					value(x.Device+" mtu", x.MTU, "%s: %s (%s), mtu %d", h.Node, x.Device, x.Kind, x.MTU),
				}})
		}
	}
	return out
}
