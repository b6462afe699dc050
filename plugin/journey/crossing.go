package journey

import (
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// crossing is how a packet gets from one node to another.
type crossing struct {
	node string
	// to is the address of that node that the packet, or the one it is wrapped in, is sent to.
	to     netip.Addr
	out    string
	tunnel *trace.Tunnel
}

// crossing finds the node that a forwarded packet goes to: the one with the outer destination, with the next hop or with
// the destination, else the one that runs the pod with the destination. It is false when the packet leaves the cluster,
// or when it stays on a node that does not know where to put it.
func (g *Guide) crossing(from string, o *trace.Outcome) (crossing, bool) {
	if o.Verdict != trace.Forwarded {
		return crossing{}, false
	}
	c := crossing{out: o.Out, tunnel: o.Tunnel}
	on := []netip.Addr{o.NextHop, o.Destination.Addr().Unmap()}
	if o.Tunnel != nil {
		on = []netip.Addr{o.Tunnel.Destination.Addr().Unmap()}
	}
	for _, a := range on {
		if n, ok := g.model.NodeWithAddress(a); ok {
			c.node, c.to = n.Name, a
			return c, n.Name != from
		}
	}
	if o.Tunnel != nil {
		return crossing{}, false
	}
	n, ok := g.model.NodeOfPod(o.Destination.Addr().Unmap())
	if at := g.placeOf(o.Destination.Addr().Unmap()); at != "" {
		n, ok = g.model.Node(at)
	}
	if !ok || n.Name == from {
		return crossing{}, false
	}
	c.node = n.Name
	c.to, _ = n.Address(familyOf(o))
	return c, true
}

func (g *Guide) placeOf(a netip.Addr) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.places[a]
}

// request is the walk on the node that gets the packet.
func (c crossing) request(protocol string, o *trace.Outcome) wire.WalkRequest {
	return wire.WalkRequest{
		Protocol: protocol, Source: o.Source, Destination: o.Destination, Node: c.node, Follow: true, Arrives: c.to, Tunnel: c.tunnel,
	}
}

// hop is the crossing as a step of the journey.
func (c crossing) hop(from string) trace.Hop {
	h := trace.Hop{Node: from, Namespace: "host", Hook: "node", Action: fmt.Sprintf("by %s to %s", c.out, c.node)}
	if c.out == "" {
		h.Action = "to " + c.node
	}
	if t := c.tunnel; t != nil {
		h.Action = fmt.Sprintf("via %s to %s", t.Kind, c.node)
		h.Says = fmt.Sprintf("the outer packet, %s to %s, leaves by %s", t.Source.Addr(), t.Destination.Addr(), c.out)
	}
	return h
}
