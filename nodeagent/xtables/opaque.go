package xtables

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// opaqueMatches are printed, but what decides them is not read: xt_ipvs.c, xt_l2tp.c.
var opaqueMatches = []module{
	{name: "ipvs", modelled: Depends, effect: inert, note: "IPVS connections are not asked", revisions: []revision{{size: 40, match: matchIPVS, text: textIPVS}}},
	{name: "l2tp", modelled: Unknown, effect: inert, note: "printed by name only", revisions: []revision{{rev: 0, size: 11}}},
}

// opaqueTargets are printed by name only.
var opaqueTargets = []module{
	{name: "ULOG", family: skb.IPv4, modelled: Yes, effect: inert, note: "gone since Linux 3.17; printed by name only",
		revisions: []revision{{size: 0, target: targetInert("ulog")}}},
}

// Bits of struct xt_ipvs_mtinfo.
const (
	ipvsProperty = 1 << 0
	ipvsProto    = 1 << 1
	ipvsAddr     = 1 << 2
	ipvsPort     = 1 << 3
	ipvsDir      = 1 << 4
	ipvsMethod   = 1 << 5
	ipvsPortCtl  = 1 << 6
)

func matchIPVS(c *call) (bool, error) {
	w := &writer{family: c.family}
	textIPVS(w, c.info)
	return c.depends("IPVS connection: %s", w.String()), nil
}

func textIPVS(w *writer, info []byte) {
	inv, bits := info[38], info[39]
	put := func(bit byte, words ...string) {
		if bits&bit != 0 {
			w.inv(inv&bit != 0, words...)
		}
	}
	if bits == ipvsProperty {
		w.inv(inv&ipvsProperty != 0, "--ipvs")
	}
	put(ipvsProto, "--vproto", fmt.Sprint(info[34]))
	put(ipvsAddr, "--vaddr", w.conntrackAddr(info[0:16], info[16:32]))
	put(ipvsPort, "--vport", fmt.Sprint(be16(info, 32)))
	if bits&ipvsDir != 0 {
		direction := "ORIGINAL"
		if inv&ipvsDir != 0 {
			direction = "REPLY"
		}
		w.word("--vdir", direction)
	}
	method := map[byte]string{0: "MASQ", 2: "IPIP", 3: "GATE"}[info[35]]
	if method == "" {
		method = "UNKNOWN"
	}
	put(ipvsMethod, "--vmethod", method)
	put(ipvsPortCtl, "--vportctl", fmt.Sprint(be16(info, 36)))
}
