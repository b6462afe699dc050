package fib

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// Route answers as the kernel answers RTM_GETROUTE: the input routing decision when q.In is set, else the output one. A
// refusal is a *node.RouteError that says what decided.
func (s *State) Route(_ context.Context, q node.RouteQuery) (node.Route, error) {
	if !q.Dst.IsValid() || q.Src.IsValid() && q.Src.Is4() != q.Dst.Is4() {
		return node.Route{}, fmt.Errorf("a route query from %s to %s", q.Src, q.Dst)
	}
	var r node.Route
	var no refusal
	switch {
	case q.Dst.Is4() && q.In != "":
		r, no = s.input4(q)
	case q.Dst.Is4():
		r, no = s.output4(q)
	case q.In != "":
		r, no = s.input6(q)
	default:
		r, no = s.output6(q)
	}
	if no.refused() {
		return node.Route{}, no.err()
	}
	if !q.All {
		r.Hops = nil
	}
	return r, nil
}

// allHops lists the next hops of a multipath route.
func allHops(r *Route) []node.NextHop {
	if len(r.Hops) < 2 {
		return nil
	}
	var out []node.NextHop
	for _, h := range r.Hops {
		out = append(out, node.NextHop{Out: h.Dev, Gateway: h.Gateway, Weight: max(h.Weight, 1)})
	}
	return out
}

// FIBLookup is fib_lookup of IPv4, without regard for the link's state, and ip6_route_lookup of IPv6, as the nft
// expression fib and the rpfilter match of iptables make them.
func (s *State) FIBLookup(_ context.Context, q node.FIBQuery) (node.Route, error) {
	if !q.Dst.IsValid() || q.Src.IsValid() && q.Src.Is4() != q.Dst.Is4() {
		return node.Route{}, fmt.Errorf("a lookup from %s to %s", q.Src, q.Dst)
	}
	in := q.In
	if in == "" {
		in = loopbackName
	}
	f := s.flowOf(node.RouteQuery{Dst: q.Dst, Src: q.Src, Mark: q.Mark, SrcPort: q.SrcPort, DstPort: q.DstPort, TOS: q.TOS, Proto: q.Proto}, in)
	f.out, f.proto = q.Out, q.Proto
	if q.Dst.Is4() {
		got, no := s.lookup4(f, true)
		if no.refused() {
			return node.Route{}, no.err()
		}
		h := &got.route.Hops[got.hop]
		return node.Route{Type: got.route.Type, Out: h.Dev, Gateway: h.Gateway, Table: got.table, MTU: got.route.MTU, Hops: allHops(got.route)}, nil
	}
	e, no := s.lookup6(f, func(t *table6, f *flow) (entry6, bool) {
		for _, list := range t.walk(f.dst, f.src) {
			if e, ok := s.match6(list, f, q.Strict); ok {
				return e, true
			}
		}
		return entry6{}, false
	})
	if no.refused() {
		return node.Route{}, no.err()
	}
	if s.rejects(e) {
		return node.Route{}, refusal{eINVAL, e.route.text() + " leads to the loopback device"}.err()
	}
	out := node.Route{Type: e.route.Type, Table: e.route.Table, MTU: e.route.MTU, Hops: allHops(e.route)}
	if out.Type == node.RouteAnycast && !e.route.own() {
		out.Type = node.RouteUnicast // packet filters look at the flag that it lacks
	}
	ways := []node.NextHop{{Out: e.at().Dev, Gateway: e.at().Gateway, Weight: max(e.at().Weight, 1)}}
	if f.out == "" {
		ways = nil
		for _, c := range s.choices6(e, "", flags6{iface: q.Strict}) {
			ways = append(ways, node.NextHop{Out: c.at().Dev, Gateway: c.at().Gateway, Weight: max(c.at().Weight, 1)})
		}
	}
	choose(&out, ways, false)
	return out, nil
}

// SourceRules tells whether a policy rule of the family looks at a packet's source or input interface.
func (s *State) SourceRules(_ context.Context, ipv6 bool) (bool, error) {
	rules := s.Rules4
	if ipv6 {
		rules = s.Rules6
	}
	for i := range rules {
		if rules[i].looksAtSource() {
			return true, nil
		}
	}
	return false, nil
}

// AddrType tells what kind of address a is: for IPv4 inet_addr_type and inet_dev_addr_type of net/ipv4/fib_frontend.c, for
// IPv6 what the fib expression and the addrtype match derive from addresses and routes
// (net/ipv6/netfilter/nft_fib_ipv6.c).
func (s *State) AddrType(ctx context.Context, a netip.Addr, dev string) (node.RouteType, error) {
	if !a.IsValid() {
		return 0, errors.New("the type of no address")
	}
	if a.Is4() {
		return s.addrType4(a, dev), nil
	}
	if a.IsMulticast() {
		return node.RouteMulticast, nil
	}
	if l := s.link(dev); l != nil {
		for _, x := range l.Addresses {
			if x.Prefix.Addr() == a {
				return node.RouteLocal, nil
			}
		}
	}
	r, no := s.output6(node.RouteQuery{Dst: a})
	switch {
	case no.errno == eACCES:
		return node.RouteProhibit, nil
	case no.refused():
		return node.RouteUnreachable, nil
	case r.Type == node.RouteLocal && dev != "":
		return node.RouteUnicast, nil
	case r.Type == node.RouteLocal, r.Type == node.RouteAnycast:
		return r.Type, nil
	}
	return node.RouteUnicast, nil
}

func (s *State) addrType4(a netip.Addr, dev string) node.RouteType {
	switch {
	case a.IsUnspecified(), a == broadcast4:
		return node.RouteBroadcast
	case a.IsMulticast():
		return node.RouteMulticast
	}
	got, no := s.local4(a)
	if no.refused() || dev != "" && got.route.Hops[0].Dev != dev {
		return node.RouteUnicast
	}
	return got.route.Type
}
