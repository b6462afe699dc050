package walk

import (
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// segmentRouting is the type of a segment routing header (IPV6_SRCRT_TYPE_4 in include/uapi/linux/ipv6.h).
const segmentRouting = 4

// openHeaders ends a packet to this node whose IPv6 extension headers decide what becomes of it (ip6_input_finish runs a handler
// for each), in a way that is not modelled. It tells whether it did.
func (w *walk) openHeaders(b *branch) bool {
	what := openHeader(b.p)
	if what == "" {
		return false
	}
	b.assume(rule.Assumption{Unknown: &trace.Unknown{What: what, Where: b.p.Hook.String()}})
	w.hop(b, trace.Hop{Hook: "input", Action: "not modelled: " + what})
	w.end(b, end{verdict: trace.Undetermined, reason: "not modelled: " + what})
	return true
}

func openHeader(p *skb.Packet) string {
	if p.Behind() {
		// nf_ct_frag6_reasm leaves the transport header behind the fragment header, and the first handler begins there: it takes the
		// transport header for the extension header in front (seen on Linux 6.18: dropped, or answered with a parameter problem).
		return "extension headers in front of the fragment header of a packet that was put together before rules"
	}
	chain, _ := p.Headers()
	for _, h := range chain {
		switch h.Type {
		case skb.HeaderAuth:
			return "the authentication header"
		case skb.HeaderRouting:
			var of [2]byte // its type and segments left; without any left it is passed over, but for one of segment routing
			if !p.KnownNetwork(h.Offset+2, of[:]) || of[0] == segmentRouting || of[1] != 0 {
				return "the routing header"
			}
		}
	}
	return ""
}
