package walk

import (
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// end records how a branch ends in this namespace.
func (w *walk) end(b *branch, e end) {
	if e.verdict == trace.Forwarded || e.verdict == trace.Delivered || e.verdict == trace.Local {
		w.remember(b)
	}
	w.finishBranch(b, e)
}

// remember notes the connection tracking entry that the packet has made in this namespace, for the walk of the reply.
func (w *walk) remember(b *branch) {
	c := b.p.Ct
	if c == nil || !c.New {
		return
	}
	b.tracked = &tracked{trace.Tracked{
		Node: w.start.Node, Namespace: w.label, Key: w.id, Protocol: skb.ProtoName(c.Orig.Proto),
		Source: c.Orig.Src, Destination: c.Orig.Dst, ReplySource: c.Reply.Src, ReplyDestination: c.Reply.Dst,
		Mark: trace.Mark(c.Mark), Zone: c.Zone, ReplyZone: c.ReplyZone,
	}, b.tracked}
}

// assumedEntry finds the entry among those that the walk is told to take as there. Ports that nobody knows agree with any.
func (w *walk) assumedEntry(t skb.Tuple, z zones) (c *skb.Conn, reply bool) {
	for _, a := range w.start.Assume {
		if a.Key != w.id || a.Protocol != skb.ProtoName(t.Proto) {
			continue
		}
		orig := a.Zone == z.orig && agrees(t, a.Source, a.Destination)
		back := a.ReplyZone == z.reply && agrees(t, a.ReplySource, a.ReplyDestination)
		if !orig && !back {
			continue
		}
		c := &skb.Conn{
			Orig:  skb.Tuple{Proto: t.Proto, Src: a.Source, Dst: a.Destination},
			Reply: skb.Tuple{Proto: t.Proto, Src: a.ReplySource, Dst: a.ReplyDestination},
			Mark:  uint32(a.Mark), Zone: a.Zone, ReplyZone: a.ReplyZone,
			Status: skb.StatusConfirmed | skb.StatusSrcNATDone | skb.StatusDstNATDone,
		}
		if a.ReplySource != a.Destination {
			c.Status |= skb.StatusDstNAT
		}
		if a.ReplyDestination != a.Source {
			c.Status |= skb.StatusSrcNAT
		}
		return c, back
	}
	return nil, false
}

func agrees(t skb.Tuple, src, dst netip.AddrPort) bool {
	same := func(a, b netip.AddrPort) bool {
		return a.Addr() == b.Addr() && (a.Port() == b.Port() || a.Port() == 0 || b.Port() == 0)
	}
	return same(t.Src, src) && same(t.Dst, dst)
}
