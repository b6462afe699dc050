package walk

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// routed is what a change of makes the kernel route a local packet again.
type routed struct {
	src, dst netip.Addr
	mark     uint32
	tos      string
}

func routingKey(p *skb.Packet) routed {
	off, n := 1, 1
	if p.Family == skb.IPv6 {
		off, n = 0, 4
	}
	v, known, _ := p.Network(off, n)
	return routed{p.Src(), p.Dst(), p.Mark, string(v) + string(known)}
}

// reroute is ip_route_me_harder: the routing decision of a local packet that a rule has changed.
func (w *walk) reroute(b *branch, next func(*branch)) {
	p := b.p
	q := node.RouteQuery{Dst: p.Dst(), Src: p.Src(), Mark: p.Mark}
	if p.Owner != nil {
		q.UID = &p.Owner.UID
	}
	r, err := w.ns.Route(w.ctx, q)
	var refused *node.RouteError
	if errors.As(err, &refused) {
		w.hop(b, trace.Hop{Hook: "route", Action: "no route", Says: fmt.Sprintf("routed again to %s: %s", p.Dst(), refused.Errno)})
		w.end(b, end{verdict: trace.Dropped, reason: fmt.Sprintf("there is no route to %s: the sender gets %s", p.Dst(), refused.Errno)})
		return
	}
	if err != nil {
		w.fail(err)
		return
	}
	w.eachHop(b, r, func(b *branch, r node.Route) {
		b.route = r
		w.routeHop(b, "routed again, since a rule has changed the packet")
		w.ipsec(b, node.IPsecOut, false, next)
	})
}

func (w *walk) routeHop(b *branch, says string) {
	r := b.route
	action := "route " + b.p.Dst().String()
	switch {
	case r.Type == node.RouteLocal:
		action += " is local"
	case r.Gateway.IsValid():
		action += " via " + r.Gateway.String() + " dev " + r.Out
	default:
		action += " dev " + r.Out
	}
	if r.Table != 254 && r.Table != 255 {
		action += fmt.Sprintf(" table %d", r.Table)
	}
	h := trace.Hop{Hook: "route", Action: action, Says: says}
	if r.Type == node.RouteUnicast {
		links, err := w.ns.Links(w.ctx)
		if err != nil {
			w.fail(err)
			return
		}
		h.MTU = mtuOf(links, r)
	}
	w.hop(b, h)
}

// mtuOf is the largest packet that may leave by a route (ip_dst_mtu_maybe_forward): the route's own MTU, or that of its
// interface; 0 when neither is known.
func mtuOf(links []node.Link, r node.Route) int {
	if r.MTU != 0 {
		return r.MTU
	}
	for _, l := range links {
		if l.Name == r.Out {
			return l.MTU
		}
	}
	return 0
}

// fromProcess walks a packet of a local process: what its socket does, routing, OUTPUT, and on.
func (w *walk) fromProcess(b *branch) {
	b.p.Hook = skb.Output
	if w.start.Reply { // from a socket that was connected from the other side
		w.fromSocket(b)
		return
	}
	w.socketPrograms(b, node.SocketConnects, w.fromSocket)
}

// fromSocket walks a packet of a socket that has a destination.
func (w *walk) fromSocket(b *branch) {
	p := b.p
	sport, _ := p.SrcPort()
	dport, _ := p.DstPort()
	q := node.RouteQuery{Dst: p.Dst(), Src: p.Src(), Mark: p.Mark, Proto: p.Proto(), SrcPort: sport, DstPort: dport}
	if p.Owner != nil {
		q.UID = &p.Owner.UID
	}
	r, err := w.ns.Route(w.ctx, q)
	var refused *node.RouteError
	if errors.As(err, &refused) {
		w.hop(b, trace.Hop{Hook: "route", Action: "no route", Says: fmt.Sprintf("the routing decision for %s fails before any rule is asked: %s", p.Dst(), refused.Errno)})
		w.end(b, end{verdict: trace.Rejected, with: refused.Errno, reason: fmt.Sprintf("there is no route to %s: the sender gets %s at once", p.Dst(), refused.Errno)})
		return
	}
	if err != nil {
		w.fail(err)
		return
	}
	w.eachHop(b, r, func(b *branch, r node.Route) {
		b.route = r
		b.p.Out = r.Out
		w.routeHop(b, "")
		w.ipsec(b, node.IPsecOut, true, func(b *branch) { w.pass(b, skb.Output, w.postrouting) })
	})
}

// fromInterface walks a packet that arrives on p.In.
func (w *walk) fromInterface(b *branch) {
	bridge, isPort, err := w.bridgeOf(b.p.In)
	if err != nil {
		w.fail(err)
		return
	}
	if isPort {
		w.fromPort(b, bridge)
		return
	}
	w.ingress(b, func(b *branch) {
		if p := b.p; p.Family == skb.IPv6 && (p.Src().IsLoopback() || p.Dst().IsLoopback() || p.Src().IsMulticast()) {
			// ip6_rcv_core (RFC 4291 2.5.3 and 2.7). Interfaces that are loopback ones get here by another way.
			reason := fmt.Sprintf("an IPv6 packet from %s to %s may not arrive on %s", p.Src(), p.Dst(), p.In)
			w.hop(b, trace.Hop{Hook: "ingress", Action: "drop", Says: reason})
			w.end(b, end{verdict: trace.Dropped, reason: reason + ": the kernel discards it before any rule is asked"})
			return
		}
		w.pass(b, skb.Prerouting, w.inputRoute)
	})
}

// inputRoute is the routing decision for a packet that arrived (ip_route_input).
func (w *walk) inputRoute(b *branch) {
	p := b.p
	sport, _ := p.SrcPort()
	dport, _ := p.DstPort()
	r, err := w.ns.Route(w.ctx, node.RouteQuery{
		In: p.In, Dst: p.Dst(), Src: p.Src(), Mark: p.Mark, Proto: p.Proto(), SrcPort: sport, DstPort: dport,
	})
	var refused *node.RouteError
	if errors.As(err, &refused) {
		w.refuse(b, r, refused)
		return
	}
	if err != nil {
		w.fail(err)
		return
	}
	w.eachHop(b, r, w.inputRouted)
}

// inputRouted goes on with the routing decision of a packet that arrived.
func (w *walk) inputRouted(b *branch, r node.Route) {
	p := b.p
	b.route = r
	w.routeHop(b, "")
	switch r.Type {
	case node.RouteLocal, node.RouteBroadcast, node.RouteMulticast, node.RouteAnycast:
		w.input(b)
		return
	}
	if p.Family == skb.IPv6 {
		on, err := w.sysctlOn("net/ipv6/conf/all/forwarding")
		if err != nil {
			w.fail(err)
			return
		}
		force, err := w.sysctlOn("net/ipv6/conf/" + p.In + "/force_forwarding")
		if err != nil {
			w.fail(err)
			return
		}
		if !on && !force {
			w.hop(b, trace.Hop{Hook: "route", Action: "drop", Says: "net.ipv6.conf.all.forwarding is 0"})
			w.end(b, end{verdict: trace.Dropped, reason: "this node does not forward IPv6: net.ipv6.conf.all.forwarding is 0"})
			return
		}
	}
	if p.TProxy.IsValid() {
		reason := fmt.Sprintf("a tproxy rule has given it to the socket on %s, and it is not routed to this node: the kernel does not forward what belongs to a socket", p.TProxy)
		w.hop(b, trace.Hop{Hook: "route", Action: "drop", Says: reason})
		w.end(b, end{verdict: trace.Dropped, reason: reason})
		return
	}
	w.ipsec(b, node.IPsecForward, false, w.forward)
}

// forward is the rest of ip_forward and ip6_forward.
func (w *walk) forward(b *branch) {
	p := b.p
	p.Out = b.route.Out
	if !w.countDown(b) {
		return
	}
	if p.Family == skb.IPv4 {
		update, err := w.sysctlOn("net/ipv4/ip_forward_update_priority")
		if err != nil {
			w.fail(err)
			return
		}
		if update {
			p.Reprioritize()
		}
	}
	w.ipsec(b, node.IPsecOut, false, func(b *branch) { w.pass(b, skb.Forward, w.postrouting) })
}

// countDown takes one off a TTL or hop limit that is known, before FORWARD (ip_forward, ip6_forward); it ends a packet that
// may go no further.
func (w *walk) countDown(b *branch) bool {
	off, with := 8, "icmp-ttl-exceeded"
	if b.p.Family == skb.IPv6 {
		off, with = 7, "icmp6-hop-limit-exceeded"
	}
	v, known, ok := b.p.Network(off, 1)
	if !ok || known[0] != 0xff {
		return true
	}
	if v[0] <= 1 {
		reason := fmt.Sprintf("its TTL is %d: it may go no further", v[0])
		w.hop(b, trace.Hop{Hook: "route", Action: "TTL exceeded", Says: reason})
		w.end(b, end{verdict: trace.Rejected, with: with, reason: reason})
		return false
	}
	b.p.SetNetwork(off, []byte{v[0] - 1})
	return true
}

func (w *walk) sysctlOn(name string) (bool, error) {
	v, err := w.ns.Sysctl(w.ctx, name)
	if errors.Is(err, node.ErrNotFound) {
		return false, nil
	}
	return v != "0" && v != "", err
}

// refuse ends a packet that the input routing decision refuses, with the answer that its sender gets (ip_error,
// ip6_pkt_discard).
func (w *walk) refuse(b *branch, r node.Route, refused *node.RouteError) {
	p := b.p
	say := func(action, reason, with string) {
		e := end{verdict: trace.Dropped, reason: reason}
		if with != "" {
			e.verdict, e.with = trace.Rejected, with
		}
		w.hop(b, trace.Hop{Hook: "route", Action: action, Says: reason})
		w.end(b, e)
	}
	to := p.Dst().String()
	if p.Family == skb.IPv6 {
		switch refused.Errno {
		case "EACCES":
			say("prohibit", "a route prohibits "+to, "icmp6-adm-prohibited")
		case "EINVAL":
			reason := "a blackhole route takes " + to + ", or the source address is refused"
			if refused.Reason != "" {
				reason = refused.Reason
			}
			say("drop", reason, "")
		default:
			say("unreachable", "there is no route to "+to, "icmp6-no-route")
		}
		return
	}
	forwards, err := w.sysctlOn("net/ipv4/conf/" + p.In + "/forwarding")
	if err != nil {
		w.fail(err)
		return
	}
	switch {
	case refused.Reason != "" && (refused.Errno == "EINVAL" || refused.Errno == "EXDEV"):
		say("drop", refused.Reason, "")
	case refused.Errno == "EINVAL" || refused.Errno == "EXDEV":
		why, err := w.sourceRefused(p)
		if err != nil {
			w.fail(err)
			return
		}
		say("drop", why, "")
	case !forwards:
		say("drop", fmt.Sprintf("this node does not forward packets from %s: net.ipv4.conf.%s.forwarding is 0", p.In, p.In), "")
	case refused.Errno == "EACCES":
		say("prohibit", "a route prohibits "+to, "icmp-admin-prohibited")
	case refused.Errno == "EHOSTUNREACH":
		say("unreachable", "a route makes "+to+" unreachable", "icmp-host-unreachable")
	default:
		say("unreachable", "there is no route to "+to, "icmp-net-unreachable")
	}
}

// sourceRefused says why the kernel finds a source address impossible on an interface.
func (w *walk) sourceRefused(p *skb.Packet) (string, error) {
	typ, err := w.ns.AddrType(w.ctx, p.Src(), "")
	if err != nil {
		return "", err
	}
	if typ == node.RouteLocal {
		return fmt.Sprintf("its source %s is an address of this node, and accept_local is off", p.Src()), nil
	}
	if p.Dst().IsLoopback() || p.Src().IsLoopback() {
		return fmt.Sprintf("a loopback address on %s is a martian: net.ipv4.conf.%s.route_localnet is 0", p.In, p.In), nil
	}
	back, err := w.ns.Route(w.ctx, node.RouteQuery{Dst: p.Src()})
	var refused *node.RouteError
	if err != nil && !errors.As(err, &refused) {
		return "", err
	}
	for _, name := range []string{"all", p.In} {
		v, err := w.ns.Sysctl(w.ctx, "net/ipv4/conf/"+name+"/rp_filter")
		if err != nil && !errors.Is(err, node.ErrNotFound) {
			return "", err
		}
		if v != "" && v != "0" && back.Out != p.In {
			return fmt.Sprintf("reverse path filter: the way back to %s is not by %s (net.ipv4.conf.%s.rp_filter is %s)", p.Src(), p.In, name, v), nil
		}
	}
	return fmt.Sprintf("the kernel refuses it: a blackhole route takes %s, or its source %s is impossible on %s", p.Dst(), p.Src(), p.In), nil
}

// input passes INPUT and ends at a socket.
func (w *walk) input(b *branch) {
	b.p.Out = ""
	if b.p.Family == skb.IPv4 && b.p.Fragment() {
		// ip_local_deliver. IPv6 puts fragments together behind INPUT.
		w.join(b, "the node takes whole packets: the fragment waits for the others, and this is what becomes of the packet")
	}
	w.pass(b, skb.Input, func(b *branch) { w.ipsec(b, node.IPsecIn, false, w.deliver) })
}

// postrouting passes POSTROUTING, and then the packet is put out.
func (w *walk) postrouting(b *branch) {
	b.p.Out = b.route.Out
	w.pass(b, skb.Postrouting, func(b *branch) {
		if b.p.Local && !b.looped && b.inner == nil {
			w.socketPrograms(b, node.SocketSends, w.output)
			return
		}
		w.output(b)
	})
}

// output is where the packet leaves, or comes back by the loopback interface.
func (w *walk) output(b *branch) {
	p := b.p
	if b.route.Type == node.RouteLocal && !b.looped {
		p.In, p.Out, b.looped = b.route.Out, "", true
		if p.Ct != nil {
			p.Ct.Status |= skb.StatusConfirmed // nf_confirm, the last at POSTROUTING
		}
		p.Refragment()
		// The routing decision travels with the packet: it is not made again.
		w.ingress(b, func(b *branch) { w.pass(b, skb.Prerouting, w.input) })
		return
	}
	bridge, isBridge, err := w.bridgeNamed(p.Out)
	if err != nil {
		w.fail(err)
		return
	}
	leave := func(b *branch) {
		b.p.Refragment()
		w.egress(b, w.leave)
	}
	if isBridge {
		w.leaveByBridge(b, bridge, leave)
		return
	}
	leave(b)
}

// bridgeNamed returns the bridge device with a name.
func (w *walk) bridgeNamed(name string) (bridge node.Link, ok bool, err error) {
	links, err := w.ns.Links(w.ctx)
	if err != nil {
		return node.Link{}, false, err
	}
	for _, l := range links {
		if l.Name == name && l.Kind == "bridge" {
			return l, true, nil
		}
	}
	return node.Link{}, false, nil
}

// deliver ends a packet in the node's own stack.
func (w *walk) deliver(b *branch) {
	p := b.p
	if b.inner != nil {
		w.unwrap(b)
		return
	}
	if w.openHeaders(b) {
		return
	}
	port, known := p.DstPort()
	if w.start.Reply || p.Ct != nil && !p.Ct.New {
		w.socketPrograms(b, node.SocketReceives, func(b *branch) {
			w.hop(b, trace.Hop{Hook: "socket", Action: "for a connected socket", Says: fmt.Sprintf("%s -> %s", p.Source(), p.Destination())})
			w.end(b, end{verdict: trace.Local})
		})
		return
	}
	if !known || p.Proto() != skb.TCP && p.Proto() != skb.UDP {
		w.end(b, end{verdict: trace.Local})
		return
	}
	to := p.Destination()
	if p.TProxy.IsValid() {
		to = p.TProxy // the kernel looks for no other (skb_steal_sock)
	}
	socks, err := w.ns.Listening(w.ctx, p.Proto(), to)
	if err != nil {
		w.fail(err)
		return
	}
	if len(socks) > 0 {
		l, err := w.listener(b, socks)
		if err != nil {
			w.fail(err)
			return
		}
		says := fmt.Sprintf("a socket listens on %s", socks[0].Local)
		if w.start.Follow {
			if by := w.node.Serves(w.id, socks[0].Inode); by != "" {
				says += " (" + by + ")"
			}
		}
		w.socketPrograms(b, node.SocketReceives, func(b *branch) {
			w.hop(b, trace.Hop{Hook: "socket", Action: "delivered", Says: says})
			w.end(b, end{verdict: trace.Delivered, listener: l})
		})
		return
	}
	reason := fmt.Sprintf("no socket listens on %s port %d", skb.ProtoName(p.Proto()), port)
	others, err := w.ns.OnPort(w.ctx, p.Proto(), p.Family, port)
	if err != nil {
		w.fail(err)
		return
	}
	if len(others) > 0 {
		reason = fmt.Sprintf("a socket listens on %s only", others[0].Local)
	}
	w.hop(b, trace.Hop{Hook: "socket", Action: "no listener", Says: reason})
	w.end(b, end{verdict: trace.Local, reason: reason})
}
