package walk

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// wireGuard is the kind of WireGuard interfaces.
const wireGuard = "wireguard"

// wireGuardBytes are what WireGuard adds behind the outer IP header: UDP, the header of a data message, and the tag that
// authenticates it (MESSAGE_MINIMUM_LENGTH in drivers/net/wireguard/messages.h). Padding never makes a packet larger than
// one of the interface's MTU would be.
const wireGuardBytes = 8 + 16 + 16

// encrypt sends a packet into a WireGuard interface (wg_xmit in drivers/net/wireguard/device.c): to the peer that its
// destination is behind, at that peer's endpoint.
func (w *walk) encrypt(b *branch, dev node.Link) {
	d, ok := w.wireGuard(b, dev)
	if !ok {
		return
	}
	refuse := func(why string) {
		with := "icmp-host-unreachable"
		if b.p.Family == skb.IPv6 {
			with = "icmp6-addr-unreachable"
		}
		w.hop(b, trace.Hop{Hook: "tunnel", Action: "unreachable", Says: why})
		w.end(b, end{verdict: trace.Rejected, with: with, reason: why})
	}
	peer := d.For(b.p.Dst())
	if peer == nil {
		refuse(fmt.Sprintf("no peer of %s has %s among its allowed addresses", dev.Name, b.p.Dst()))
		return
	}
	if !peer.Endpoint.IsValid() {
		refuse(fmt.Sprintf("where the peer of %s with %s is was never heard", dev.Name, b.p.Dst()))
		return
	}
	t := &trace.Tunnel{
		Kind: wireGuard, Device: dev.Name, MTU: dev.MTU, Overhead: 20 + wireGuardBytes, Sender: keyText(d.PublicKey), Receiver: keyText(peer.PublicKey),
		Source: netip.AddrPortFrom(netip.Addr{}, d.Port), Destination: peer.Endpoint,
	}
	if peer.Endpoint.Addr().Is6() {
		t.Overhead += 20
	}
	r, err := w.ns.Route(w.ctx, wireGuardRoute(t, d.Mark))
	var refused *node.RouteError
	if err != nil && !errors.As(err, &refused) {
		w.fail(err)
		return
	}
	if refused != nil || !r.PrefSrc.IsValid() {
		w.hop(b, trace.Hop{Hook: "route", Action: "no route", Says: "for the outer packet to " + t.Destination.Addr().String()})
		w.end(b, end{verdict: trace.Dropped, reason: fmt.Sprintf("there is no route to %s, where %s sends it", t.Destination.Addr(), dev.Name)})
		return
	}
	t.Source = netip.AddrPortFrom(r.PrefSrc, d.Port)
	o, err := skb.New(skb.UDP, t.Source, t.Destination)
	if err != nil {
		w.fail(fmt.Errorf("the outer packet of %s: %w", dev.Name, err))
		return
	}
	o.Local, o.Mark = true, d.Mark
	w.hop(b, trace.Hop{Hook: "tunnel", Action: fmt.Sprintf("%s encrypts it for %s", dev.Name, t.Destination.Addr()), Says: says(t), Tunnel: t})
	w.remember(b)
	b.inner, b.tunnel, b.p = b.p, t, o
	b.route, b.looped = node.Route{}, false
	w.fromTunnel(b)
}

// wireGuardRoute is the lookup of WireGuard's socket (send4 and send6 in drivers/net/wireguard/socket.c).
func wireGuardRoute(t *trace.Tunnel, mark uint32) node.RouteQuery {
	return node.RouteQuery{
		Dst: t.Destination.Addr(), Src: t.Source.Addr(), Mark: mark, Proto: skb.UDP, SrcPort: t.Source.Port(), DstPort: t.Destination.Port(),
	}
}

// decrypt hands what came by UDP to the interface that listens there and has the key that it was encrypted for, and from
// there on when the sender may send from the inner source (wg_packet_consume_data_done in drivers/net/wireguard/receive.c).
func (w *walk) decrypt(b *branch, links []node.Link) {
	t := b.tunnel
	drop := func(reason string) {
		w.hop(b, trace.Hop{Hook: "tunnel", Action: "drop", Says: reason})
		w.end(b, end{verdict: trace.Dropped, reason: reason})
	}
	for _, l := range links {
		if l.Kind != wireGuard || !l.Up() {
			continue
		}
		d, ok := w.wireGuard(b, l)
		if !ok {
			return
		}
		if d.Port != t.Destination.Port() {
			continue
		}
		if keyText(d.PublicKey) != t.Receiver {
			drop(fmt.Sprintf("it is encrypted for another key than that of %s", l.Name))
			return
		}
		from := d.For(b.inner.Src())
		if from == nil || keyText(from.PublicKey) != t.Sender {
			drop(fmt.Sprintf("the peer that sends it may not send from %s: that is not among its allowed addresses on %s", b.inner.Src(), l.Name))
			return
		}
		w.hop(b, trace.Hop{Hook: "tunnel", Action: "decrypted by " + l.Name, Says: says(t)})
		w.inside(b, l.Name, 0)
		return
	}
	drop(fmt.Sprintf("no wireguard interface listens on port %d", t.Destination.Port()))
}

// wireGuard reads an interface. Where its peers cannot be read it is not known what becomes of the packet: false.
func (w *walk) wireGuard(b *branch, l node.Link) (node.WireGuardDevice, bool) {
	d, err := w.ns.WireGuard(w.ctx, l.Index)
	if err == nil {
		return d, true
	}
	if w.ctx.Err() != nil {
		w.fail(w.ctx.Err())
		return d, false
	}
	what := fmt.Sprintf("the peers of the wireguard interface %s: %v", l.Name, err)
	if b.inner == nil {
		b.tunnel = &trace.Tunnel{Kind: wireGuard, Device: l.Name, MTU: l.MTU}
	}
	w.hop(b, trace.Hop{Hook: "tunnel", Action: "not known: where " + l.Name + " sends it", Says: err.Error()})
	b.assume(rule.Assumption{Unknown: &trace.Unknown{What: what, Where: "tunnel"}, Words: l.Name + " passes it on"})
	w.end(b, end{verdict: trace.Forwarded})
	return d, false
}

func keyText(k node.WireGuardKey) string { return base64.StdEncoding.EncodeToString(k[:]) }
