package walk

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// IP protocols of tunnels without UDP.
const (
	protoIPIP = 4
	protoIPv6 = 41
	protoGRE  = 47
)

// wrap puts a packet that leaves by a tunnel interface into its outer packet, which then goes its own way from OUTPUT on.
// It returns false when the interface is no tunnel.
func (w *walk) wrap(b *branch) (bool, error) {
	links, err := w.ns.Links(w.ctx)
	if err != nil {
		return false, err
	}
	var dev node.Link
	for _, l := range links {
		if l.Name == b.p.Out {
			dev = l
		}
	}
	switch {
	case b.inner != nil:
		return false, nil
	case dev.Kind == wireGuard:
		w.encrypt(b, dev)
		return true, nil
	case b.route.Encap.Kind != "" && (dev.Tunnel == nil || !dev.Tunnel.External) || dev.Tunnel != nil && dev.Tunnel.Within != "":
		w.unknownTunnel(b, dev)
		return true, nil
	case dev.Tunnel == nil:
		return false, nil
	}
	if reason := refuses(b, dev); reason != "" {
		w.hop(b, trace.Hop{Hook: "tunnel", Action: "drop", Says: reason})
		w.end(b, end{verdict: trace.Dropped, reason: reason})
		return true, nil
	}
	t, err := w.outer(b, dev)
	if err != nil {
		return false, err
	}
	if !t.Destination.Addr().IsValid() {
		b.tunnel = t
		w.end(b, end{verdict: trace.Forwarded, reason: fmt.Sprintf("where %s sends it is not known: no entry for the next hop", dev.Name)})
		return true, nil
	}
	if !t.Source.Addr().IsValid() {
		r, err := w.ns.Route(w.ctx, node.RouteQuery{Dst: t.Destination.Addr()})
		var refused *node.RouteError
		if err != nil && !errors.As(err, &refused) {
			return false, err
		}
		if refused == nil && len(r.OneOf) > 0 && !r.PrefSrc.IsValid() {
			w.sourceOfEach(b, r, t, dev)
			return true, nil
		}
		if refused != nil || !r.PrefSrc.IsValid() {
			w.hop(b, trace.Hop{Hook: "route", Action: "no route", Says: "for the outer packet to " + t.Destination.Addr().String()})
			w.end(b, end{verdict: trace.Dropped, reason: fmt.Sprintf("there is no route to %s, where %s sends it", t.Destination.Addr(), dev.Name)})
			return true, nil
		}
		t.Source = netip.AddrPortFrom(r.PrefSrc, t.Source.Port())
	}
	return true, w.send(b, t, dev)
}

// sourceOfEach sends the packet from the address that each of several next hops would give it.
func (w *walk) sourceOfEach(b *branch, r node.Route, t *trace.Tunnel, dev node.Link) {
	w.eachHop(b, r, func(b *branch, r node.Route) {
		from := *t
		from.Source = netip.AddrPortFrom(r.PrefSrc, t.Source.Port())
		if err := w.send(b, &from, dev); err != nil {
			w.fail(err)
		}
	})
}

// send puts the packet into an outer one, which goes its way.
func (w *walk) send(b *branch, t *trace.Tunnel, dev node.Link) error {
	proto := tunnelProto(dev.Kind, b.p.Family)
	o, err := skb.New(proto, t.Source, t.Destination)
	if err != nil {
		return fmt.Errorf("the outer packet of %s: %w", dev.Name, err)
	}
	// The mark stays on a packet that a tunnel of the same namespace wraps (skb_scrub_packet); its connection does not.
	o.Local, o.Mark = true, b.p.Mark
	w.hop(b, trace.Hop{Hook: "tunnel", Action: fmt.Sprintf("%s wraps it for %s", dev.Name, t.Destination.Addr()), Says: says(t), Tunnel: t})
	w.remember(b)
	b.inner, b.tunnel, b.p = b.p, t, o
	b.route, b.looped = node.Route{}, false
	w.fromTunnel(b)
	return nil
}

func says(t *trace.Tunnel) string {
	s := t.Kind
	if t.ID != 0 {
		s += fmt.Sprintf(" %d", t.ID)
	}
	if t.GRE.Keyed {
		s += fmt.Sprintf(" with key %d", t.GRE.Key)
	}
	if t.Destination.Port() != 0 {
		s += fmt.Sprintf(", UDP port %d", t.Destination.Port())
	}
	return s + fmt.Sprintf(", %d bytes more; MTU of the tunnel %d", t.Overhead, t.MTU)
}

// tunnelProto is the outer packet's protocol, behind its IP header.
func tunnelProto(kind string, inner skb.Family) uint8 {
	switch kind {
	case "vxlan", "geneve", wireGuard:
		return skb.UDP
	case "gre", "gretap":
		return protoGRE
	}
	if inner == skb.IPv6 {
		return protoIPv6
	}
	return protoIPIP
}

// refuses tells why a tunnel does not take a packet, "" when it does (ipip_tunnel_xmit, ip6_tnl_start_xmit).
func refuses(b *branch, dev node.Link) string {
	carries, proto := dev.Tunnel.Carries, tunnelProto(dev.Kind, b.p.Family)
	if dev.Kind == "ipip" {
		carries = protoIPIP
	}
	switch {
	case carries == 0 || carries == proto:
		return ""
	case proto == protoIPv6:
		return fmt.Sprintf("%s, a tunnel of kind %s, carries no IPv6", dev.Name, dev.Kind)
	}
	return fmt.Sprintf("%s, a tunnel of kind %s, carries no IPv4", dev.Name, dev.Kind)
}

// unknownTunnel ends a branch whose packet is wrapped in a way that is not modelled.
func (w *walk) unknownTunnel(b *branch, dev node.Link) {
	how := "the route's encapsulation " + b.route.Encap.Kind
	if b.route.Encap.Kind == "" {
		how = fmt.Sprintf("the encapsulation %s of %s", dev.Tunnel.Within, dev.Name)
	}
	w.hop(b, trace.Hop{Hook: "tunnel", Action: "not known: where " + dev.Name + " sends it", Says: how + " is not modelled"})
	b.assume(rule.Assumption{Unknown: &trace.Unknown{What: how, Where: "tunnel"}, Words: dev.Name + " passes it on"})
	w.end(b, end{verdict: trace.Forwarded})
}

// outer describes the outer packet: its destination is the tunnel's remote, or the forwarding database's entry for the
// next hop's hardware address, or, for tunnels of IP alone, the gateway, or what the route says.
func (w *walk) outer(b *branch, dev node.Link) (*trace.Tunnel, error) {
	c := dev.Tunnel
	t := &trace.Tunnel{Kind: dev.Kind, Device: dev.Name, ID: c.ID, MTU: dev.MTU, GRE: greOf(c.Sends)}
	local, remote, port, options := c.Local, c.Remote, c.Port, 0
	hop := b.p.Dst()
	if b.route.Gateway.IsValid() {
		hop = b.route.Gateway
	}
	switch {
	case c.External:
		e := b.route.Encap
		local, remote, options = e.Source, e.Destination, e.Options
		if dev.Kind == "gre" || dev.Kind == "gretap" {
			sends := *c
			sends.Sends = e.GRE
			c, t.GRE = &sends, greOf(e.GRE)
		} else {
			t.ID = uint32(e.ID)
		}
	case dev.Kind == "vxlan":
		hw, err := w.hardwareAddr(dev, hop)
		if err != nil {
			return nil, err
		}
		to, at, err := w.ns.TunnelRemote(w.ctx, dev.Index, hw)
		if err != nil {
			return nil, err
		}
		if to.IsValid() {
			remote = to
		}
		if at != 0 {
			port = at
		}
	case remote.IsValid() || dev.Kind == "geneve":
	case dev.Kind == "gre":
		// It has headers of its own (ipgre_header_ops): the outer address is the hardware address of the next hop.
		hw, err := w.hardwareAddr(dev, hop)
		if err != nil {
			return nil, err
		}
		remote, _ = netip.AddrFromSlice(hw)
	case hop.Is4() && dev.Kind != "ip6tnl":
		remote = hop
	}
	t.Source, t.Destination = netip.AddrPortFrom(local, 0), netip.AddrPortFrom(remote, port)
	t.Overhead = c.Overhead(dev.Kind, remote.Is6()) + options
	return t, nil
}

func greOf(f node.GREFields) trace.GRE {
	return trace.GRE{Key: f.Key, Keyed: f.Keyed, Checksum: f.Checksum, Sequence: f.Sequence}
}

// hardwareAddr returns the neighbour table's entry for an address on an interface, nil when there is none.
func (w *walk) hardwareAddr(dev node.Link, a netip.Addr) ([]byte, error) {
	n, err := w.ns.Neighbours(w.ctx)
	if err != nil {
		return nil, err
	}
	for _, x := range n {
		if x.Link == dev.Index && x.Addr == a {
			return x.HardwareAddr, nil
		}
	}
	return nil, nil
}

// fromTunnel walks an outer packet from its routing decision on: the tunnel looks its route up without mark and ports, but
// for WireGuard, which has a mark of its own.
func (w *walk) fromTunnel(b *branch) {
	p := b.p
	q := node.RouteQuery{Dst: p.Dst(), Src: p.Src()}
	if b.tunnel.Kind == wireGuard {
		q = wireGuardRoute(b.tunnel, p.Mark)
	}
	r, err := w.ns.Route(w.ctx, q)
	var refused *node.RouteError
	if errors.As(err, &refused) {
		w.hop(b, trace.Hop{Hook: "route", Action: "no route", Says: fmt.Sprintf("for the outer packet to %s: %s", p.Dst(), refused.Errno)})
		w.end(b, end{verdict: trace.Dropped, reason: fmt.Sprintf("there is no route to %s, where the tunnel sends it", p.Dst())})
		return
	}
	if err != nil {
		w.fail(err)
		return
	}
	links, err := w.ns.Links(w.ctx)
	if err != nil {
		w.fail(err)
		return
	}
	w.eachHop(b, r, func(b *branch, r node.Route) {
		if b.tunnel.OuterDevice != "" && b.tunnel.OuterDevice != r.Out {
			w.anotherTunnel(b)
		}
		// The hop that wrapped the packet, the last one, holds the same tunnel.
		b.tunnel.OuterDevice, b.tunnel.OuterMTU = r.Out, mtuOf(links, r)
		if r.PathMTU != 0 {
			b.tunnel.OuterMTU = min(b.tunnel.OuterMTU, r.PathMTU)
		}
		b.route = r
		b.p.Out = r.Out
		w.routeHop(b, "the outer packet")
		w.pass(b, skb.Output, w.postrouting)
	})
}

// anotherTunnel gives a branch whose outer packet leaves by another interface than that of the branch before it a step of
// its own for the wrapping.
func (w *walk) anotherTunnel(b *branch) {
	t := *b.tunnel
	b.tunnel = &t
	h := w.trace.Hops[b.path.hop]
	h.Tunnel = &t
	b.path = &step{len(w.trace.Hops), b.path.before}
	w.trace.Hops = append(w.trace.Hops, h)
}

// wrapped replaces a branch's packet by the outer packet that it arrives in.
func (w *walk) wrapped(b *branch, t *trace.Tunnel) error {
	proto := tunnelProto(t.Kind, b.p.Family)
	o, err := skb.New(proto, t.Source, t.Destination)
	if err != nil {
		return fmt.Errorf("%w: its outer packet: %w", ErrStart, err)
	}
	if w.start.Arrives.IsValid() || w.start.In != "" {
		o.In, err = w.inputInterface(w.start.In, t.Source.Addr())
	} else {
		o.In, err = w.interfaceWith(t.Destination.Addr())
	}
	if err != nil {
		return err
	}
	b.inner, b.tunnel, b.p = b.p, t, o
	return nil
}

// inside goes on with the inner packet, as arriving on the tunnel interface.
func (w *walk) inside(b *branch, name string, mark uint32) {
	b.p = arrived(b.inner, name)
	b.p.Mark = mark
	b.inner, b.tunnel = nil, nil
	b.route, b.looped = node.Route{}, false
	w.fromInterface(b)
}
