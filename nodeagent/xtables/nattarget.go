package xtables

import (
	"net/netip"
	"strconv"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nat"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// natTargets: xt_nat.c, xt_MASQUERADE.c, xt_REDIRECT.c, xt_NETMAP.c, ip6t_NPT.c. What the range does to the connection is
// package nat's matter.
var natTargets = []module{
	{name: "DNAT", modelled: Yes, tracks: true, revisions: []revision{
		{rev: 0, only: skb.IPv4, size: 20, target: targetNAT(false), text: textNAT("--to-destination")},
		{rev: 1, size: 40, target: targetNAT(false), text: textNAT("--to-destination")},
		{rev: 2, size: 42, target: targetNAT(false), text: textNAT("--to-destination")},
	}},
	{name: "SNAT", modelled: Yes, tracks: true, revisions: []revision{
		{rev: 0, only: skb.IPv4, size: 20, target: targetNAT(true), text: textNAT("--to-source")},
		{rev: 1, size: 40, target: targetNAT(true), text: textNAT("--to-source")},
		{rev: 2, size: 42, target: targetNAT(true), text: textNAT("--to-source")},
	}},
	{name: "MASQUERADE", family: skb.IPv4, modelled: Yes, tracks: true, revisions: []revision{{size: 20, target: targetMasquerade, text: textPortRange}}},
	{name: "MASQUERADE", family: skb.IPv6, modelled: Yes, tracks: true, revisions: []revision{{size: 40, target: targetMasquerade, text: textPortRange}}},
	{name: "REDIRECT", family: skb.IPv4, modelled: Yes, tracks: true, revisions: []revision{{size: 20, target: targetRedirect, text: textPortRange}}},
	{name: "REDIRECT", family: skb.IPv6, modelled: Yes, tracks: true, revisions: []revision{{size: 40, target: targetRedirect, text: textPortRange}}},
	{name: "NETMAP", family: skb.IPv4, modelled: Yes, tracks: true, revisions: []revision{{size: 20, target: targetNetmap, text: textNetmap}}},
	{name: "NETMAP", family: skb.IPv6, modelled: Yes, tracks: true, revisions: []revision{{size: 40, target: targetNetmap, text: textNetmap}}},
	{name: "SNPT", family: skb.IPv6, modelled: Yes, revisions: []revision{{size: 36, target: targetNPT(true), text: textNPT}}},
	{name: "DNPT", family: skb.IPv6, modelled: Yes, revisions: []revision{{size: 36, target: targetNPT(false), text: textNPT}}},
}

// Flags of a NAT range: NF_NAT_RANGE_….
const (
	rangeMapIPs      = 1 << 0
	rangeProto       = 1 << 1
	rangeRandom      = 1 << 2
	rangePersistent  = 1 << 3
	rangeRandomFully = 1 << 4
	rangeOffset      = 1 << 5
)

// natRange is struct nf_nat_range2, or what older forms of it hold.
type natRange struct {
	flags                     uint32
	min, max                  []byte
	minPort, maxPort, basPort uint16
}

// decodeRange reads struct nf_nat_ipv4_multi_range_compat (20 bytes, with one range), nf_nat_range or nf_nat_range2.
func decodeRange(info []byte, compat, second bool, f skb.Family) natRange {
	if compat {
		return natRange{flags: u32(info, 4), min: info[8:12], max: info[12:16], minPort: be16(info, 16), maxPort: be16(info, 18)}
	}
	r := natRange{flags: u32(info, 0), min: addrBytes(f, info[4:20]), max: addrBytes(f, info[20:36]), minPort: be16(info, 36), maxPort: be16(info, 38)}
	if second {
		r.basPort = be16(info, 40)
	}
	return r
}

func (r natRange) nat(source bool) skb.NAT {
	n := skb.NAT{
		Source: source, Random: r.flags&rangeRandom != 0, FullyRandom: r.flags&rangeRandomFully != 0, Persistent: r.flags&rangePersistent != 0,
		Ports: r.flags&rangeProto != 0, MinPort: r.minPort, MaxPort: r.maxPort,
		Shifted: r.flags&rangeOffset != 0, Base: r.basPort,
	}
	if r.flags&rangeMapIPs != 0 {
		n.Min, _ = netip.AddrFromSlice(r.min)
		n.Max, _ = netip.AddrFromSlice(r.max)
	}
	return n
}

func targetNAT(source bool) func(*call) (rule.Result, error) {
	return func(c *call) (rule.Result, error) {
		r := decodeRange(c.info, c.rev == 0, c.rev == 2, c.family)
		return nat.Apply(c.p, r.nat(source), c.ch)
	}
}

func targetMasquerade(c *call) (rule.Result, error) {
	return nat.Masquerade(c.ctx, c.env, c.p, decodeRange(c.info, c.family == skb.IPv4, false, c.family).nat(true), c.ch)
}

func targetRedirect(c *call) (rule.Result, error) {
	return nat.Redirect(c.ctx, c.env, c.p, decodeRange(c.info, c.family == skb.IPv4, false, c.family).nat(false), c.ch)
}

// targetNetmap is netmap_tg4 and netmap_tg6: the host bits stay, the network bits come from the range.
func targetNetmap(c *call) (rule.Result, error) {
	r := decodeRange(c.info, c.family == skb.IPv4, false, c.family)
	source := c.p.Hook == skb.Postrouting || c.p.Hook == skb.Input
	old := c.p.Dst().AsSlice()
	if source {
		old = c.p.Src().AsSlice()
	}
	for i := range old {
		host := r.min[i] ^ r.max[i]
		old[i] = old[i]&host | r.min[i]&^host
	}
	n := r.nat(source)
	n.Min, _ = netip.AddrFromSlice(old)
	n.Max, n.Netmap = n.Min, false
	return nat.Apply(c.p, n, c.ch)
}

// textNAT prints DNAT and SNAT.
func textNAT(option string) func(*writer, []byte) {
	return func(w *writer, info []byte) {
		r := decodeRange(info, w.rev == 0, w.rev == 2, w.family)
		s := ""
		if r.flags&rangeMapIPs != 0 {
			s = addrText(r.min)
			if string(r.min) != string(r.max) {
				s += "-" + addrText(r.max)
			}
			if w.family == skb.IPv6 && r.flags&rangeProto != 0 {
				s = "[" + s + "]"
			}
		}
		if r.flags&rangeProto != 0 {
			s += ":" + portRange(r.minPort, r.maxPort)
			if r.flags&rangeOffset != 0 {
				s += "/" + strconv.Itoa(int(r.basPort))
			}
		}
		w.word(option, s)
		w.flag(r.flags&rangeRandom != 0, "--random")
		w.flag(r.flags&rangeRandomFully != 0, "--random-fully")
		w.flag(r.flags&rangePersistent != 0, "--persistent")
	}
}

func portRange(low, high uint16) string {
	s := strconv.Itoa(int(low))
	if low != high {
		s += "-" + strconv.Itoa(int(high))
	}
	return s
}

// textPortRange prints MASQUERADE and REDIRECT.
func textPortRange(w *writer, info []byte) {
	r := decodeRange(info, w.family == skb.IPv4, false, w.family)
	w.flag(r.flags&rangeProto != 0, "--to-ports", portRange(r.minPort, r.maxPort))
	w.flag(r.flags&rangeRandom != 0, "--random")
	w.flag(r.flags&rangeRandomFully != 0, "--random-fully")
}

func textNetmap(w *writer, info []byte) {
	r := decodeRange(info, w.family == skb.IPv4, false, w.family)
	mask := make([]byte, len(r.min))
	for i := range mask {
		mask[i] = ^(r.min[i] ^ r.max[i])
	}
	w.word("--to", addrText(r.min)+"/"+maskText(mask))
}
