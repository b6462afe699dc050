package fib

import (
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// needStrict is rt6_need_strict: addresses that mean something on one link only.
func needStrict(a netip.Addr) bool {
	return a.IsMulticast() || a.IsLinkLocalUnicast() || a.IsLoopback()
}

// lookup6 is fib6_rule_lookup of net/ipv6/fib6_rules.c: find looks one table up.
func (s *State) lookup6(f flow, find func(*table6, *flow) (entry6, bool)) (entry6, refusal) {
	s.enslaved(&f)
	var got entry6
	no := refusal{errno: eAGAIN}
	each(s.Rules6, &f, func(r *Rule) bool {
		if no = r.refuses(); no.refused() {
			return false
		}
		no = refusal{errno: eAGAIN}
		t := s.indexed().tables6[s.tableOf(r, &f)]
		if t == nil {
			return true
		}
		e, ok := find(t, &f)
		if !ok || !s.sourceOf(r, &f, e) {
			return true
		}
		if n := typeError(e.route.Type); n != 0 {
			if n == eAGAIN {
				return true
			}
			no = refusal{n, e.route.text()}
			return false
		}
		if r.suppresses(e.route.Dst.Bits(), s.link(e.at().Dev)) {
			return true
		}
		no, got = refusal{}, e
		return false
	})
	return got, noRoute(no, f.dst)
}

// sourceOf is fib6_rule_saddr: a rule with FIB_RULE_FIND_SADDR looks at the source that the route would give.
func (s *State) sourceOf(r *Rule, f *flow, e entry6) bool {
	if !r.FindSrc || !r.From.IsValid() || r.From.Bits() == 0 || f.hasSrc {
		return true
	}
	a := s.selectAddr6(e.at().Dev, f.dst)
	if !a.IsValid() || !r.From.Contains(a) {
		return false
	}
	f.src = a
	return true
}

// strictness is what ip6_pol_route asks of a route.
func (s *State) strictness(f *flow) flags6 {
	return flags6{iface: needStrict(f.dst), reachable: !s.All6.Forwarding}
}

// output6 is ip6_route_output_flags, and the source that RTM_GETROUTE reports with it.
func (s *State) output6(q node.RouteQuery) (node.Route, refusal) {
	f := s.flowOf(q, loopbackName)
	f.out = q.Out
	if f.out != "" && s.link(f.out) == nil {
		return node.Route{}, refusal{eNODEV, "there is no interface " + f.out}
	}
	strict := s.strictness(&f)
	strict.iface = strict.iface || f.out != "" && !f.hasSrc
	e, no := s.lookup6(f, func(t *table6, f *flow) (entry6, bool) { return t.lookup(s, f, f.out, strict) })
	if no.refused() {
		return node.Route{}, no
	}
	return s.answer6(e, f.dst, f.out, strict, true), refusal{}
}

// input6 is ip6_route_input: the same tables, with the input interface where output has the output interface, so that of
// equal routes those by the interface that the packet came from win. Sources are not checked.
func (s *State) input6(q node.RouteQuery) (node.Route, refusal) {
	if s.link(q.In) == nil {
		return node.Route{}, refusal{eNODEV, "there is no interface " + q.In}
	}
	f := s.flowOf(q, q.In)
	strict := s.strictness(&f)
	e, no := s.lookup6(f, func(t *table6, f *flow) (entry6, bool) { return t.lookup(s, f, f.in, strict) })
	if no.refused() {
		return node.Route{}, no
	}
	return s.answer6(e, f.dst, f.in, strict, false), refusal{}
}

func (s *State) answer6(e entry6, dst netip.Addr, dev string, strict flags6, output bool) node.Route {
	out := node.Route{Type: e.route.Type, Table: e.route.Table, MTU: e.route.MTU, Hops: allHops(e.route)}
	var ways []node.NextHop
	for _, c := range s.choices6(e, dev, strict) {
		h := c.at()
		w := node.NextHop{Out: h.Dev, Gateway: h.Gateway, Weight: max(h.Weight, 1), PrefSrc: e.route.PrefSrc}
		if output && !w.PrefSrc.IsValid() {
			w.PrefSrc = s.selectAddr6(h.Dev, dst)
		}
		if e.route.own() {
			w.Out = s.localDev6(h.Dev, e.route.Dst.Addr())
		}
		ways = append(ways, w)
	}
	choose(&out, ways, false)
	return out
}

// localDev6 is ip6_rt_get_dev_rcu for local routes.
func (s *State) localDev6(dev string, dst netip.Addr) string {
	l := s.link(dev)
	switch {
	case l == nil:
	case l.VRFTable != 0:
		return dev
	case l.Master != "" && !needStrict(dst):
		return l.Master
	}
	return loopbackName
}

// ForwardsIPv6 tells whether IPv6 packets that arrive on an interface are forwarded (ip6_forward of
// net/ipv6/ip6_output.c), and names the sysctl that decides when not.
func (s *State) ForwardsIPv6(in string) (forwards bool, reason string) {
	l := s.link(in)
	switch {
	case l != nil && l.IPv6.Disabled:
		return false, fmt.Sprintf("net.ipv6.conf.%s.disable_ipv6 is 1", in)
	case s.All6.Forwarding, l != nil && l.IPv6.ForceForwarding:
		return true, ""
	}
	return false, "net.ipv6.conf.all.forwarding is 0"
}
