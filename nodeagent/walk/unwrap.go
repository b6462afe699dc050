package walk

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// unwrap lets the tunnel interface that takes an outer packet hand the inner one on, as arriving on itself.
func (w *walk) unwrap(b *branch) {
	links, err := w.ns.Links(w.ctx)
	if err != nil {
		w.fail(err)
		return
	}
	t := b.tunnel
	if t.Kind == wireGuard {
		w.decrypt(b, links)
		return
	}
	drop := func(reason string) {
		w.hop(b, trace.Hop{Hook: "tunnel", Action: "drop", Says: reason})
		w.end(b, end{verdict: trace.Dropped, reason: reason})
	}
	var taker node.Link
	best := 0
	for _, l := range links {
		if n := takes(l, b); n > best {
			taker, best = l, n
		}
	}
	if best == 0 {
		reason := fmt.Sprintf("no %s interface of this node takes it", t.Kind)
		switch {
		case t.ID != 0:
			reason = fmt.Sprintf("no %s interface with id %d and port %d takes it", t.Kind, t.ID, t.Destination.Port())
		case t.GRE.Keyed:
			reason = fmt.Sprintf("no %s interface with key %d takes it", t.Kind, t.GRE.Key)
		}
		drop(reason)
		return
	}
	if in := taker.Tunnel; !in.External {
		switch {
		case in.Takes.Checksum != t.GRE.Checksum: // ip_tunnel_rcv
			drop(fmt.Sprintf("%s and the sender do not both use checksums", taker.Name))
			return
		case in.Takes.Sequence && !t.GRE.Sequence:
			drop(fmt.Sprintf("%s wants sequence numbers, and the sender gives none", taker.Name))
			return
		}
	}
	w.hop(b, trace.Hop{Hook: "tunnel", Action: "unwrapped by " + taker.Name, Says: says(t)})
	w.inside(b, taker.Name, b.p.Mark) // the mark stays in the namespace
}

// How well an interface fits an outer packet, from the worst: the kernel gives it to the one that fits best
// (ip_tunnel_lookup, ip6_tnl_lookup).
const (
	takesNot = iota
	takesAny
	takesExternal
	takesLocal
	takesRemote
	takesBoth
)

// takes tells whether and how well a tunnel interface fits the outer packet of a branch.
func takes(l node.Link, b *branch) int {
	t, c := b.tunnel, l.Tunnel
	if c == nil || !l.Up() || !sameTunnel(l, b) {
		return takesNot
	}
	local := c.Local.IsValid()
	remote := c.Remote.IsValid() && !c.Remote.IsMulticast() && l.Kind != "vxlan"
	switch l.Kind {
	case "vxlan", "geneve":
		if c.Port != t.Destination.Port() || !c.External && c.ID != t.ID {
			return takesNot
		}
	case "gre", "gretap":
		// One without key and addresses is the kernel's own gre0 or gretap0, which takes what no other does.
		if same := c.Takes.Keyed == t.GRE.Keyed && c.Takes.Key == t.GRE.Key; !same && !c.External && (local || remote || c.Takes.Keyed) {
			return takesNot
		}
	}
	switch {
	case local && c.Local != b.p.Dst() || remote && c.Remote != b.p.Src():
		return takesNot
	case local && remote:
		return takesBoth
	case remote:
		return takesRemote
	case local:
		return takesLocal
	case c.External:
		return takesExternal
	}
	return takesAny
}

// sameTunnel tells whether an interface takes packets of the kind: ipip and sit are one by their protocol.
func sameTunnel(l node.Link, b *branch) bool {
	if l.Kind == b.tunnel.Kind && l.Kind != "sit" && l.Kind != "ip6tnl" {
		return true
	}
	proto := tunnelProto(l.Kind, b.inner.Family)
	carries := l.Tunnel.Carries == 0 || l.Tunnel.Carries == proto
	switch b.tunnel.Kind {
	case "ipip", "sit":
		return (l.Kind == "ipip" && proto == protoIPIP || l.Kind == "sit") && carries
	case "ip6tnl":
		return l.Kind == "ip6tnl" && carries
	}
	return false
}
