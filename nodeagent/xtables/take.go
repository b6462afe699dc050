package xtables

import (
	"fmt"
	"net"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// takeTargets take the packet out of its path: xt_NFQUEUE.c, ipt_SYNPROXY.c, ipt_CLUSTERIP.c (gone in Linux 6.4).
var takeTargets = []module{
	{name: "NFQUEUE", modelled: Yes, note: "what the program does with it is not known", revisions: []revision{
		{rev: 0, size: 2, target: targetQueue, text: textQueue},
		{rev: 1, size: 4, target: targetQueue, text: textQueue},
		{rev: 2, size: 6, target: targetQueue, text: textQueue},
		{rev: 3, size: 6, target: targetQueue, text: textQueue},
	}},
	{name: "SYNPROXY", modelled: Yes, tracks: true, note: "a client's ACK: depends on its cookie", revisions: []revision{{size: 4, target: targetSynproxy, text: textSynproxy}}},
	{name: "CLUSTERIP", family: skb.IPv4, modelled: Depends, tracks: true, revisions: []revision{{size: 56, target: targetClusterIP, text: textClusterIP}}},
}

// Flags of struct xt_NFQ_info_v3.
const (
	queueBypass = 1
	queueFanout = 2
)

// queueInfo is struct xt_NFQ_info and its revisions.
func queueInfo(rev uint8, info []byte) (first, total, flags uint16) {
	first, total = u16(info, 0), 1
	if rev >= 1 {
		total = u16(info, 2)
	}
	if rev >= 2 {
		flags = u16(info, 4)
	}
	if rev == 2 && flags != 0 {
		flags = queueBypass
	}
	return first, total, flags
}

// targetQueue hands the packet to a program, or, with --queue-bypass, lets it go on when there is none.
func targetQueue(c *call) (rule.Result, error) {
	first, total, flags := queueInfo(c.rev, c.info)
	name := "queue to " + queueText(first, total)
	if flags&queueBypass != 0 && !c.depends("a program reads queue %s", queueText(first, total)) {
		return rule.Result{Code: rule.Accept, Action: name + ": nobody reads it, accept"}, nil
	}
	return rule.Result{Code: rule.Queue, Action: name}, nil
}

func queueText(first, total uint16) string {
	if total > 1 {
		return fmt.Sprintf("%d:%d", first, uint32(first)+uint32(total)-1)
	}
	return fmt.Sprint(first)
}

func textQueue(w *writer, info []byte) {
	first, total, flags := queueInfo(w.rev, info)
	if total > 1 {
		w.word("--queue-balance", queueText(first, total))
	} else {
		w.word("--queue-num", fmt.Sprint(first))
	}
	w.flag(flags&queueBypass != 0, "--queue-bypass")
	w.flag(flags&queueFanout != 0, "--queue-cpu-fanout")
}

// targetSynproxy is synproxy_tg4 and synproxy_tg6: the kernel answers a SYN itself, and opens the connection when the
// client's ACK brings the right cookie.
func targetSynproxy(c *call) (rule.Result, error) {
	if c.p.Proto() != skb.TCP {
		return rule.Result{}, nil
	}
	v, k := c.transport(13, 1)
	if c.decide(same(v, k, []byte{0x17}, []byte{0x02}), "the segment is a SYN") {
		return rule.Result{Code: rule.Stolen, Action: "synproxy answers the SYN"}, nil
	}
	if c.decide(same(v, k, []byte{0x17}, []byte{0x10}), "the segment is an ACK") {
		if c.depends("the ACK carries the cookie of a SYN that synproxy answered") {
			return rule.Result{Code: rule.Stolen, Action: "synproxy opens the connection"}, nil
		}
		return rule.Result{Code: rule.Drop, Action: "drop: synproxy knows no such connection"}, nil
	}
	return rule.Result{}, nil
}

func textSynproxy(w *writer, info []byte) {
	options := info[0]
	w.flag(options&4 != 0, "--sack-perm")
	w.flag(options&8 != 0, "--timestamp")
	w.flag(options&2 != 0, "--wscale", fmt.Sprint(info[1]))
	w.flag(options&1 != 0, "--mss", fmt.Sprint(u16(info, 2)))
	w.flag(options&16 != 0, "--ecn")
}

// targetClusterIP is clusterip_tg: another node may be responsible for the flow.
func targetClusterIP(c *call) (rule.Result, error) {
	if c.depends("this node is responsible for the flow in the CLUSTERIP cluster") {
		c.p.PktType = skb.PacketHost
		return rule.Result{Action: "this node answers for the cluster address"}, nil
	}
	return rule.Result{Code: rule.Drop, Action: "drop: another node answers for the cluster address"}, nil
}

func textClusterIP(w *writer, info []byte) {
	if u32(info, 0)&1 == 0 {
		return
	}
	mode := u32(info, 48)
	names := []string{"sourceip", "sourceip-sourceport", "sourceip-sourceport-destport"}
	if int64(mode) >= int64(len(names)) {
		return
	}
	w.word("--new", "--hashmode", names[mode], "--clustermac", strings.ToUpper(net.HardwareAddr(info[4:10]).String()))
	w.word("--total-nodes", fmt.Sprint(u16(info, 10)), "--local-node", fmt.Sprint(u16(info, 14)), "--hash-init", fmt.Sprint(u32(info, 52)))
}
