package xtables

import (
	"fmt"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// mangleTargets rewrite header fields: xt_HL.c, xt_DSCP.c (also TOS), ipt_ECN.c, xt_TCPMSS.c, xt_TCPOPTSTRIP.c,
// xt_CHECKSUM.c.
var mangleTargets = []module{
	{name: "TTL", family: skb.IPv4, modelled: Yes, revisions: []revision{{size: 2, target: targetTTL, text: textTTL("ttl")}}},
	{name: "HL", family: skb.IPv6, modelled: Yes, revisions: []revision{{size: 2, target: targetTTL, text: textTTL("hl")}}},
	{name: "DSCP", modelled: Yes, revisions: []revision{{size: 1, target: targetDSCP, text: textDSCP}}},
	{name: "TOS", modelled: Yes, revisions: []revision{{rev: 1, size: 2, target: targetTOS, text: textTOS}}},
	{name: "ECN", family: skb.IPv4, modelled: Yes, revisions: []revision{{size: 3, target: targetECN, text: textECN}}},
	{name: "TCPMSS", modelled: Yes, note: "the options become unknown", revisions: []revision{{size: 2, target: targetTCPOptions("set the MSS"), text: textTCPMSS}}},
	{name: "TCPOPTSTRIP", modelled: Yes, note: "the options become unknown", revisions: []revision{{size: 32, target: targetTCPOptions("strip TCP options"), text: textTCPOptStrip}}},
	{name: "CHECKSUM", modelled: Yes, effect: inert, revisions: []revision{{size: 1, target: targetInert("fill in the checksum"), text: textChecksum}}},
}

// Modes of struct ipt_TTL_info and ip6t_HL_info.
const (
	ttlSet = iota
	ttlInc
	ttlDec
)

// targetTTL is ttl_tg and hl_tg6: it stops at 0 and 255.
func targetTTL(c *call) (rule.Result, error) {
	off := 8
	if c.family == skb.IPv6 {
		off = 7
	}
	n, by := c.ttl(), int(c.info[1])
	value := int(n.value)
	switch c.info[0] {
	case ttlSet:
		value = by
	case ttlInc:
		value = min(value+by, 255)
	case ttlDec:
		value = max(value-by, 0)
	default:
		return rule.Result{}, nil
	}
	if c.info[0] != ttlSet && !n.certain() {
		c.p.Forget(off, 1)
		return rule.Result{Action: "change the TTL"}, nil
	}
	c.p.SetNetwork(off, []byte{byte(value)})
	return rule.Result{Action: fmt.Sprintf("ttl set %d", value)}, nil
}

func textTTL(name string) func(*writer, []byte) {
	return func(w *writer, info []byte) {
		if int(info[0]) < 3 {
			w.word("--"+name+"-"+[]string{"set", "inc", "dec"}[info[0]], fmt.Sprint(info[1]))
		}
	}
}

// setDsfield writes the type of service byte or traffic class.
func setDsfield(p *skb.Packet, value, known byte) {
	if p.Family == skb.IPv4 {
		p.SetNetworkBits(1, []byte{value}, []byte{known})
		return
	}
	v, k, _ := p.Network(0, 2)
	p.SetNetworkBits(0, []byte{v[0]&0xf0 | value>>4, v[1]&0x0f | value<<4}, []byte{k[0]&0xf0 | known>>4, k[1]&0x0f | known<<4})
}

// change gives the bits of keep their old value and sets the others.
func (c *call) changeDsfield(keep, value byte) (rule.Result, error) {
	v, k := dsfield(c.p)
	setDsfield(c.p, v&keep^value, k|^keep)
	return rule.Result{Action: fmt.Sprintf("type of service set 0x%02x/0x%02x", value, ^keep)}, nil
}

// targetDSCP is dscp_tg: the ECN bits stay.
func targetDSCP(c *call) (rule.Result, error) { return c.changeDsfield(3, c.info[0]<<2) }

func textDSCP(w *writer, info []byte) { w.word("--set-dscp", fmt.Sprintf("0x%02x", info[0])) }

// targetTOS is tos_tg: bits outside the mask are exclusive-ored with the value.
func targetTOS(c *call) (rule.Result, error) {
	v, k := dsfield(c.p)
	value, mask := c.info[0], c.info[1]
	setDsfield(c.p, v&^mask^value, k|mask)
	return rule.Result{Action: fmt.Sprintf("type of service set 0x%02x/0x%02x", value, mask)}, nil
}

func textTOS(w *writer, info []byte) {
	w.word("--set-tos", fmt.Sprintf("0x%02x/0x%02x", info[0], info[1]))
}

// targetECN is ecn_tg.
func targetECN(c *call) (rule.Result, error) {
	op := c.info[0]
	if op&ecnIP != 0 {
		if _, err := c.changeDsfield(0xfc, c.info[1]&3); err != nil {
			return rule.Result{}, err
		}
	}
	if c.p.Proto() == skb.TCP {
		v, k := c.p.TCPFlags()
		for _, f := range []struct{ op, bit, flag byte }{{ecnECE, 1, 0x40}, {ecnCWR, 2, 0x80}} {
			if op&f.op != 0 {
				v, k = v&^f.flag, k|f.flag
				if c.info[2]&f.bit != 0 {
					v |= f.flag
				}
			}
		}
		c.p.SetTCPFlags(v, k)
	}
	return rule.Result{Action: "change the ECN fields"}, nil
}

func textECN(w *writer, info []byte) {
	op := info[0]
	if op&(ecnECE|ecnCWR) == ecnECE|ecnCWR && info[2]&3 == 0 {
		w.word("--ecn-tcp-remove")
	} else {
		w.flag(op&ecnECE != 0, "--ecn-tcp-ece", fmt.Sprint(info[2]&1))
		w.flag(op&ecnCWR != 0, "--ecn-tcp-cwr", fmt.Sprint(info[2]>>1&1))
	}
	w.flag(op&ecnIP != 0, "--ecn-ip-ect", fmt.Sprint(info[1]))
}

// tcpOptionRoom is the most that TCP options take.
const tcpOptionRoom = 40

func targetTCPOptions(action string) func(*call) (rule.Result, error) {
	return func(c *call) (rule.Result, error) {
		if c.p.Proto() != skb.TCP {
			return rule.Result{}, nil
		}
		l4 := c.p.TransportOffset()
		c.p.Forget(l4+20, tcpOptionRoom)
		if strings.Contains(action, "MSS") {
			// An MSS option may be put in: header and packet grow by 4 bytes.
			v, k := c.transport(12, 1)
			c.p.SetNetworkBits(l4+12, v, []byte{k[0] & 0x0f})
			if c.family == skb.IPv4 {
				c.p.Forget(2, 2)
			} else {
				c.p.Forget(4, 2)
			}
		}
		return rule.Result{Action: action}, nil
	}
}

// clampMSS is XT_TCPMSS_CLAMP_PMTU.
const clampMSS = 0xffff

func textTCPMSS(w *writer, info []byte) {
	if mss := u16(info, 0); mss == clampMSS {
		w.word("--clamp-mss-to-pmtu")
	} else {
		w.word("--set-mss", fmt.Sprint(mss))
	}
}

func textTCPOptStrip(w *writer, info []byte) {
	var list []string
	for i := range 256 {
		if u32(info, i/32*4)&(1<<(i%32)) != 0 {
			list = append(list, fmt.Sprint(i))
		}
	}
	w.flag(len(list) > 0, "--strip-options", strings.Join(list, ","))
}

func textChecksum(w *writer, info []byte) { w.flag(info[0]&1 != 0, "--checksum-fill") }
