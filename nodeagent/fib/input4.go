package fib

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// input4 is ip_route_input_rcu of net/ipv4/route.c. Since Linux 6.12 every refusal of a source or a destination is EINVAL
// here; before, the reverse path filter's was EXDEV.
func (s *State) input4(q node.RouteQuery) (node.Route, refusal) {
	in := s.link(q.In)
	if in == nil {
		return node.Route{}, refusal{eNODEV, "there is no interface " + q.In}
	}
	f := s.flowOf(q, q.In)
	f.uid = 0
	proto := f.proto
	s.undissected(&f)
	if f.dst.IsMulticast() {
		return s.inputGroup4(in, f, q, proto)
	}
	localnet := s.All4.RouteLocalnet || in.IPv4.RouteLocalnet
	martian := func(a netip.Addr, what string) (node.Route, refusal) {
		return node.Route{}, refusal{eINVAL, fmt.Sprintf("%s cannot be a %s on %s", a, what, in.Name)}
	}
	onLoopback := func(a netip.Addr) (node.Route, refusal) {
		return node.Route{}, refusal{eINVAL, fmt.Sprintf("net.ipv4.conf.%s.route_localnet is 0: the loopback address %s may not arrive on %s", in.Name, a, in.Name)}
	}
	switch {
	case f.src.IsMulticast(), f.src == broadcast4:
		return martian(f.src, "source")
	case f.dst == broadcast4, f.src.IsUnspecified() && f.dst.IsUnspecified():
		return s.inputBroadcast4(in, f, q, 0)
	case f.src.IsUnspecified():
		return martian(f.src, "source")
	case f.dst.IsUnspecified():
		return martian(f.dst, "destination")
	case f.dst.IsLoopback() && !localnet:
		return onLoopback(f.dst)
	case f.src.IsLoopback() && !f.dst.IsLoopback() && !localnet:
		return onLoopback(f.src)
	}
	notForwarded := refusal{eHOSTUNREACH, fmt.Sprintf("net.ipv4.conf.%s.forwarding is 0, and %s is not an address of this host", in.Name, f.dst)}
	got, no := s.lookup4(f, false)
	switch {
	case no.refused() && !in.IPv4.Forwarding:
		return node.Route{}, notForwarded
	case no.refused():
		return node.Route{}, no
	}
	switch got.route.Type {
	case node.RouteBroadcast:
		if s.All4.BCForwarding && in.IPv4.BCForwarding {
			return s.forward4(in, f, q, got)
		}
		return s.inputBroadcast4(in, f, q, got.table)
	case node.RouteLocal:
		if no := s.validate4(in, f.src, f.dst, q, ""); no.refused() {
			return node.Route{}, no
		}
		dev := loopbackName
		if l := s.link(got.dev()); l != nil && l.Master != "" {
			dev = l.Master
		}
		return node.Route{Type: node.RouteLocal, Out: dev, Table: got.table}, refusal{}
	}
	if !in.IPv4.Forwarding {
		return node.Route{}, notForwarded
	}
	if got.route.Type != node.RouteUnicast {
		return node.Route{}, refusal{eINVAL, got.route.text() + " is not for packets of others"}
	}
	return s.forward4(in, f, q, got)
}

// forward4 is ip_mkroute_input, for each next hop that the kernel can choose.
func (s *State) forward4(in *Interface, f flow, q node.RouteQuery, got found4) (node.Route, refusal) {
	out := node.Route{Type: got.route.Type, Table: got.table, MTU: got.route.MTU, Hops: allHops(got.route)}
	var ways []node.NextHop
	var no refusal
	for _, i := range s.choices4(got, netip.Addr{}) {
		h := &got.route.Hops[i]
		if r := s.validate4(in, f.src, f.dst, q, h.Dev); r.refused() {
			no = r
			continue
		}
		ways = append(ways, node.NextHop{Out: h.Dev, Gateway: s.gateway4(got.route, h), Weight: max(h.Weight, 1)})
	}
	if len(ways) == 0 {
		return node.Route{}, no
	}
	choose(&out, ways, no.refused())
	return out, refusal{}
}

// inputBroadcast4 takes a broadcast for this host.
func (s *State) inputBroadcast4(in *Interface, f flow, q node.RouteQuery, table uint32) (node.Route, refusal) {
	if !f.src.IsUnspecified() {
		if no := s.validate4(in, f.src, netip.IPv4Unspecified(), q, ""); no.refused() {
			return node.Route{}, no
		}
	}
	return node.Route{Type: node.RouteBroadcast, Out: loopbackName, Table: table}, refusal{}
}

// inputGroup4 takes a multicast for this host when it has joined the group (ip_route_input_mc), without regard for source
// filters of sockets. Multicast routing is not modelled.
func (s *State) inputGroup4(in *Interface, f flow, q node.RouteQuery, proto uint8) (node.Route, refusal) {
	switch {
	case !slices.Contains(in.Groups, f.dst) && !(s.All4.MulticastForward && in.IPv4.MulticastForward && !localGroup(f.dst)):
		return node.Route{}, refusal{eINVAL, fmt.Sprintf("%s has not joined the group %s", in.Name, f.dst)}
	case f.src.IsMulticast(), f.src == broadcast4,
		f.src.IsLoopback() && !s.All4.RouteLocalnet && !in.IPv4.RouteLocalnet,
		f.src.IsUnspecified() && !localGroup(f.dst) && proto != protoIGMP:
		return node.Route{}, refusal{eINVAL, fmt.Sprintf("%s cannot be a source on %s", f.src, in.Name)}
	}
	if !f.src.IsUnspecified() {
		if no := s.validate4(in, f.src, netip.IPv4Unspecified(), q, ""); no.refused() {
			return node.Route{}, no
		}
	}
	return node.Route{Type: node.RouteMulticast, Out: loopbackName}, refusal{}
}
