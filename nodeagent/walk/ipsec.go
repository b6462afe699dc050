package walk

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// ipsec applies IPsec's policies of a direction. A packet that one blocks ends: its sender gets EPERM when it is not on its
// way yet (fresh). What a transformation makes of a packet is not modelled.
func (w *walk) ipsec(b *branch, d node.IPsecDirection, fresh bool, next func(*branch)) {
	all, err := w.ns.IPsec(w.ctx)
	if err != nil {
		w.fail(err)
		return
	}
	blocks := all.Blocks(d)
	mine := ofDirection(all.Policies, d)
	if !blocks && len(mine) == 0 {
		next(b)
		return
	}
	exempt, err := w.withoutIPsec(b, d, len(mine) == 0)
	switch {
	case err != nil:
		w.fail(err)
		return
	case exempt:
		next(b)
		return
	}
	t, ports := ipsecTuple(b.p, d)
	p, certain := decisive(mine, b.p, t, ports)
	switch {
	case !certain:
		w.unmodelled(b, fmt.Sprintf("IPsec policy %s", describeIPsec(p)), next)
	case p == nil && !blocks, p != nil && !p.Block && p.Templates == 0:
		next(b)
	case p != nil && !p.Block:
		w.unmodelled(b, fmt.Sprintf("IPsec policy %s", describeIPsec(p)), next)
	default:
		what := fmt.Sprintf("IPsec drops what no policy of direction %s allows", d)
		if p != nil {
			what = "the IPsec policy " + describeIPsec(p) + " blocks it"
		}
		e := end{verdict: trace.Dropped, reason: what}
		if fresh {
			e.verdict, e.with, e.reason = trace.Rejected, "EPERM", what+": the sender gets EPERM at once"
		}
		w.hop(b, trace.Hop{Hook: "ipsec", Action: "drop", Says: what})
		w.end(b, e)
	}
}

// ofDirection are the policies that packets of a direction meet, in the kernel's order. Those of xfrm interfaces are for packets
// that go through these.
func ofDirection(all []node.IPsecPolicy, d node.IPsecDirection) []*node.IPsecPolicy {
	var out []*node.IPsecPolicy
	for i := range all {
		if p := &all[i]; p.Direction == d && p.InterfaceID == 0 {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b *node.IPsecPolicy) int { return cmp.Compare(a.Priority, b.Priority) })
	return out
}

// withoutIPsec tells whether policies do not apply to the packet: by net.ipv4.conf.*.disable_xfrm and disable_policy, which the
// loopback interface has on from the start. defaults is true when only the direction's default would.
func (w *walk) withoutIPsec(b *branch, d node.IPsecDirection, defaults bool) (bool, error) {
	family, name, dev := "ipv4", "disable_policy", b.p.In
	if d == node.IPsecOut {
		name, dev = "disable_xfrm", b.route.Out
		link, known, err := w.link(dev)
		if err != nil || defaults && known && link.Loopback() {
			return err == nil, err
		}
	}
	if b.p.Family == skb.IPv6 {
		family = "ipv6" // which has no disable_xfrm
	}
	for _, c := range []string{"all", dev} {
		on, err := w.sysctlOn("net/" + family + "/conf/" + c + "/" + name)
		if on || err != nil {
			return on, err
		}
	}
	return false, nil
}

// ipsecTuple are the addresses and ports that policies are compared with: on the way out those of the packet, on the way in
// and through those that it had before it was translated (nf_nat_decode_session). ports tells which of them are known.
func ipsecTuple(p *skb.Packet, d node.IPsecDirection) (t skb.Tuple, ports [2]bool) {
	t = skb.Tuple{Proto: p.Proto(), Src: p.Source(), Dst: p.Destination()}
	_, ports[0] = p.SrcPort()
	_, ports[1] = p.DstPort()
	if d == node.IPsecOut || p.Ct == nil {
		return t, ports
	}
	// The entry has the packet's own tuple in its direction: what the packet was when it was looked up.
	own, other := p.Ct.Orig, p.Ct.Reply
	if p.State.Reply() {
		own, other = other, own
	}
	if changed(p, own.Dst, other.Src) {
		t.Dst = own.Dst
	}
	if changed(p, own.Src, other.Dst) {
		t.Src = own.Src
	}
	return t, ports
}

// decisive returns the first policy that takes the packet. It is not certain when one that may take it comes before, or another
// of the same priority with another effect.
func decisive(ps []*node.IPsecPolicy, p *skb.Packet, t skb.Tuple, ports [2]bool) (first *node.IPsecPolicy, certain bool) {
	for _, c := range ps {
		if first != nil && c.Priority != first.Priority {
			break
		}
		takes, sure := taken(c, p, t, ports)
		switch {
		case !takes && sure:
		case !sure, c.Sub:
			if first == nil || c.Block != first.Block || c.Templates != first.Templates {
				return c, false
			}
		case first == nil:
			first = c
		case c.Block != first.Block || c.Templates != first.Templates:
			return c, false
		}
	}
	return first, true
}

// taken tells whether a policy's selector takes the packet; sure is false when that is not known.
func taken(c *node.IPsecPolicy, p *skb.Packet, t skb.Tuple, ports [2]bool) (takes, sure bool) {
	if !covers(c.Src, t.Src.Addr()) || !covers(c.Dst, t.Dst.Addr()) || c.Proto != 0 && c.Proto != t.Proto || p.Mark&c.MarkMask != c.Mark {
		return false, true
	}
	sure = c.Interface == 0
	for i, x := range []struct{ is, want, mask uint16 }{{t.Src.Port(), c.SrcPort, c.SrcPortMask}, {t.Dst.Port(), c.DstPort, c.DstPortMask}} {
		switch {
		case x.mask == 0:
		case !ports[i]:
			sure = false
		case (x.is^x.want)&x.mask != 0:
			return false, true
		}
	}
	return true, sure
}

// covers is true for addresses of the prefix's family in it.
func covers(p netip.Prefix, a netip.Addr) bool { return p.Contains(a.Unmap()) }

func describeIPsec(p *node.IPsecPolicy) string {
	return fmt.Sprintf("src %s dst %s dir %s", p.Src, p.Dst, p.Direction)
}
