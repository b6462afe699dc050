//go:build linux

package probe

import (
	"context"
	"errors"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// What showed where a connection went (wire.ProbeAttempt.SeenBy).
const (
	seenByConntrack = "conntrack"
	seenByTrace     = "trace"
	seenByDrop      = "drop"
)

// first is the tuple of the connection's first packet.
func (a *attempt) first() skb.Tuple { return a.tuples[0] }

// seen records where the connection's packets go.
func (a *attempt) seen(t skb.Tuple, by string) {
	a.out.FinalSource, a.out.FinalDestination, a.out.SeenBy = t.Src, t.Dst, by
}

// track looks the connection up in a namespace where its packets have tuple t, and returns the tuple that they leave with.
func (p *place) track(ctx context.Context, a *attempt, t skb.Tuple) (skb.Tuple, error) {
	c, _, err := p.conns.Lookup(ctx, t, 0)
	if errors.Is(err, node.ErrNotFound) {
		return t, nil
	}
	if err != nil {
		return t, err
	}
	a.out.Tracked = append(a.out.Tracked, trace.Tracked{
		Namespace: p.label, Key: p.id, Protocol: skb.ProtoName(c.Orig.Proto),
		Source: c.Orig.Src, Destination: c.Orig.Dst, ReplySource: c.Reply.Src, ReplyDestination: c.Reply.Dst,
		Mark: trace.Mark(c.Mark), Zone: c.Zone,
	})
	left := c.Reply.Reverse()
	a.tuples = append(a.tuples, left)
	a.seen(left, seenByConntrack)
	return left, nil
}

// owns reports whether a packet belongs to the connection, in either direction, before or after its translations.
func (a *attempt) owns(t skb.Tuple) bool {
	for _, own := range a.tuples {
		if t == own || t == own.Reverse() {
			return true
		}
	}
	// A packet that is dropped on its way has no entry yet: its source, which is ours alone, tells it, and the answer's
	// destination.
	return t.Src == a.src || t.Dst == a.src
}
