package xtables

import (
	"fmt"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// ipv6Matches test extension headers: ip6t_frag.c, ip6t_rt.c, ip6t_hbh.c (also dst), ip6t_mh.c, ip6t_eui64.c,
// ip6t_ipv6header.c, ip6t_ah.c, ip6t_srh.c; what they look for in headers is in ipv6header.go.
var ipv6Matches = []module{
	{name: "frag", family: skb.IPv6, modelled: Yes, effect: inert, note: noteHeader, revisions: []revision{{size: 14, match: matchFrag, text: textFrag}}},
	{name: "rt", family: skb.IPv6, modelled: Yes, effect: inert, note: noteHeader, revisions: []revision{{size: 277, match: matchRouting, text: textRouting}}},
	{name: "hbh", family: skb.IPv6, modelled: Yes, effect: inert, note: noteHeader, revisions: []revision{{size: 39, match: matchOptions(headerHop, textOptions("hbh")), text: textOptions("hbh")}}},
	{name: "dst", family: skb.IPv6, modelled: Yes, effect: inert, note: noteHeader, revisions: []revision{{size: 39, match: matchOptions(headerDest, textOptions("dst")), text: textOptions("dst")}}},
	{name: "ah", family: skb.IPv6, modelled: Yes, effect: inert, note: noteHeader, revisions: []revision{{size: 14, match: matchAH6, text: textAH6}}},
	{name: "srh", family: skb.IPv6, modelled: Yes, effect: inert, note: noteHeader, revisions: []revision{
		{rev: 0, size: 10, match: matchSRH, text: textSRH},
		{rev: 1, size: 108, match: matchSRH, text: textSRH},
	}},
	{name: "mh", family: skb.IPv6, modelled: Yes, effect: inert, revisions: []revision{{size: 3, match: matchMobility, text: textMobility}}},
	{name: "ipv6header", family: skb.IPv6, modelled: Yes, effect: inert, revisions: []revision{{size: 3, match: matchIPv6Header, text: textIPv6Header}}},
	{name: "eui64", family: skb.IPv6, modelled: Depends, effect: inert, note: "the sender's hardware address is not described", revisions: []revision{{size: 0, match: matchEUI64}}},
}

const noteHeader = "bytes of the header that are not known: depends"

// Next header values that are extension headers to iptables (ip6t_ext_hdr).
const (
	headerHop      = 0
	headerRouting  = 43
	headerFragment = 44
	headerESP      = 50
	headerAuth     = 51
	headerNone     = 59
	headerDest     = 60
)

// headers lists the chain of next header values from the IPv6 header on, the transport protocol last; whole is false when
// a part of it is not known.
func (c *call) headers() (chain []byte, whole bool) {
	all, whole := c.p.Headers()
	for _, h := range all {
		chain = append(chain, h.Type)
	}
	return chain, whole
}

// matchMobility is mh_mt6.
func matchMobility(c *call) (bool, error) {
	if c.decide(fragment(c.p), "the packet is a further fragment") {
		return false, nil
	}
	low, high := uint64(c.info[0]), uint64(c.info[1])
	return c.decide(numberOf(c.transport(2, 1)).within(low, high), "mobility header type "+span(low, high)) != (c.info[2]&1 != 0), nil
}

func textMobility(w *writer, info []byte) {
	low, high, inv := info[0], info[1], info[2]&1 != 0
	if low != 0 || high != 0xff || inv {
		w.inv(inv, "--mh-type", span(uint64(low), uint64(high)))
	}
}

// ipv6HeaderBits are the MASK_… bits of struct ip6t_ipv6header_info, in the order iptables prints them.
var ipv6HeaderBits = []struct {
	header, bit byte
	name        string
}{{headerHop, 128, "hop-by-hop"}, {headerDest, 64, "ipv6-opts"}, {headerRouting, 32, "ipv6-route"}, {headerFragment, 16, "ipv6-frag"},
	{headerAuth, 8, "ah"}, {headerESP, 4, "esp"}, {headerNone, 2, "ipv6-nonxt"}}

const ipv6HeaderProto = 1

// matchIPv6Header is ipv6header_mt6.
func matchIPv6Header(c *call) (bool, error) {
	flags, inv, soft := c.info[0], c.info[1], c.info[2] != 0
	chain, whole := c.headers()
	if !whole {
		w := &writer{}
		textIPv6Header(w, c.info)
		return c.depends("extension headers: %s", w.String()), nil
	}
	var found byte
	for i, h := range chain {
		bit := byte(ipv6HeaderProto)
		for _, b := range ipv6HeaderBits {
			if b.header == h {
				bit = b.bit
			}
		}
		if bit != ipv6HeaderProto || i == len(chain)-1 {
			found |= bit
		}
	}
	if soft {
		return (found^flags^inv)&flags == 0, nil
	}
	return (found == flags) != (inv != 0), nil
}

func textIPv6Header(w *writer, info []byte) {
	var names []string
	for _, b := range ipv6HeaderBits {
		if info[0]&b.bit != 0 {
			names = append(names, b.name)
		}
	}
	if info[0]&ipv6HeaderProto != 0 {
		names = append(names, "protocol")
	}
	s := strings.Join(names, ",")
	if s == "" {
		s = "NONE"
	}
	w.inv(info[1] != 0, "--header", s)
	w.flag(info[2] != 0, "--soft")
}

func matchEUI64(c *call) (bool, error) {
	l, ok, err := c.link(c.p.In)
	if err != nil || ok && l.Type != arpEthernet {
		return false, err
	}
	return c.depends("the source address is made of the frame's source"), nil
}

func textRange(w *writer, option string, low, high uint32, inv bool) {
	if low != 0 || high != ^uint32(0) || inv {
		w.inv(inv, option, span(uint64(low), uint64(high)))
	}
}

func textFrag(w *writer, info []byte) {
	flags, inv := info[12], info[13]
	textRange(w, "--fragid", u32(info, 0), u32(info, 4), inv&1 != 0)
	if flags&2 != 0 {
		w.inv(inv&2 != 0, "--fraglen", fmt.Sprint(u32(info, 8)))
	}
	w.flag(flags&4 != 0, "--fragres")
	w.flag(flags&8 != 0, "--fragfirst")
	w.flag(flags&16 != 0, "--fragmore")
	w.flag(flags&32 != 0, "--fraglast")
}

func textAH6(w *writer, info []byte) {
	inv := info[13]
	textRange(w, "--ahspi", u32(info, 0), u32(info, 4), inv&1 != 0)
	if length := u32(info, 8); length != 0 || inv&2 != 0 {
		w.inv(inv&2 != 0, "--ahlen", fmt.Sprint(length))
	}
	w.flag(info[12] != 0, "--ahres")
}

// textOptions prints hbh and dst (struct ip6t_opts).
func textOptions(name string) func(*writer, []byte) {
	return func(w *writer, info []byte) {
		flags, inv := info[4], info[5]
		if flags&1 != 0 {
			w.inv(inv&1 != 0, "--"+name+"-len", fmt.Sprint(u32(info, 0)))
		}
		if flags&2 == 0 {
			return
		}
		var list []string
		for i := range min(int(info[38]), 16) {
			o := u16(info, 6+2*i)
			s := fmt.Sprint(o >> 8)
			if o&0xff != 0xff {
				s += fmt.Sprintf(":%d", o&0xff)
			}
			list = append(list, s)
		}
		w.word("--"+name+"-opts", strings.Join(list, ","))
	}
}

// textRouting prints struct ip6t_rt.
func textRouting(w *writer, info []byte) {
	flags, inv := info[16], info[17]
	if flags&1 != 0 {
		w.inv(inv&1 != 0, "--rt-type", fmt.Sprint(u32(info, 0)))
	}
	textRange(w, "--rt-segsleft", u32(info, 4), u32(info, 8), inv&2 != 0)
	if flags&4 != 0 {
		w.inv(inv&4 != 0, "--rt-len", fmt.Sprint(u32(info, 12)))
	}
	w.flag(flags&8 != 0, "--rt-0-res")
	w.flag(flags&16 != 0, "--rt-0-addrs")
	var list []string
	for i := range min(int(info[276]), 16) {
		list = append(list, addrText(info[20+16*i:36+16*i]))
	}
	w.flag(len(list) > 0, strings.Join(list, ","))
	w.flag(flags&32 != 0, "--rt-0-not-strict")
}

// textSRH prints struct ip6t_srh and ip6t_srh1.
func textSRH(w *writer, info []byte) {
	at := 6
	if w.rev == 1 {
		at = 104
	}
	flags, inv := u16(info, at), u16(info, at+2)
	for i, o := range []struct {
		name string
		off  int
	}{{"next-hdr", 0}, {"hdr-len-eq", 1}, {"hdr-len-gt", 1}, {"hdr-len-lt", 1}, {"segs-left-eq", 2}, {"segs-left-gt", 2}, {"segs-left-lt", 2},
		{"last-entry-eq", 3}, {"last-entry-gt", 3}, {"last-entry-lt", 3}} {
		if flags&(1<<i) != 0 {
			w.inv(inv&(1<<i) != 0, "--srh-"+o.name, fmt.Sprint(info[o.off]))
		}
	}
	if flags&(1<<10) != 0 {
		w.inv(inv&(1<<10) != 0, "--srh-tag", fmt.Sprint(u16(info, 4)))
	}
	if w.rev == 0 {
		return
	}
	for i, name := range []string{"psid", "nsid", "lsid"} {
		if bit := uint16(1) << (11 + i); flags&bit != 0 {
			n, _ := prefixLength(info[56+16*i : 72+16*i])
			w.inv(inv&bit != 0, "--srh-"+name, fmt.Sprintf("%s/%d", addrText(info[8+16*i:24+16*i]), n))
		}
	}
}
