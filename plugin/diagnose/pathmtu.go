package diagnose

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// The kinds of this family: packets that grow on their way.
var (
	// MTUTooSmall: what a tunnel lets through does not fit, with what it adds, the interface that it leaves by. Small
	// requests work; large ones are lost, at least until the sender has learnt of it by a message, where one comes through.
	// It is proven by the MTUs on the walked path, of the packet and of its reply.
	MTUTooSmall = Kind{ID: "mtu-too-small", Severity: Warning, Title: "MTU too small",
		Fix: "lower the pods' and the tunnel's MTU in the network plugin's configuration (VXLAN over IPv4: 50 less than the network's), and recreate the pods"}
	// MTUAboveTunnel: a sender's packets may be larger than the tunnel on their way. The node says so to the sender (ICMP
	// fragmentation needed, packet too big), so that large packets work when that message comes through, after the first
	// is lost.
	MTUAboveTunnel = Kind{ID: "mtu-above-tunnel", Severity: Info, Title: "MTU above tunnel",
		Fix: "give pods the tunnel's MTU in the network plugin's configuration, and recreate them; until then let ICMP \"fragmentation needed\" and ICMPv6 \"packet too big\" pass"}
)

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
			out = append(out, draft{kind: MTUTooSmall, subject: x.Device,
				sentence: fmt.Sprintf("packets of %s grow to %d bytes, and %s takes %d", x.Device, x.MTU+x.Overhead, x.OuterDevice, x.OuterMTU),
				evidence: []string{fmt.Sprintf("%s (%s): mtu %d, adds %d", x.Device, x.Kind, x.MTU, x.Overhead), fmt.Sprintf("%s: mtu %d", x.OuterDevice, x.OuterMTU)}})
		}
		if sender != nil && x.MTU > 0 && sender.MTU > x.MTU {
			out = append(out, draft{kind: MTUAboveTunnel, subject: x.Device,
				sentence: fmt.Sprintf("senders with packets of up to %d bytes are behind %s, which takes %d: large packets depend on the node's ICMP messages", sender.MTU, x.Device, x.MTU),
				evidence: []string{fmt.Sprintf("%s in %s: %s, mtu %d", sender.Node, sender.Namespace, sender.Action, sender.MTU), fmt.Sprintf("%s: %s (%s), mtu %d", h.Node, x.Device, x.Kind, x.MTU)}})
		}
	}
	return out
}
