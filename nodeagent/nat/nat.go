// Package nat is the kernel's translation of a new connection (net/netfilter/nf_nat_core.c): how the new tuple is chosen
// from the range that a rule gives, and how the packet is rewritten. xtables and nftables rules both end here.
package nat

import (
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Apply gives the packet's connection the translation r, as nf_nat_setup_info and nf_nat_packet do, and rewrites the
// packet. The Result is Accept (the rule ends its chain) with an action such as "dnat to 10.244.1.10:8080", or Drop when
// the packet belongs to no connection or its translation in this direction is already decided.
//
// A port that the kernel will choose becomes unknown. That the tuple is not in use by another connection is assumed; the
// walker, who can ask conntrack, checks it with Clash.
func Apply(p *skb.Packet, r skb.NAT, ch *rule.Chooser) (rule.Result, error) {
	if p.Ct == nil || p.Ct.NATDone(r.Source) {
		return rule.Result{Code: rule.Drop, Matched: true, Action: "drop", Says: "there is no connection to translate"}, nil
	}
	if r.Source && r.Ports {
		p.Ct.SourcePorts = [2]uint16{min(r.MinPort, r.MaxPort), max(r.MinPort, r.MaxPort)}
	}
	current := p.Ct.Reply.Reverse()
	next := choose(current, r, p.Ct.Zone, p.Family)
	set(p, current, next, r.Source)
	word, to := "dnat to ", next.Dst
	if r.Source {
		word, to = "snat to ", next.Src
	}
	return rule.Result{Code: rule.Accept, Matched: true, Action: word + endpoint(p, to)}, nil
}

// NullBinding decides that the packet's connection is not translated in this direction, as nf_nat_alloc_null_binding does
// when no rule of a hook has translated it.
func NullBinding(p *skb.Packet, source bool) {
	if p.Ct == nil || p.Ct.NATDone(source) {
		return
	}
	p.Ct.Status |= doneBit(source)
}

// Packet rewrites a packet of a known flow as its entry says, at a hook that manipulates the source (source true:
// POSTROUTING and INPUT) or the destination (PREROUTING and OUTPUT). It returns what it did in words, or "".
func Packet(p *skb.Packet, source bool) string {
	if p.Ct == nil {
		return ""
	}
	bit := uint32(skb.StatusDstNAT)
	if source != p.State.Reply() {
		bit = skb.StatusSrcNAT
	}
	if p.Ct.Status&bit == 0 {
		return ""
	}
	target := p.Ct.Reply.Reverse()
	if p.State.Reply() {
		target = p.Ct.Orig.Reverse()
	}
	if source {
		if p.Source() == target.Src {
			return ""
		}
		p.SetSource(target.Src)
		return "source becomes " + endpoint(p, target.Src)
	}
	if p.Destination() == target.Dst {
		return ""
	}
	p.SetDestination(target.Dst)
	return "destination becomes " + endpoint(p, target.Dst)
}

func endpoint(p *skb.Packet, a netip.AddrPort) string {
	if !p.HasPorts() {
		return a.Addr().String()
	}
	if a.Port() == 0 {
		return a.Addr().String() + " with a port that the kernel chooses"
	}
	return a.String()
}

func doneBit(source bool) uint32 {
	if source {
		return skb.StatusSrcNATDone
	}
	return skb.StatusDstNATDone
}

// set records the chosen tuple in the connection and rewrites the packet.
func set(p *skb.Packet, current, next skb.Tuple, source bool) {
	if next != current {
		p.Ct.Reply = next.Reverse()
		if source {
			p.Ct.Status |= skb.StatusSrcNAT
			p.SetSource(next.Src)
		} else {
			p.Ct.Status |= skb.StatusDstNAT
			p.SetDestination(next.Dst)
		}
	}
	p.Ct.Status |= doneBit(source)
}

// choose is get_unique_tuple for a tuple that no other connection uses.
func choose(t skb.Tuple, r skb.NAT, zone uint16, f skb.Family) skb.Tuple {
	if r.Source && !r.FullyRandom && !r.Random && inRange(t.Src, r) && !(r.Netmap) {
		return t
	}
	out := t
	if r.Min.IsValid() {
		switch {
		case r.Netmap:
			if r.Source {
				out.Src = netip.AddrPortFrom(mapPrefix(t.Src.Addr(), r), t.Src.Port())
			} else {
				out.Dst = netip.AddrPortFrom(mapPrefix(t.Dst.Addr(), r), t.Dst.Port())
			}
		case r.Min == r.Max:
			out = withAddr(out, r.Min, r.Source)
		default:
			out = withAddr(out, pickAddr(t, r, zone, f), r.Source)
		}
	}
	port := out.Dst.Port()
	if r.Source {
		port = out.Src.Port()
	}
	return withPort(out, pickPort(port, r), r.Source)
}

func inRange(a netip.AddrPort, r skb.NAT) bool {
	if r.Min.IsValid() && (a.Addr().Less(r.Min) || r.Max.Less(a.Addr())) {
		return false
	}
	return !r.Ports || a.Port() != 0 && a.Port() >= r.MinPort && a.Port() <= r.MaxPort
}

// pickPort returns the port that results from the range when no other connection is in the way, 0 when the kernel's
// random choice decides.
func pickPort(port uint16, r skb.NAT) uint16 {
	if r.FullyRandom || r.Random {
		if !r.Ports && !r.Source {
			return port // a destination keeps its port without a range
		}
		if r.Ports && r.MinPort == r.MaxPort {
			return r.MinPort
		}
		// NF_NAT_RANGE_PROTO_RANDOM and _RANDOM_ALL.
		return 0
	}
	if !r.Ports {
		return port
	}
	low, high := min(r.MinPort, r.MaxPort), max(r.MinPort, r.MaxPort)
	if r.Shifted {
		if port == 0 {
			return 0
		}
		return low + (port-r.Base)%uint16(uint32(high)-uint32(low)+1)
	}
	if port >= r.MinPort && port <= r.MaxPort && port != 0 {
		return port
	}
	if !r.Source || low == high {
		return low
	}
	return 0
}

func withAddr(t skb.Tuple, a netip.Addr, source bool) skb.Tuple {
	if source {
		t.Src = netip.AddrPortFrom(a, t.Src.Port())
	} else {
		t.Dst = netip.AddrPortFrom(a, t.Dst.Port())
	}
	return t
}

func withPort(t skb.Tuple, port uint16, source bool) skb.Tuple {
	switch t.Proto {
	case skb.TCP, skb.UDP, skb.SCTP, skb.UDPLite, skb.DCCP:
	default:
		return t
	}
	if source {
		t.Src = netip.AddrPortFrom(t.Src.Addr(), port)
	} else {
		t.Dst = netip.AddrPortFrom(t.Dst.Addr(), port)
	}
	return t
}

// mapPrefix is what NETMAP does: the bits that min and max share are replaced, the others stay.
func mapPrefix(a netip.Addr, r skb.NAT) netip.Addr {
	ab, low, high := a.AsSlice(), r.Min.AsSlice(), r.Max.AsSlice()
	if len(ab) != len(low) || len(ab) != len(high) {
		return a
	}
	for i := range ab {
		mask := ^(low[i] ^ high[i])
		ab[i] = ab[i]&^mask | low[i]&mask
	}
	out, _ := netip.AddrFromSlice(ab)
	return out
}
