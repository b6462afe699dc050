package xtables

import (
	"fmt"
	"strings"
)

// transportMatches are the matches on ports: xt_tcpudp.c, xt_multiport.c, xt_sctp.c (in chunk.go), xt_dccp.c.
var transportMatches = []module{
	{name: "tcp", modelled: Yes, effect: inert, note: "TCP options that are not known: depends", revisions: []revision{{size: 12, match: matchTCP, text: textTCP}}},
	{name: "udp", modelled: Yes, effect: inert, revisions: []revision{{size: 9, match: matchUDP, text: textUDP}}},
	{name: "udplite", modelled: Yes, effect: inert, note: "the same module as udp", revisions: []revision{{size: 9, match: matchUDP, text: textUDP}}},
	{name: "multiport", modelled: Yes, effect: inert, revisions: []revision{{rev: 1, size: 48, match: matchMultiport, text: textMultiport}}},
	{name: "sctp", modelled: Yes, effect: inert, note: "chunks behind the first: depends", revisions: []revision{{size: sctpInfoSize, match: matchSCTP, text: textSCTP}}},
	{name: "dccp", modelled: Depends, effect: inert, note: "ports exactly; packet type and options: depends", revisions: []revision{{size: 15, match: matchDCCP, text: textDCCP}}},
}

// Inversions of struct xt_tcp and struct xt_udp.
const (
	portInvSrc    = 1
	portInvDst    = 2
	tcpInvFlags   = 4
	tcpInvOptions = 8
)

// ports returns the source and destination port as the first four bytes of the transport header hold them.
func (c *call) ports() (src, dst number) {
	v, k := c.transport(0, 4)
	return numberOf(v[:2], k[:2]), numberOf(v[2:], k[2:])
}

// portIn tells whether a port lies in [low, high].
func (c *call) portIn(n number, side string, low, high uint16) bool {
	return c.decide(n.within(uint64(low), uint64(high)), fmt.Sprintf("%s port %s", side, span(uint64(low), uint64(high))))
}

// portsMatch is the part that tcp and udp share: spts and dpts at the start of info.
func (c *call) portsMatch(invflags uint8) bool {
	if c.decide(fragment(c.p), "the packet is a further fragment") {
		return false
	}
	src, dst := c.ports()
	return c.portIn(src, "source", u16(c.info, 0), u16(c.info, 2)) != (invflags&portInvSrc != 0) &&
		c.portIn(dst, "destination", u16(c.info, 4), u16(c.info, 6)) != (invflags&portInvDst != 0)
}

// matchUDP is udp_mt.
func matchUDP(c *call) (bool, error) { return c.portsMatch(c.info[8]), nil }

// matchTCP is tcp_mt.
func matchTCP(c *call) (bool, error) {
	option, mask, want, inv := c.info[8], c.info[9], c.info[10], c.info[11]
	if !c.portsMatch(inv) {
		return false, nil
	}
	if mask != 0 || want != 0 || inv&tcpInvFlags != 0 {
		v, k := c.transport(13, 1)
		t := same(v, k, []byte{mask}, []byte{want})
		if c.decide(t, "tcp flags "+flagNames(mask)+" "+flagNames(want)) == (inv&tcpInvFlags != 0) {
			return false, nil
		}
	}
	if option == 0 {
		return true, nil
	}
	return c.tcpOption(option) != (inv&tcpInvOptions != 0), nil
}

// tcpOption tells whether the header has a TCP option (tcp_find_option).
func (c *call) tcpOption(option byte) bool {
	condition := fmt.Sprintf("the segment has TCP option %d", option)
	v, k := c.transport(12, 1)
	if k[0]&0xf0 != 0xf0 {
		return c.depends("%s", condition)
	}
	length := int(v[0]>>4)*4 - 20
	if length < 0 {
		c.hotdrop = true
		return false
	}
	opts, known := c.transport(20, length)
	for i := 0; i < length; {
		if known[i] != 0xff {
			return c.depends("%s", condition)
		}
		if opts[i] == option {
			return true
		}
		if opts[i] < 2 || i+1 >= length {
			i++
			continue
		}
		if known[i+1] != 0xff {
			return c.depends("%s", condition)
		}
		i += max(int(opts[i+1]), 1)
	}
	return false
}

func textPorts(w *writer, info []byte, inv uint8) {
	low, high := u16(info, 0), u16(info, 2)
	if low != 0 || high != 0xffff || inv&portInvSrc != 0 {
		w.inv(inv&portInvSrc != 0, "--sport", span(uint64(low), uint64(high)))
	}
	low, high = u16(info, 4), u16(info, 6)
	if low != 0 || high != 0xffff || inv&portInvDst != 0 {
		w.inv(inv&portInvDst != 0, "--dport", span(uint64(low), uint64(high)))
	}
}

func textUDP(w *writer, info []byte) { textPorts(w, info, info[8]) }

func textTCP(w *writer, info []byte) {
	option, mask, want, inv := info[8], info[9], info[10], info[11]
	textPorts(w, info, inv)
	if option != 0 || inv&tcpInvOptions != 0 {
		w.inv(inv&tcpInvOptions != 0, "--tcp-option", fmt.Sprint(option))
	}
	if mask != 0 || inv&tcpInvFlags != 0 {
		w.inv(inv&tcpInvFlags != 0, "--tcp-flags", flagNames(mask), flagNames(want))
	}
}

// flagNames prints TCP flags as iptables does.
func flagNames(flags byte) string {
	if flags == 0 {
		return "NONE"
	}
	var out []string
	for i, n := range []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG"} {
		if flags&(1<<i) != 0 {
			out = append(out, n)
			flags &^= 1 << i
		}
	}
	if flags != 0 {
		out = append(out, fmt.Sprintf("%#x", flags))
	}
	return strings.Join(out, ",")
}

// Values of struct xt_multiport_v1's flags (enum xt_multiport_flags); 2 means either.
const (
	multiportSource      = 0
	multiportDestination = 1
)

// multiportSide names what struct xt_multiport_v1's flags (enum xt_multiport_flags) choose.
var multiportSide = [...]string{"source", "destination", "source or destination"}

// matchMultiport is ports_match_v1.
func matchMultiport(c *call) (bool, error) {
	flags, invert := c.info[0], c.info[47] != 0
	if c.decide(fragment(c.p), "the packet is a further fragment") {
		return false, nil
	}
	if int(flags) >= len(multiportSide) {
		return invert, nil
	}
	src, dst := c.ports()
	answer := no
	var list []string
	eachPortRange(c.info, func(low, high uint16) {
		list = append(list, span(uint64(low), uint64(high)))
		if flags != multiportDestination {
			answer = either(answer, src.within(uint64(low), uint64(high)))
		}
		if flags != multiportSource {
			answer = either(answer, dst.within(uint64(low), uint64(high)))
		}
	})
	return c.decide(answer, multiportSide[flags]+" port "+strings.Join(list, ",")) != invert, nil
}

// either is the three-valued or.
func either(a, b tri) tri {
	switch {
	case a == yes || b == yes:
		return yes
	case a == maybe || b == maybe:
		return maybe
	}
	return no
}

// eachPortRange calls f for the ports and ranges of struct xt_multiport_v1.
func eachPortRange(info []byte, f func(low, high uint16)) {
	count := min(int(info[1]), 15)
	for i := 0; i < count; i++ {
		low := u16(info, 2+2*i)
		high := low
		if info[32+i] != 0 && i+1 < 15 {
			i++
			high = u16(info, 2+2*i)
		}
		f(low, high)
	}
}

func textMultiport(w *writer, info []byte) {
	var list []string
	eachPortRange(info, func(low, high uint16) { list = append(list, span(uint64(low), uint64(high))) })
	option := "--ports"
	switch info[0] {
	case 0:
		option = "--sports"
	case 1:
		option = "--dports"
	}
	w.inv(info[47] != 0, option, strings.Join(list, ","))
}
