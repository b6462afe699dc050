package fib

import (
	"math/bits"
	"net/netip"
)

// candidate6 is an address that a packet could have as its source.
type candidate6 struct {
	Address
	out  bool
	conf Conf6
}

// SourceAddress6 is the source address that the kernel chooses for an IPv6 destination by an interface
// (ipv6_dev_get_saddr); only the interfaces of the state are looked at. It is invalid when there is none.
func (s *State) SourceAddress6(dev string, dst netip.Addr) netip.Addr { return s.selectAddr6(dev, dst) }

// selectAddr6 is ipv6_dev_get_saddr of net/ipv6/addrconf.c: the source address for a destination by an interface, by the
// rules of RFC 6724 and the kernel's default policy table. It is invalid when there is none.
func (s *State) selectAddr6(dev string, dst netip.Addr) netip.Addr {
	out := s.link(dev)
	onlyOut := out != nil && (dst.IsMulticast() || scope6(dst) <= scopeLinkLocal || out.IPv6.OutAddrsOnly)
	master := ""
	if out != nil {
		master = out.Master
	}
	var best candidate6
	for i := range s.Interfaces {
		l := &s.Interfaces[i]
		if onlyOut && l.Name != dev || !onlyOut && l.Master != master && l.Name != master {
			continue
		}
		for _, a := range l.Addresses {
			ip := a.Prefix.Addr()
			if ip.Is4() || ip.IsMulticast() || ip.IsUnspecified() || a.Flags&(flagTentative|flagOptimistic) == flagTentative {
				continue
			}
			c := candidate6{a, out == nil || l.Name == dev, l.IPv6}
			if !best.Prefix.IsValid() || s.better6(c, best, dst) {
				best = c
			}
		}
	}
	return best.Prefix.Addr()
}

// better6 reports whether c is preferred to d, an earlier candidate, for dst (ipv6_get_saddr_eval).
func (s *State) better6(c, d candidate6, dst netip.Addr) bool {
	// Each rule gives both candidates a score; the first that differs decides.
	for _, rule := range []func(candidate6) int{
		func(x candidate6) int { return truth(x.Prefix.Addr() == dst) },
		func(x candidate6) int {
			n := scope6(x.Prefix.Addr())
			if n >= scope6(dst) {
				return -n
			}
			return n - 128
		},
		func(x candidate6) int {
			avoid := uint32(flagDeprecated)
			if !s.All6.UseOptimistic && !x.conf.UseOptimistic {
				avoid |= flagOptimistic
			}
			return truth(alwaysPreferred(x.Prefix.Addr()) || x.Flags&avoid == 0)
		},
		func(x candidate6) int { return truth(x.out) },
		func(x candidate6) int { return truth(label6(x.Prefix.Addr()) == label6(dst)) },
		func(x candidate6) int { return truth((x.Flags&flagSecondary != 0) == (x.conf.UseTempAddr >= 2)) },
		func(x candidate6) int { return truth(orchid(x.Prefix.Addr()) == orchid(dst)) },
		func(x candidate6) int { return min(commonBits(x.Prefix.Addr(), dst), x.Prefix.Bits()) },
		func(x candidate6) int { return truth(x.Flags&flagOptimistic == 0) },
	} {
		if a, b := rule(c), rule(d); a != b {
			return a > b
		}
	}
	return false
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Scopes of IPv6 addresses (include/net/ipv6.h).
const (
	scopeLinkLocal = 0x02
	scopeSiteLocal = 0x05
	scopeGlobal    = 0x0e
)

// scope6 is __ipv6_addr_src_scope of __ipv6_addr_type.
func scope6(a netip.Addr) int {
	b := a.As16()
	switch {
	case a.IsUnspecified():
		return -1
	case b[0] == 0xff:
		return int(b[1] & 0x0f)
	case a.IsLinkLocalUnicast(), a.IsLoopback():
		return scopeLinkLocal
	case b[0] == 0xfe && b[1]&0xc0 == 0xc0:
		return scopeSiteLocal
	}
	return scopeGlobal
}

// alwaysPreferred is ipv6_saddr_preferred: mapped, compatible and loopback addresses are never avoided.
func alwaysPreferred(a netip.Addr) bool {
	return a.Is4In6() || netip.PrefixFrom(netip.IPv6Unspecified(), 96).Contains(a)
}

// orchid tells an address of 2001:10::/28 (RFC 4843).
func orchid(a netip.Addr) bool { return orchidPrefix.Contains(a) }

var orchidPrefix = netip.MustParsePrefix("2001:10::/28")

// labels6 is the kernel's default policy table (ip6addrlbl_init_table of net/ipv6/addrlabel.c), the longest prefix first.
var labels6 = []struct {
	prefix netip.Prefix
	label  int
}{
	{netip.MustParsePrefix("::1/128"), 0},
	{netip.MustParsePrefix("::ffff:0:0/96"), 4},
	{netip.MustParsePrefix("::/96"), 3},
	{netip.MustParsePrefix("2001::/32"), 6},
	{orchidPrefix, 7},
	{netip.MustParsePrefix("3ffe::/16"), 12},
	{netip.MustParsePrefix("2002::/16"), 2},
	{netip.MustParsePrefix("fec0::/10"), 11},
	{netip.MustParsePrefix("fc00::/7"), 5},
}

func label6(a netip.Addr) int {
	for _, l := range labels6 {
		if l.prefix.Contains(a) {
			return l.label
		}
	}
	return 1
}

// commonBits is the number of leading bits that two IPv6 addresses share.
func commonBits(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	n := 0
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			return n + bits.LeadingZeros8(d)
		}
		n += 8
	}
	return n
}
