package xtables

import (
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// rejectTargets: net/ipv4/netfilter/ipt_REJECT.c, net/ipv6/netfilter/ip6t_REJECT.c.
var rejectTargets = []module{
	{name: "REJECT", family: skb.IPv4, modelled: Yes, revisions: []revision{{size: 4, target: targetReject, text: textReject}}},
	{name: "REJECT", family: skb.IPv6, modelled: Yes, revisions: []revision{{size: 4, target: targetReject, text: textReject}}},
}

const tcpReset = "tcp-reset"

// rejectNames are the answers by enum ipt_reject_with and enum ip6t_reject_with.
var (
	rejectNames4 = []string{"icmp-net-unreachable", "icmp-host-unreachable", "icmp-proto-unreachable", "icmp-port-unreachable", "echo-reply",
		"icmp-net-prohibited", "icmp-host-prohibited", tcpReset, "icmp-admin-prohibited"}
	rejectNames6 = []string{"icmp6-no-route", "icmp6-adm-prohibited", "icmp6-not-neighbour", "icmp6-addr-unreachable", "icmp6-port-unreachable",
		"echo-reply", tcpReset, "icmp6-policy-fail", "icmp6-reject-route"}
)

func rejectName(f skb.Family, info []byte) string {
	names := rejectNames4
	if f == skb.IPv6 {
		names = rejectNames6
	}
	if with := u32(info, 0); int64(with) < int64(len(names)) {
		return names[with]
	}
	return ""
}

// targetReject drops the packet. The kernel then answers, but never to a reset with a reset, nor with ICMP to an ICMP
// error, to what was not sent to this host alone, or to a further fragment: such a packet is dropped in silence.
func targetReject(c *call) (rule.Result, error) {
	with := rejectName(c.family, c.info)
	silent := func(why string) (rule.Result, error) {
		return rule.Result{Code: rule.Drop, Action: "drop: reject does not answer " + why}, nil
	}
	if with == "" || with == "echo-reply" {
		return silent("with type " + with)
	}
	if c.p.Fragment() && (with == tcpReset || skb.ChecksumOfAll(c.p.Proto())) {
		return silent("a fragment, whose checksum is never right")
	}
	if c.decide(fragment(c.p), "the packet is a further fragment") {
		return silent("a further fragment")
	}
	if with == tcpReset {
		if c.p.Proto() != skb.TCP {
			return silent("another protocol than tcp with a reset")
		}
		v, k := c.transport(13, 1)
		if c.decide(same(v, k, []byte{4}, []byte{4}), "the segment is a reset") {
			return silent("a reset")
		}
	} else if typ, _, isICMP := c.p.ICMPType(); isICMP && icmpError(c.family, typ) {
		return silent("an ICMP error")
	}
	if c.p.PktType != skb.PacketHost && c.p.PktType != skb.PacketLoopback || c.p.Dst().IsMulticast() {
		return silent("broadcast or multicast")
	}
	return rule.Result{Code: rule.Reject, With: with, Action: "reject with " + with}, nil
}

// icmpError reports whether an ICMP type is an error message (icmp_pointers in net/ipv4/icmp.c; below 128 in ICMPv6).
func icmpError(f skb.Family, typ uint8) bool {
	if f == skb.IPv6 {
		return typ < 128 || typ == 137
	}
	switch typ {
	case 3, 4, 5, 11, 12:
		return true
	}
	return false
}

func textReject(w *writer, info []byte) {
	w.word("--reject-with", rejectName(w.family, info))
}
