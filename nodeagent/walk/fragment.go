package walk

import (
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// prioDefrag is where fragments are put together, in PREROUTING and OUTPUT (NF_IP_PRI_CONNTRACK_DEFRAG).
const prioDefrag = -400

// defragment makes a fragment the whole packet (ipv4_conntrack_defrag, ipv6_defrag). The kernel keeps the fragment until the
// others are there; the walk goes on as the packet that they make. IPv6 leaves the fragments of a packet that came back by lo
// alone; IPv4 does not, with NAT in the kernel.
func (w *walk) defragment(b *branch, next func(*branch)) {
	if b.p.Defragments() && b.p.State != skb.CtUntracked && (b.p.Ct == nil || b.p.Family != skb.IPv6) {
		w.join(b, "connection tracking needs whole packets: the fragment waits for the others, and this is what becomes of the packet")
	}
	next(b)
}

// defragmentWhereOn is defragment where the kernel does not tell whether it has the function at the hook.
func (w *walk) defragmentWhereOn(b *branch, next func(*branch)) {
	if !b.p.Defragments() {
		next(b)
		return
	}
	on, err := w.defragments(b.p.Family)
	if err != nil {
		w.fail(err)
		return
	}
	if on {
		w.defragment(b, next)
		return
	}
	next(b)
}

func (w *walk) join(b *branch, says string) {
	b.p.Defragment()
	w.hop(b, trace.Hop{Hook: b.p.Hook.String(), Action: "defragmentation", Says: says})
}

// defragments tells whether the namespace puts fragments together before rules: as long as connection tracking, or a rule
// that looks for sockets, needs it.
func (w *walk) defragments(f skb.Family) (bool, error) {
	if active, err := w.conntrackActive(f); active || err != nil {
		return active, err
	}
	tables, err := w.legacyTables(f)
	if err != nil {
		return false, err
	}
	for _, t := range tables {
		if t.UsesDefrag() {
			return true, nil
		}
	}
	if w.noNFT {
		return false, nil
	}
	all, err := w.ns.NFTChains(w.ctx)
	if err != nil {
		return false, err
	}
	for _, o := range all {
		c, err := nftables.DecodeChain(o)
		if err != nil {
			return false, err
		}
		k := chainKey{c.Family, c.Table, c.Name}
		if k.family != node.NFTInet && k.family != node.NFTFamily(f) {
			continue
		}
		rules, err := w.chainRules(k, nil)
		if err != nil {
			return false, err
		}
		for i := range rules.raw {
			if r, err := rules.rule(k, i); err != nil || r.UsesDefrag() {
				return err == nil, err
			}
		}
	}
	return false, nil
}
