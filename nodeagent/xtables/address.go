package xtables

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// addressMatches test addresses beyond the header's own: xt_addrtype.c, xt_iprange.c.
var addressMatches = []module{
	{name: "addrtype", modelled: Yes, effect: inert, revisions: []revision{
		{rev: 0, only: skb.IPv4, size: 12, match: matchAddrtype, text: textAddrtype},
		{rev: 1, size: 8, match: matchAddrtype, text: textAddrtype},
	}},
	{name: "iprange", modelled: Yes, effect: inert, revisions: []revision{{rev: 1, size: 65, match: matchIPRange, text: textIPRange}}},
}

// Flags of struct xt_addrtype_info_v1.
const (
	addrtypeInvertSource = 1
	addrtypeInvertDest   = 2
	addrtypeLimitIn      = 4
	addrtypeLimitOut     = 8
)

// Bits of an address type mask: XT_ADDRTYPE_…, numbered as RTN_….
const (
	addrUnspec      = 1 << 0
	addrUnicast     = 1 << 1
	addrLocal       = 1 << 2
	addrAnycast     = 1 << 4
	addrMulticast   = 1 << 5
	addrUnreachable = 1 << 7
	addrProhibit    = 1 << 8
)

var addrTypeNames = []string{"UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE",
	"PROHIBIT", "THROW", "NAT", "XRESOLVE"}

type addrtypeInfo struct {
	source, dest uint16
	flags        uint32
}

func decodeAddrtype(info []byte, rev uint8) addrtypeInfo {
	d := addrtypeInfo{source: u16(info, 0), dest: u16(info, 2)}
	if rev == 1 {
		d.flags = u32(info, 4)
		return d
	}
	if u32(info, 4) != 0 {
		d.flags |= addrtypeInvertSource
	}
	if u32(info, 8) != 0 {
		d.flags |= addrtypeInvertDest
	}
	return d
}

// matchAddrtype is addrtype_mt_v0 and addrtype_mt_v1.
func matchAddrtype(c *call) (bool, error) {
	d := decodeAddrtype(c.info, c.rev)
	dev := ""
	if d.flags&addrtypeLimitIn != 0 {
		dev = c.p.In
	} else if d.flags&addrtypeLimitOut != 0 {
		dev = c.p.Out
	}
	if d.source != 0 {
		ok, err := c.addrTypeIn(c.p.Src(), dev, d.source)
		if err != nil || ok == (d.flags&addrtypeInvertSource != 0) {
			return false, err
		}
	}
	if d.dest != 0 {
		ok, err := c.addrTypeIn(c.p.Dst(), dev, d.dest)
		if err != nil || ok == (d.flags&addrtypeInvertDest != 0) {
			return false, err
		}
	}
	return true, nil
}

// addrTypeIn is match_type, and match_type6 for IPv6, where the class of the address is read off it and only some types
// are looked up.
func (c *call) addrTypeIn(a netip.Addr, dev string, mask uint16) (bool, error) {
	if c.family == skb.IPv6 {
		switch {
		case mask&addrMulticast != 0 && !a.IsMulticast(),
			mask&addrUnicast != 0 && (a.IsMulticast() || a.IsUnspecified()),
			mask&addrUnspec != 0 && !a.IsUnspecified():
			return false, nil
		case mask&(addrAnycast|addrLocal|addrProhibit|addrUnreachable) == 0:
			return true, nil
		}
	}
	t, err := c.env.AddrType(c.ctx, a, dev)
	if err != nil {
		return false, fmt.Errorf("type of %s: %w", a, err)
	}
	if c.family == skb.IPv6 {
		switch t {
		case node.RouteUnreachable, node.RouteProhibit, node.RouteBlackhole, node.RouteThrow:
			t = node.RouteUnreachable
		}
		// match_lookup_rt6 tells only these three apart.
		mask &= addrAnycast | addrLocal | addrUnreachable
	}
	in := mask&(1<<t) != 0
	if in && int(t) < len(addrTypeNames) {
		c.explain("%s is %s", a, addrTypeNames[t])
	}
	return in, nil
}

func (c *call) explain(format string, args ...any) {
	if c.says != "" {
		c.says += "; "
	}
	c.says += fmt.Sprintf(format, args...)
}

func addrTypes(mask uint16) string {
	var out []string
	for i, n := range addrTypeNames {
		if mask&(1<<i) != 0 {
			out = append(out, n)
		}
	}
	return strings.Join(out, ",")
}

func textAddrtype(w *writer, info []byte) {
	d := decodeAddrtype(info, w.rev)
	if d.source != 0 {
		w.inv(d.flags&addrtypeInvertSource != 0, "--src-type", addrTypes(d.source))
	}
	if d.dest != 0 {
		w.inv(d.flags&addrtypeInvertDest != 0, "--dst-type", addrTypes(d.dest))
	}
	w.flag(d.flags&addrtypeLimitIn != 0, "--limit-iface-in")
	w.flag(d.flags&addrtypeLimitOut != 0, "--limit-iface-out")
}

// Flags of struct xt_iprange_mtinfo.
const (
	iprangeSrc    = 1 << 0
	iprangeDst    = 1 << 1
	iprangeSrcInv = 1 << 4
	iprangeDstInv = 1 << 5
)

// matchIPRange is iprange_mt4 and iprange_mt6.
func matchIPRange(c *call) (bool, error) {
	flags := c.info[64]
	within := func(a netip.Addr, off int) bool {
		low, _ := netip.AddrFromSlice(addrBytes(c.family, c.info[off:off+16]))
		high, _ := netip.AddrFromSlice(addrBytes(c.family, c.info[off+16:off+32]))
		return low.Compare(a) <= 0 && a.Compare(high) <= 0
	}
	if flags&iprangeSrc != 0 && within(c.p.Src(), 0) == (flags&iprangeSrcInv != 0) {
		return false, nil
	}
	if flags&iprangeDst != 0 && within(c.p.Dst(), 32) == (flags&iprangeDstInv != 0) {
		return false, nil
	}
	return true, nil
}

func textIPRange(w *writer, info []byte) {
	flags := info[64]
	text := func(off int) string {
		return addrText(w.addrBytes(info[off:off+16])) + "-" + addrText(w.addrBytes(info[off+16:off+32]))
	}
	if flags&iprangeSrc != 0 {
		w.inv(flags&iprangeSrcInv != 0, "--src-range", text(0))
	}
	if flags&iprangeDst != 0 {
		w.inv(flags&iprangeDstInv != 0, "--dst-range", text(32))
	}
}
