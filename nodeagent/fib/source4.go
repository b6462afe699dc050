package fib

import (
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// selectAddr4 is inet_select_addr of net/ipv4/devinet.c: the interface's first primary address of the scope that shares
// the subnet of to, else its first one, else one of another interface. It is invalid when there is none.
func (s *State) selectAddr4(dev string, to netip.Addr, scope uint8) netip.Addr {
	var addr netip.Addr
	l := s.link(dev)
	if l != nil {
		limit := uint8(scopeHost)
		if s.All4.RouteLocalnet || l.IPv4.RouteLocalnet {
			limit = scopeLink
		}
		for _, a := range l.Addresses {
			if !a.Prefix.Addr().Is4() || a.Flags&flagSecondary != 0 || min(a.Scope, limit) > scope {
				continue
			}
			if !to.IsValid() || a.subnet().Contains(to) {
				return a.Prefix.Addr()
			}
			if !addr.IsValid() {
				addr = a.Prefix.Addr()
			}
		}
		if addr.IsValid() {
			return addr
		}
	}
	master := ""
	if l != nil {
		master = l.Master
	}
	if m := s.link(master); m != nil {
		if a := firstAddr4(m, scope); a.IsValid() {
			return a
		}
	}
	for i := range s.Interfaces {
		if s.Interfaces[i].Master != master {
			continue
		}
		if a := firstAddr4(&s.Interfaces[i], scope); a.IsValid() {
			return a
		}
	}
	return netip.Addr{}
}

// firstAddr4 is in_dev_select_addr.
func firstAddr4(l *Interface, scope uint8) netip.Addr {
	for _, a := range l.Addresses {
		if a.Prefix.Addr().Is4() && a.Flags&flagSecondary == 0 && a.Scope != scopeLink && a.Scope <= scope {
			return a.Prefix.Addr()
		}
	}
	return netip.Addr{}
}

// hopSource4 is the source address that goes with a next hop (fib_info_update_nhc_saddr).
func (s *State) hopSource4(r *Route, h *Hop) netip.Addr {
	var to netip.Addr
	switch {
	case h.Gateway.Is4():
		to = h.Gateway
	case h.Gateway.Is6():
		// The kernel reads the first four bytes of an IPv6 gateway here (a union in struct fib_nh_common).
		b := h.Gateway.As16()
		to = netip.AddrFrom4([4]byte(b[:4]))
	}
	return s.selectAddr4(h.Dev, to, r.Scope)
}

// gateway4 is the gateway that a next hop leads to: none when the one that was configured is an address of this host, so
// that it is not on the link (fib_check_nh_v4_gw, rt_set_nexthop). The kernel decided when the route was added; here it is
// decided by the tables as they are.
func (s *State) gateway4(r *Route, h *Hop) netip.Addr {
	if !h.Gateway.Is4() || h.Flags&hopOnlink != 0 {
		return h.Gateway
	}
	f := flow{dst: h.Gateway, in: loopbackName, out: h.Dev, scope: scopeLink}
	got, no := found4{}, refusal{errno: eAGAIN}
	if r.Table != tableMain && (s.CustomRules4 || r.Table != tableLocal) {
		got, no = s.indexed().tables[r.Table].lookup(s, &f, true)
	}
	if no.refused() {
		got, no = s.lookup4(f, true)
	}
	if !no.refused() && got.route.Scope != scopeLink {
		return netip.Addr{}
	}
	return h.Gateway
}

// prefSrc4 is fib_result_prefsrc.
func (s *State) prefSrc4(r *Route, h *Hop) netip.Addr {
	if r.PrefSrc.IsValid() {
		return r.PrefSrc
	}
	return s.hopSource4(r, h)
}

// choices4 are the next hops that fib_select_multipath can choose: those whose own source address is the flow's, if there
// are any, else all that are usable.
func (s *State) choices4(got found4, src netip.Addr) []int {
	if len(got.route.Hops) < 2 {
		return []int{got.hop}
	}
	var all, matching []int
	for i := range got.route.Hops {
		h := &got.route.Hops[i]
		if !s.usable4(h, false) {
			continue
		}
		all = append(all, i)
		if src.IsValid() && !src.IsUnspecified() && s.hopSource4(got.route, h) == src {
			matching = append(matching, i)
		}
	}
	if len(matching) > 0 {
		return matching
	}
	if len(all) == 0 {
		return []int{got.hop}
	}
	return all
}

// validate4 is fib_validate_source of net/ipv4/fib_frontend.c: may a packet from src arrive on in? out is the interface
// that a forwarded packet leaves by, "" for others; dst is unspecified for broadcasts and multicasts.
func (s *State) validate4(in *Interface, src, dst netip.Addr, q node.RouteQuery, out string) refusal {
	x := s.indexed()
	rp, name := in.IPv4.RPFilter, in.Name
	if s.All4.RPFilter > rp {
		rp, name = s.All4.RPFilter, "all"
	}
	acceptLocal := s.All4.AcceptLocal || in.IPv4.AcceptLocal
	ownSource := refusal{eINVAL, fmt.Sprintf("the source %s is an address of this host, and net.ipv4.conf.%s.accept_local is 0", src, in.Name)}
	redirects := out == in.Name && (s.All4.SendRedirects || in.IPv4.SendRedirects)
	if rp == 0 && !x.realms && !redirects {
		if acceptLocal {
			return refusal{}
		}
		if !x.localRoutes && !s.CustomRules4 {
			if s.hasAddress4(src) {
				return ownSource
			}
			return refusal{}
		}
	}
	filtered := func(why string) refusal {
		return refusal{eINVAL, fmt.Sprintf("net.ipv4.conf.%s.rp_filter is %d: %s", name, rp, why)}
	}
	q.Dst, q.Src, q.UID = src, dst, nil
	q.SrcPort, q.DstPort = q.DstPort, q.SrcPort
	if !s.All4.SrcValidMark && !in.IPv4.SrcValidMark {
		q.Mark = 0
	}
	if out == "" {
		out = loopbackName
	}
	f := s.flowOf(q, out)
	s.undissected(&f)
	f.vrf = in.Master
	got, no := s.lookup4(f, false)
	if no.refused() {
		if rp != 0 {
			return filtered(fmt.Sprintf("there is no way back to %s", src))
		}
		return refusal{}
	}
	if t := got.route.Type; t != node.RouteUnicast {
		if t != node.RouteLocal {
			return refusal{eINVAL, fmt.Sprintf("%s cannot be a source: %s takes it", src, got.route.text())}
		}
		if !acceptLocal {
			return ownSource
		}
	}
	for _, h := range got.route.Hops {
		if l := s.link(h.Dev); h.Dev == in.Name || l != nil && l.Master == in.Name {
			return refusal{}
		}
	}
	if got.route.Type == node.RouteLocal && in.Name == loopbackName {
		return refusal{}
	}
	hasAddress := false
	for _, a := range in.Addresses {
		hasAddress = hasAddress || a.Prefix.Addr().Is4()
	}
	switch {
	case !hasAddress && rp != 0:
		return filtered(fmt.Sprintf("%s has no IPv4 address, and the way back to %s is by %s", in.Name, src, got.dev()))
	case rp == 1 && hasAddress:
		return filtered(fmt.Sprintf("the way back to %s is by %s, not by %s", src, got.dev(), in.Name))
	}
	return refusal{}
}
