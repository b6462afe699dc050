package fib

import (
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// protoIGMP's packets go out by the interface that was asked for, whatever the tables say.
const protoIGMP = 2

// output4 is ip_route_output_key_hash_rcu of net/ipv4/route.c.
func (s *State) output4(q node.RouteQuery) (node.Route, refusal) {
	f := s.flowOf(q, loopbackName)
	f.out = q.Out
	toGroup := f.dst.IsMulticast() || f.dst == broadcast4
	if f.hasSrc {
		switch {
		case f.src.IsMulticast(), f.src == broadcast4:
			return node.Route{}, refusal{eINVAL, fmt.Sprintf("%s cannot be a source", f.src)}
		case !s.ownAddress4(f.src):
			return node.Route{}, refusal{eNETUNREACH, fmt.Sprintf("the source %s is not an address of this host", f.src)}
		case f.out == "" && toGroup:
			return s.made4(f, made4{dev: s.sourceDev4(f.src)})
		}
	}
	if f.out != "" {
		l := s.link(f.out)
		if l == nil {
			return node.Route{}, refusal{eNODEV, "there is no interface " + f.out}
		}
		if !l.Up() {
			return node.Route{}, refusal{eNETUNREACH, "the interface " + f.out + " is down"}
		}
		switch {
		case f.dst.IsMulticast() && localGroup(f.dst), f.dst == broadcast4, f.proto == protoIGMP:
			s.chooseSource4(&f, scopeLink)
			return s.made4(f, made4{dev: f.out})
		case f.dst.IsMulticast():
			s.chooseSource4(&f, scopeUniverse)
		case f.dst.IsUnspecified():
			s.chooseSource4(&f, scopeHost)
		}
	}
	if f.dst.IsUnspecified() {
		f.dst = f.src
		if f.dst.IsUnspecified() {
			f.dst = netip.AddrFrom4([4]byte{127, 0, 0, 1})
			f.src = f.dst
		}
		return s.made4(f, made4{dev: loopbackName, typ: node.RouteLocal})
	}
	got, no := s.lookup4(f, false)
	if no.refused() {
		if f.out != "" && (f.dst.IsMulticast() || s.link(f.out).Master == "") {
			// With an output interface every destination is taken to be on its link.
			s.chooseSource4(&f, scopeLink)
			return s.made4(f, made4{dev: f.out, typ: node.RouteUnicast})
		}
		return node.Route{}, no
	}
	if got.route.Type == node.RouteLocal {
		if f.src.IsUnspecified() {
			f.src = f.dst
			if got.route.PrefSrc.IsValid() {
				f.src = got.route.PrefSrc
			}
		}
		dev := loopbackName
		if l := s.link(got.dev()); l != nil && l.Master != "" {
			dev = l.Master
		}
		return s.made4(f, made4{dev: dev, typ: node.RouteLocal, route: got.route, hops: []int{got.hop}, table: got.table})
	}
	hops := []int{got.hop}
	if f.out == "" {
		hops = s.choices4(got, f.src)
	}
	return s.made4(f, made4{typ: got.route.Type, route: got.route, hops: hops, table: got.table})
}

func (s *State) chooseSource4(f *flow, scope uint8) {
	if f.src.IsUnspecified() {
		if a := s.selectAddr4(f.out, netip.Addr{}, scope); a.IsValid() {
			f.src = a
		}
	}
}

// sourceDev4 is the interface that __ip_dev_find gives for a source. Of several that have it, the kernel takes the one
// that was given it last, which is not known here: the last one is assumed.
func (s *State) sourceDev4(src netip.Addr) string {
	for i := len(s.Interfaces) - 1; i >= 0; i-- {
		for _, a := range s.Interfaces[i].Addresses {
			if a.Prefix.Addr() == src {
				return s.Interfaces[i].Name
			}
		}
	}
	if got, no := s.local4(src); !no.refused() {
		return got.dev()
	}
	return ""
}

// made4 is what __mkroute_output is given: an interface, or a route with the next hops that it can leave by.
type made4 struct {
	dev   string
	typ   node.RouteType
	route *Route
	hops  []int
	table uint32
}

// made4 is __mkroute_output of net/ipv4/route.c, for each next hop that the kernel can choose.
func (s *State) made4(f flow, m made4) (node.Route, refusal) {
	out := node.Route{Type: m.typ, Table: m.table}
	gateways := m.route != nil
	switch {
	case f.dst == broadcast4:
		out.Type, gateways = node.RouteBroadcast, false
	case f.dst.IsMulticast():
		out.Type = node.RouteMulticast
		gateways = gateways && m.route.Dst.Bits() >= 4
	case f.dst.IsUnspecified():
		return node.Route{}, refusal{eINVAL, fmt.Sprintf("%s cannot be a destination", f.dst)}
	}
	var ways []node.NextHop
	var no refusal
	for _, i := range append([]int(nil), m.hops...) {
		h := &m.route.Hops[i]
		w := node.NextHop{Out: h.Dev, Weight: max(h.Weight, 1)}
		if m.dev != "" {
			w.Out = m.dev
		}
		if gateways && m.typ != node.RouteLocal {
			w.Gateway = s.gateway4(m.route, h)
		}
		if f.src.IsUnspecified() {
			w.PrefSrc = s.prefSrc4(m.route, h)
		} else if !f.hasSrc {
			w.PrefSrc = f.src
		}
		ways = append(ways, w)
	}
	if m.route == nil {
		w := node.NextHop{Out: m.dev}
		if !f.hasSrc && !f.src.IsUnspecified() {
			w.PrefSrc = f.src
		}
		ways = append(ways, w)
	}
	kept := ways[:0]
	for _, w := range ways {
		src := f.src
		if src.IsUnspecified() && w.PrefSrc.IsValid() {
			src = w.PrefSrc
		}
		if l := s.link(w.Out); src.IsLoopback() && l != nil && !l.Loopback() && l.VRFTable == 0 &&
			!s.All4.RouteLocalnet && !l.IPv4.RouteLocalnet {
			no = refusal{eINVAL, fmt.Sprintf("the loopback address %s may not leave by %s: net.ipv4.conf.%s.route_localnet is 0", src, w.Out, w.Out)}
			continue
		}
		kept = append(kept, w)
	}
	if len(kept) == 0 {
		return node.Route{}, no
	}
	if gateways {
		out.MTU = m.route.MTU
	}
	if m.route != nil {
		out.Hops = allHops(m.route)
	}
	choose(&out, kept, no.refused())
	return out, refusal{}
}

// choose writes the next hop into a route when it is known, else all that it can be; refused tells that the kernel can also
// choose a next hop that it then refuses.
func choose(r *node.Route, ways []node.NextHop, refused bool) {
	w := ways[0]
	r.PrefSrc = w.PrefSrc
	for _, o := range ways[1:] {
		if o.PrefSrc != w.PrefSrc {
			r.PrefSrc = netip.Addr{}
		}
	}
	if len(ways) > 1 || refused {
		r.OneOf = ways
		return
	}
	r.Out, r.Gateway = w.Out, w.Gateway
}
