package fib

import (
	"net/netip"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// table4 is an IPv4 routing table: the routes of each prefix, in order.
type table4 struct {
	routes map[netip.Prefix][]*Route
	// lengths are the prefix lengths that occur, the longest first.
	lengths []int
}

func newTable4() *table4 { return &table4{routes: map[netip.Prefix][]*Route{}} }

func (t *table4) add(r *Route) {
	p := r.Dst.Masked()
	if _, ok := t.routes[p]; !ok {
		t.lengths = addLength(t.lengths, p.Bits())
	}
	t.routes[p] = append(t.routes[p], r)
}

// addLength adds a prefix length to a list that is sorted with the longest first.
func addLength(lengths []int, n int) []int {
	i, found := slices.BinarySearchFunc(lengths, n, func(have, want int) int { return want - have })
	if found {
		return lengths
	}
	return slices.Insert(lengths, i, n)
}

// found4 is a struct fib_result.
type found4 struct {
	route *Route
	// hop is the index of the first next hop that is usable.
	hop int
	// table is the table that is reported.
	table uint32
}

func (f found4) dev() string { return f.route.Hops[f.hop].Dev }

// lookup is fib_table_lookup of net/ipv4/fib_trie.c: the longest prefix with a usable route wins. A table without one
// gives EAGAIN.
func (t *table4) lookup(s *State, f *flow, ignoreLink bool) (found4, refusal) {
	if t == nil {
		return found4{}, refusal{errno: eAGAIN}
	}
	for _, n := range t.lengths {
		p, err := f.dst.Prefix(n)
		if err != nil {
			continue
		}
		for _, r := range t.routes[p] {
			if r.TOS != 0 && r.TOS != f.tos&legacyTOS || r.Scope < f.scope {
				continue
			}
			if e := typeError(r.Type); e != 0 {
				return found4{}, refusal{e, r.text()}
			}
			for i := range r.Hops {
				if s.usable4(&r.Hops[i], ignoreLink) && (f.out == "" || f.out == r.Hops[i].Dev) {
					return found4{route: r, hop: i, table: r.Table}, refusal{}
				}
			}
		}
	}
	return found4{}, refusal{errno: eAGAIN}
}

// usable4 is fib_lookup_good_nhc without its test of the output interface.
func (s *State) usable4(h *Hop, ignoreLink bool) bool {
	l := s.link(h.Dev)
	ignores := s.All4.IgnoreLinkdown || l != nil && l.IPv4.IgnoreLinkdown
	return usable(h, l, ignores && !ignoreLink)
}

// usable tells whether a next hop is alive, and has a link when that is asked for. A dump shows next hops without a link
// as dead where routes without a link are ignored (fib_nexthop_info), so on an interface that is up the flag means that.
func usable(h *Hop, l *Interface, wantsLink bool) bool {
	down := h.Flags&hopLinkdown != 0
	if h.Flags&hopDead != 0 && !(down && l != nil && l.Up()) {
		return false
	}
	return !down || !wantsLink
}

// lookup4 is fib_lookup of include/net/ip_fib.h.
func (s *State) lookup4(f flow, ignoreLink bool) (found4, refusal) {
	x := s.indexed()
	if !s.CustomRules4 {
		got, no := x.merged.lookup(s, &f, ignoreLink)
		got.table = tableMain
		// Kernels up to 6.18.19 ask the default table after any refusal, if there is one, as of 6.18.44 only when the main
		// table has no route.
		if t := x.tables[tableDefault]; no.errno == eAGAIN && t != nil {
			got, no = t.lookup(s, &f, ignoreLink)
		}
		return got, noRoute(no, f.dst)
	}
	s.enslaved(&f)
	var got found4
	no := refusal{errno: eAGAIN}
	each(s.Rules4, &f, func(r *Rule) bool {
		if no = r.refuses(); no.refused() {
			return false
		}
		id := s.tableOf(r, &f)
		got, no = x.tables[id].lookup(s, &f, ignoreLink)
		if !no.refused() && r.suppresses(got.route.Dst.Bits(), s.link(got.route.Hops[0].Dev)) {
			no = refusal{errno: eAGAIN}
		}
		return no.errno == eAGAIN
	})
	return got, noRoute(no, f.dst)
}

// noRoute turns the end of the rules without a route into the kernel's error.
func noRoute(no refusal, dst netip.Addr) refusal {
	if no.errno != eAGAIN {
		return no
	}
	return refusal{eNETUNREACH, "no table that the policy rules lead to has a route to " + dst.String()}
}

// tableOf is fib_rule_get_table: a rule with l3mdev takes the table of the flow's VRF.
func (s *State) tableOf(r *Rule, f *flow) uint32 {
	if v := s.link(f.vrf); r.L3MDev && v != nil {
		return v.VRFTable
	}
	return r.Table
}

// local4 is a lookup in the local table alone, as of inet_addr_type and ip_dev_find. Until rules were touched that table is
// a part of the main one, and main's longer prefixes hide local addresses.
func (s *State) local4(a netip.Addr) (found4, refusal) {
	x := s.indexed()
	t := x.tables[tableLocal]
	if !s.CustomRules4 {
		t = x.merged
	}
	return t.lookup(s, &flow{dst: a}, false)
}

// hasAddress4 tells whether an interface has the address (inet_lookup_ifaddr_rcu).
func (s *State) hasAddress4(a netip.Addr) bool {
	for i := range s.Interfaces {
		for _, x := range s.Interfaces[i].Addresses {
			if x.Prefix.Addr() == a {
				return true
			}
		}
	}
	return false
}

// ownAddress4 is __ip_dev_find: the address is of an interface, or the local table has it.
func (s *State) ownAddress4(a netip.Addr) bool {
	if s.hasAddress4(a) {
		return true
	}
	got, no := s.local4(a)
	return !no.refused() && got.route.Type == node.RouteLocal
}
