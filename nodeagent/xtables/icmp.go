package xtables

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// icmpMatches test type and code: icmp_match in net/ipv4/netfilter/ip_tables.c, icmp6_match in its IPv6 twin.
var icmpMatches = []module{
	{name: "icmp", family: skb.IPv4, modelled: Yes, effect: inert, revisions: []revision{{size: 4, match: matchICMP, text: textICMP("--icmp-type")}}},
	{name: "icmp6", family: skb.IPv6, modelled: Yes, effect: inert, revisions: []revision{{size: 4, match: matchICMP, text: textICMP("--icmpv6-type")}}},
}

// anyICMPType is the type of an icmp match that stands for all; icmp6 has none.
const anyICMPType = 0xff

func matchICMP(c *call) (bool, error) {
	if c.decide(fragment(c.p), "the packet is a further fragment") {
		return false, nil
	}
	invert := c.info[3]&1 != 0
	if c.info[0] == anyICMPType && c.family == skb.IPv4 {
		return !invert, nil
	}
	v, k := c.transport(0, 2)
	t := both(numberOf(v[:1], k[:1]).within(uint64(c.info[0]), uint64(c.info[0])),
		numberOf(v[1:], k[1:]).within(uint64(c.info[1]), uint64(c.info[2])))
	return c.decide(t, fmt.Sprintf("icmp type %d code %s", c.info[0], span(uint64(c.info[1]), uint64(c.info[2])))) != invert, nil
}

// both is the three-valued and.
func both(a, b tri) tri { return either(a.not(), b.not()).not() }

func textICMP(option string) func(*writer, []byte) {
	return func(w *writer, info []byte) {
		s := fmt.Sprint(info[0])
		if info[1] == info[2] {
			s += fmt.Sprintf("/%d", info[1])
		} else if info[1] != 0 || info[2] != 0xff {
			s += fmt.Sprintf("/%d-%d", info[1], info[2])
		}
		if info[0] == anyICMPType && w.family == skb.IPv4 {
			s = "any"
		}
		w.inv(info[3]&1 != 0, option, s)
	}
}
