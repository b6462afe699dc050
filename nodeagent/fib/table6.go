package fib

import (
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// table6 is an IPv6 routing table.
type table6 struct {
	nodes   map[netip.Prefix]*node6
	lengths []int
}

// node6 is a struct fib6_node: the routes of one destination prefix, by metric, and under them those that are for some
// sources only.
type node6 struct {
	routes  []entry6
	sources map[netip.Prefix][]entry6
	lengths []int
}

// entry6 is a struct fib6_info: one next hop of a route.
type entry6 struct {
	route *Route
	hop   int
}

func (e entry6) at() *Hop { return &e.route.Hops[e.hop] }

func newTable6() *table6 { return &table6{nodes: map[netip.Prefix]*node6{}} }

func (t *table6) add(r *Route) {
	p := r.Dst.Masked()
	n := t.nodes[p]
	if n == nil {
		n = &node6{}
		t.nodes[p] = n
		t.lengths = addLength(t.lengths, p.Bits())
	}
	var list []entry6
	for i := range r.Hops {
		list = append(list, entry6{r, i})
	}
	if !r.Src.IsValid() || r.Src.Bits() == 0 {
		n.routes = append(n.routes, list...)
		return
	}
	if n.sources == nil {
		n.sources = map[netip.Prefix][]entry6{}
	}
	src := r.Src.Masked()
	if _, ok := n.sources[src]; !ok {
		n.lengths = addLength(n.lengths, src.Bits())
	}
	n.sources[src] = append(n.sources[src], list...)
}

// walk lists the nodes of a table that a lookup visits, in order: fib6_node_lookup, then fib6_backtrack of
// net/ipv6/route.c. A node that has routes for some sources, none of them this one, is passed over by the first, together
// with its routes for all sources, unless it is the table's root.
func (t *table6) walk(dst, src netip.Addr) [][]entry6 {
	var out [][]entry6
	for _, bits := range t.lengths {
		p, err := dst.Prefix(bits)
		if err != nil {
			continue
		}
		n := t.nodes[p]
		if n == nil {
			continue
		}
		first := len(out) == 0
		for _, sb := range n.lengths {
			if sp, err := src.Prefix(sb); err == nil && len(n.sources[sp]) > 0 {
				out = append(out, n.sources[sp])
			}
		}
		if len(n.routes) > 0 && (len(n.sources) == 0 || len(out) > 0 || !first || bits == 0) {
			out = append(out, n.routes)
		}
	}
	return out
}

// Flags of IPv6 lookups (RT6_LOOKUP_F_ of include/net/ip6_route.h).
type flags6 struct {
	// iface restricts routes to the interface, reachable prefers routers that answer.
	iface, reachable bool
}

// lookup is fib6_table_lookup: the best route of the longest prefix that has a usable one.
func (t *table6) lookup(s *State, f *flow, dev string, strict flags6) (entry6, bool) {
	if t == nil {
		return entry6{}, false
	}
	nodes := t.walk(f.dst, f.src)
	for {
		for _, list := range nodes {
			if e, ok := s.best6(list, dev, strict); ok {
				return e, true
			}
		}
		if !strict.reachable {
			return entry6{}, false
		}
		strict.reachable = false
	}
}

// best6 is rt6_select and find_rr_leaf: the best of the lowest metric's routes; when it has no usable one, the best of all
// the others, whatever their metrics.
func (s *State) best6(list []entry6, dev string, strict flags6) (entry6, bool) {
	best, at, first := -1, -1, 0
	for i, e := range list {
		if e.route.Metric != list[0].route.Metric && first == 0 {
			if at >= 0 {
				break
			}
			first = i
		}
		if !s.usable6(e.at()) {
			continue
		}
		if m := s.score6(e, dev, strict); m > best {
			best, at = m, i
		}
	}
	if at < 0 {
		return entry6{}, false
	}
	return list[at], true
}

// usable6 is the first part of find_match: the hop is alive.
func (s *State) usable6(h *Hop) bool {
	l := s.link(h.Dev)
	return usable(h, l, l == nil || l.IPv6.IgnoreLinkdown)
}

// score6 is rt6_score_route with CONFIG_IPV6_ROUTER_PREF; a negative score is no match.
func (s *State) score6(e entry6, dev string, strict flags6) int {
	h := e.at()
	m := 0
	if dev == "" || h.Dev == dev {
		m = 2
	}
	if m == 0 && strict.iface {
		return -3
	}
	m |= int(e.route.Pref^2) << 2
	if strict.reachable && h.Gateway.IsValid() && s.indexed().failed[Neighbour{h.Dev, h.Gateway}] {
		return -2
	}
	return m
}

// choices6 are the next hops that fib6_select_path can choose for a route that was found.
func (s *State) choices6(e entry6, dev string, strict flags6) []entry6 {
	if len(e.route.Hops) < 2 {
		return []entry6{e}
	}
	var out []entry6
	seen := false
	for i := range e.route.Hops {
		c := entry6{e.route, i}
		if !s.usable6(c.at()) {
			continue
		}
		if s.score6(c, dev, strict) < 0 {
			c = e
		}
		if c == e {
			if seen {
				continue
			}
			seen = true
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return []entry6{e}
	}
	return out
}

// match6 is rt6_device_match of net/ipv6/route.c, for lookups of packet filters.
func (s *State) match6(list []entry6, f *flow, strict bool) (entry6, bool) {
	dead := func(e entry6) bool { return !usable(e.at(), s.link(e.at().Dev), false) }
	anySource := f.src.IsUnspecified()
	if f.out == "" && anySource && !dead(list[0]) {
		return list[0], true
	}
	for _, e := range list {
		if dead(e) {
			continue
		}
		if f.out != "" && e.at().Dev == f.out || f.out == "" && s.hasAddress6(f.src, e.at().Dev, strict) {
			return e, true
		}
	}
	if f.out != "" && strict || dead(list[0]) {
		return entry6{}, false
	}
	return list[0], true
}

// hasAddress6 is ipv6_chk_addr of net/ipv6/addrconf.c: an address of wider than link scope counts on every interface,
// unless strict is set.
func (s *State) hasAddress6(a netip.Addr, dev string, strict bool) bool {
	for i := range s.Interfaces {
		l := &s.Interfaces[i]
		for _, x := range l.Addresses {
			if x.Prefix.Addr() != a || x.Flags&flagTentative != 0 && x.Flags&flagOptimistic == 0 {
				continue
			}
			if l.Name == dev || !strict && !a.IsLinkLocalUnicast() && !a.IsLoopback() {
				return true
			}
		}
	}
	return false
}

// own is RTF_LOCAL or RTF_ANYCAST: the route is for this host, by its loopback device. An anycast route that a user made
// has no such flag (rtm_to_fib6_config sets it for local routes only).
func (r *Route) own() bool {
	return r.Type == node.RouteLocal || r.Type == node.RouteAnycast && r.Protocol == protocolKernel
}

// rejects is RTF_REJECT: the route's type refuses, or it leads to the loopback device (fib6_is_reject).
func (s *State) rejects(e entry6) bool {
	if typeError(e.route.Type) != 0 {
		return true
	}
	l := s.link(e.at().Dev)
	return l != nil && l.Loopback() && !e.route.own() && !e.route.Dst.Addr().IsLoopback()
}
