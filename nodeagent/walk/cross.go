package walk

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// maxCrossings bounds how often a packet may go from namespace to namespace: more is a loop.
const maxCrossings = 16

// leave ends a branch whose packet goes out by b.p.Out, or follows it through a veth pair.
func (w *walk) leave(b *branch) {
	wrapped, err := w.wrap(b)
	if wrapped || err != nil {
		if err != nil {
			w.fail(err)
		}
		return
	}
	if !w.start.Follow {
		w.end(b, end{verdict: trace.Forwarded})
		return
	}
	out, err := w.wire(b)
	if err != nil {
		w.fail(err)
		return
	}
	if out.Peer == 0 {
		w.end(b, end{verdict: trace.Forwarded})
		return
	}
	id, name, err := w.node.Peer(w.ctx, w.id, out)
	if errors.Is(err, node.ErrNotFound) {
		w.end(b, end{verdict: trace.Forwarded, reason: "the namespace behind " + out.Name + " could not be found on this node"})
		return
	}
	if err != nil {
		w.fail(err)
		return
	}
	there, err := w.place(id)
	if err != nil {
		w.fail(err)
		return
	}
	if b.crossings++; b.crossings > maxCrossings {
		w.end(b, end{verdict: trace.Dropped, reason: "the packet goes round between namespaces until its TTL ends"})
		return
	}
	w.hop(b, trace.Hop{Hook: "veth", Action: fmt.Sprintf("%s to %s", out.Name, name), Says: "crosses into " + there.label})
	b.sent = toDestination
	if b.route.Gateway.IsValid() {
		b.sent = toGateway
	}
	w.remember(b)
	b.p = arrived(b.p, name)
	b.route, b.looped = node.Route{}, false
	there.fromInterface(b)
}

// arrived is a packet that has crossed into another namespace: connection, mark and all that rules noted stay behind
// (skb_scrub_packet).
func arrived(p *skb.Packet, in string) *skb.Packet {
	q := p.Clone()
	q.In, q.Out, q.PhysIn, q.PhysOut, q.Bridge = in, "", "", "", ""
	q.Mark, q.Priority, q.PriorityUnknown, q.Local, q.Owner = 0, 0, false, false, nil
	q.Ct, q.State, q.Template, q.TProxy = nil, skb.CtNone, nil, netip.AddrPort{}
	q.Recent, q.Sets, q.Traced = nil, nil, false
	return q
}

// wire returns the interface that a packet really leaves by: behind a bridge, the port with the destination.
func (w *walk) wire(b *branch) (node.Link, error) {
	links, err := w.ns.Links(w.ctx)
	if err != nil {
		return node.Link{}, err
	}
	i := slices.IndexFunc(links, func(l node.Link) bool { return l.Name == b.p.Out })
	if i < 0 {
		return node.Link{}, nil
	}
	if links[i].Kind != "bridge" {
		return links[i], nil
	}
	hop := b.p.Dst()
	if b.route.Gateway.IsValid() {
		hop = b.route.Gateway
	}
	return w.portWith(links[i], hop)
}

// portWith finds the port of a bridge whose other end has an address: who would answer for it.
func (w *walk) portWith(bridge node.Link, a netip.Addr) (node.Link, error) {
	links, err := w.ns.Links(w.ctx)
	if err != nil {
		return node.Link{}, err
	}
	for _, l := range links {
		if l.Master != bridge.Index || l.Peer == 0 {
			continue
		}
		has, err := w.behind(l, a)
		if err != nil {
			return node.Link{}, err
		}
		if has {
			return l, nil
		}
	}
	return node.Link{}, nil
}

// behind tells whether the namespace at a veth's other end has an address.
func (w *walk) behind(l node.Link, a netip.Addr) (bool, error) {
	id, _, err := w.node.Peer(w.ctx, w.id, l)
	if errors.Is(err, node.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	there, err := w.place(id)
	if err != nil {
		return false, err
	}
	addrs, err := there.ns.Addresses(w.ctx)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(addrs, func(x node.Address) bool { return x.Prefix.Addr() == a }), nil
}

// placeOf returns the part of the journey in the namespace on this node that has an address.
func (w *walk) placeOf(a netip.Addr) (*walk, error) {
	typ, err := w.ns.AddrType(w.ctx, a, "")
	if err != nil {
		return nil, err
	}
	if typ == node.RouteLocal {
		return w, nil
	}
	r, err := w.ns.Route(w.ctx, node.RouteQuery{Dst: a})
	var refused *node.RouteError
	if errors.As(err, &refused) {
		return nil, fmt.Errorf("%w: there is no route to %s on this node", ErrStart, a)
	}
	if err != nil {
		return nil, err
	}
	links, err := w.ns.Links(w.ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(links, func(l node.Link) bool { return l.Name == r.Out })
	if i < 0 {
		return nil, fmt.Errorf("%w: there is no interface %q", ErrStart, r.Out)
	}
	out := links[i]
	if out.Kind == "bridge" {
		if out, err = w.portWith(out, a); err != nil {
			return nil, err
		}
	}
	if out.Peer == 0 {
		return nil, fmt.Errorf("%w: no namespace on this node has the address %s", ErrStart, a)
	}
	id, _, err := w.node.Peer(w.ctx, w.id, out)
	if err != nil {
		return nil, fmt.Errorf("%w: the namespace behind %s: %w", ErrStart, out.Name, err)
	}
	return w.place(id)
}
