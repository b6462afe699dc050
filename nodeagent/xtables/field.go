package xtables

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// headerFieldMatches test a field of the IP or transport header: xt_dscp.c, xt_ecn.c, xt_hl.c, xt_length.c, xt_esp.c,
// ipt_ah.c, xt_ipcomp.c, xt_tcpmss.c.
var headerFieldMatches = []module{
	{name: "dscp", modelled: Yes, effect: inert, revisions: []revision{{size: 2, match: matchDSCP, text: textDSCPMatch}}},
	{name: "tos", modelled: Yes, effect: inert, revisions: []revision{{rev: 1, size: 3, match: matchTOS, text: textTOSMatch}}},
	{name: "ecn", modelled: Yes, effect: inert, revisions: []revision{{size: 3, match: matchECN, text: textECNMatch}}},
	{name: "ttl", family: skb.IPv4, modelled: Yes, effect: inert, revisions: []revision{{size: 2, match: matchTTL, text: textTTLMatch("ttl")}}},
	{name: "hl", family: skb.IPv6, modelled: Yes, effect: inert, revisions: []revision{{size: 2, match: matchTTL, text: textTTLMatch("hl")}}},
	{name: "length", modelled: Yes, effect: inert, revisions: []revision{{size: 5, match: matchLength, text: textLength}}},
	{name: "esp", modelled: Yes, effect: inert, revisions: []revision{{size: 9, match: matchSPI(0), text: textSPI("--espspi")}}},
	{name: "ah", family: skb.IPv4, modelled: Yes, effect: inert, revisions: []revision{{size: 9, match: matchSPI(4), text: textSPI("--ahspi")}}},
	{name: "ipcomp", modelled: Yes, effect: inert, revisions: []revision{{size: 10, match: matchIPComp, text: textIPComp}}},
	{name: "tcpmss", modelled: Yes, effect: inert, note: "TCP options that are not known: depends", revisions: []revision{{size: 5, match: matchTCPMSS, text: textTCPMSSMatch}}},
}

// dsfield returns the type of service byte, or the traffic class.
func dsfield(p *skb.Packet) (value, known byte) {
	if p.Family == skb.IPv6 {
		v, k, _ := p.Network(0, 2)
		return v[0]<<4 | v[1]>>4, k[0]<<4 | k[1]>>4
	}
	v, k, _ := p.Network(1, 1)
	return v[0], k[0]
}

// dsfieldIs tells whether the byte's bits of mask are want.
func (c *call) dsfieldIs(mask, want byte, name string) bool {
	v, k := dsfield(c.p)
	return c.decide(same([]byte{v}, []byte{k}, []byte{mask}, []byte{want}), fmt.Sprintf("%s 0x%02x/0x%02x", name, want, mask))
}

func matchDSCP(c *call) (bool, error) {
	if c.info[0] > 0x3f {
		return c.info[1] != 0, nil
	}
	return c.dsfieldIs(0xfc, c.info[0]<<2, "type of service") != (c.info[1] != 0), nil
}

func textDSCPMatch(w *writer, info []byte) {
	w.inv(info[1] != 0, "--dscp", fmt.Sprintf("0x%02x", info[0]))
}

func matchTOS(c *call) (bool, error) {
	return c.dsfieldIs(c.info[0], c.info[1], "type of service") != (c.info[2] != 0), nil
}

func textTOSMatch(w *writer, info []byte) {
	w.inv(info[2] != 0, "--tos", fmt.Sprintf("0x%02x/0x%02x", info[1], info[0]))
}

// Operations of struct xt_ecn_info.
const (
	ecnIP  = 0x01
	ecnECE = 0x10
	ecnCWR = 0x20
)

// matchECN is ecn_mt4 and ecn_mt6.
func matchECN(c *call) (bool, error) {
	op, inv := c.info[0], c.info[1]
	if op&ecnIP != 0 && c.dsfieldIs(3, c.info[2], "ECN field") == (inv&ecnIP != 0) {
		return false, nil
	}
	for _, f := range []struct {
		op, flag byte
		name     string
	}{{ecnECE, 0x40, "ECE"}, {ecnCWR, 0x80, "CWR"}} {
		if op&f.op == 0 {
			continue
		}
		v, k := c.transport(13, 1)
		set := c.decide(same(v, k, []byte{f.flag}, []byte{f.flag}), "TCP flag "+f.name+" is set")
		if set == (inv&f.op != 0) {
			return false, nil
		}
	}
	return true, nil
}

func textECNMatch(w *writer, info []byte) {
	op, inv := info[0], info[1]
	if op&ecnECE != 0 {
		w.inv(inv&ecnECE != 0, "--ecn-tcp-ece")
	}
	if op&ecnCWR != 0 {
		w.inv(inv&ecnCWR != 0, "--ecn-tcp-cwr")
	}
	if op&ecnIP != 0 {
		w.inv(inv&ecnIP != 0, "--ecn-ip-ect", fmt.Sprint(info[2]))
	}
}

// Modes of struct ipt_ttl_info and ip6t_hl_info.
const (
	ttlEqual = iota
	ttlNotEqual
	ttlLess
	ttlGreater
)

// matchTTL is ttl_mt and hl_mt6.
func matchTTL(c *call) (bool, error) {
	n, want := c.ttl(), uint64(c.info[1])
	name := "TTL"
	if c.family == skb.IPv6 {
		name = "hop limit"
	}
	switch c.info[0] {
	case ttlEqual, ttlNotEqual:
		return c.decide(n.within(want, want), fmt.Sprintf("%s %d", name, want)) == (c.info[0] == ttlEqual), nil
	case ttlLess:
		if want == 0 {
			return false, nil
		}
		return c.decide(n.within(0, want-1), fmt.Sprintf("%s less than %d", name, want)), nil
	case ttlGreater:
		return c.decide(n.within(want+1, 255), fmt.Sprintf("%s greater than %d", name, want)), nil
	}
	return false, nil
}

func textTTLMatch(name string) func(*writer, []byte) {
	return func(w *writer, info []byte) {
		switch info[0] {
		case ttlEqual, ttlNotEqual:
			w.inv(info[0] == ttlNotEqual, "--"+name+"-eq")
		case ttlLess:
			w.word("--" + name + "-lt")
		case ttlGreater:
			w.word("--" + name + "-gt")
		}
		w.word(fmt.Sprint(info[1]))
	}
}

// matchLength is length_mt and length_mt6.
func matchLength(c *call) (bool, error) {
	low, high := uint64(u16(c.info, 0)), uint64(u16(c.info, 2))
	return c.decide(c.length().within(low, high), "packet length "+span(low, high)) != (c.info[4] != 0), nil
}

func textLength(w *writer, info []byte) {
	w.inv(info[4] != 0, "--length", span(uint64(u16(info, 0)), uint64(u16(info, 2))))
}

// matchSPI is esp_mt and ah_mt; the SPI lies at off in the header.
func matchSPI(off int) func(*call) (bool, error) {
	return func(c *call) (bool, error) {
		if c.decide(fragment(c.p), "the packet is a further fragment") {
			return false, nil
		}
		low, high := uint64(u32(c.info, 0)), uint64(u32(c.info, 4))
		return c.decide(numberOf(c.transport(off, 4)).within(low, high), "SPI "+span(low, high)) != (c.info[8]&1 != 0), nil
	}
}

func textSPI(option string) func(*writer, []byte) {
	return func(w *writer, info []byte) {
		low, high, inv := u32(info, 0), u32(info, 4), info[8]&1 != 0
		if low != 0 || high != ^uint32(0) || inv {
			w.inv(inv, option, span(uint64(low), uint64(high)))
		}
	}
}

// matchIPComp is comp_mt: the CPI is 16 bits wide.
func matchIPComp(c *call) (bool, error) {
	if c.decide(fragment(c.p), "the packet is a further fragment") {
		return false, nil
	}
	low, high := uint64(u32(c.info, 0)), uint64(u32(c.info, 4))
	return c.decide(numberOf(c.transport(2, 2)).within(low, high), "CPI "+span(low, high)) != (c.info[8]&1 != 0), nil
}

func textIPComp(w *writer, info []byte) {
	textSPI("--ipcompspi")(w, info)
	w.flag(info[9] != 0, "--compres")
}

// matchTCPMSS is tcpmss_mt.
func matchTCPMSS(c *call) (bool, error) {
	low, high, invert := uint64(u16(c.info, 0)), uint64(u16(c.info, 2)), c.info[4] != 0
	condition := "MSS " + span(low, high)
	if low == 0 && high == 0xffff {
		condition = "the segment has an MSS option"
	}
	v, k := c.transport(12, 1)
	if k[0]&0xf0 != 0xf0 {
		return c.depends("%s", condition) != invert, nil
	}
	length := int(v[0]>>4)*4 - 20
	if length < 0 {
		c.hotdrop = true
		return false, nil
	}
	opts, known := c.transport(20, length)
	for i := 0; i < length; {
		if known[i] != 0xff || i+1 < length && known[i+1] != 0xff {
			return c.depends("%s", condition) != invert, nil
		}
		if opts[i] == 2 && length-i >= 4 && opts[i+1] == 4 {
			return c.decide(numberOf(opts[i+2:i+4], known[i+2:i+4]).within(low, high), condition) != invert, nil
		}
		if opts[i] < 2 || i+1 >= length {
			i++
		} else {
			i += max(int(opts[i+1]), 1)
		}
	}
	return invert, nil
}

func textTCPMSSMatch(w *writer, info []byte) {
	w.inv(info[4] != 0, "--mss", span(uint64(u16(info, 0)), uint64(u16(info, 2))))
}
