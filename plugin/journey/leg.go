package journey

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

const (
	// mostCrossings bounds how often a packet may go from node to node: more is a loop.
	mostCrossings = 6
	// mostBranches bounds how many branches of one walk are followed to other nodes.
	mostBranches = 64
)

// leg is the part of a journey on one node, with the legs that its outcomes lead to.
type leg struct {
	node  string
	trace *trace.Trace
	// failed is the agent's answer when it could not walk, and err why the agent could not be asked.
	failed *wire.Error
	err    error
	// next holds for each outcome where it goes on; nil for an end.
	next []*onward
}

// onward is how an outcome goes on: a leg, or why there is none.
type onward struct {
	crossing
	leg     *leg
	stop    string
	bounded bool
}

// entries gives the connection tracking entries that a walk is to find on a node.
type entries func(node string) []trace.Tracked

// leg walks a packet on a node and on all the nodes that it goes to from there.
func (g *Guide) leg(ctx context.Context, node string, r wire.WalkRequest, assume entries, depth int) *leg {
	l := &leg{node: node}
	if assume != nil {
		r.Reply, r.Assume = true, assume(node)
	}
	ans, err := g.ask(ctx, node, r)
	if err != nil {
		l.err = err
		return l
	}
	if l.trace, l.failed = ans.Walk, ans.Error; l.failed != nil {
		return l
	}
	l.next = g.onwards(node, l.trace.Outcomes, depth)
	var wg sync.WaitGroup
	for i, n := range l.next {
		if n == nil || n.stop != "" {
			continue
		}
		wg.Go(func() {
			n.leg = g.leg(ctx, n.node, n.request(r.Protocol, &l.trace.Outcomes[i]), assume, depth+1)
			n.settle()
		})
	}
	wg.Wait()
	return l
}

// onwards finds the outcomes that go on elsewhere. Of very many, an even choice over the nodes is followed.
func (g *Guide) onwards(node string, outs []trace.Outcome, depth int) []*onward {
	next := make([]*onward, len(outs))
	by := map[string][]int{}
	for i := range outs {
		c, ok := g.crossing(node, &outs[i])
		if !ok {
			continue
		}
		next[i] = &onward{crossing: c}
		by[c.node] = append(by[c.node], i)
		if depth >= mostCrossings {
			next[i].stop, next[i].bounded = "the packet goes round between nodes", true
		}
	}
	share := mostBranches
	if len(by) > 0 {
		share = max(1, mostBranches/len(by))
	}
	for n, branches := range by {
		for _, i := range branches[min(share, len(branches)):] {
			next[i].stop, next[i].bounded = fmt.Sprintf("%d other branches to %s are", share, n), true
		}
	}
	return next
}

// settle turns a leg that could not be walked into the reason for a stop.
func (n *onward) settle() {
	switch {
	case errors.Is(n.leg.err, ErrLimit):
		n.stop, n.bounded = "the node is beyond --max-nodes", true
	case n.leg.err != nil:
		n.stop = n.leg.err.Error()
	case n.leg.failed != nil:
		n.stop = n.leg.failed.Message
	}
	if n.stop != "" {
		n.leg = nil
	}
}

// sameAddress reports whether an outcome ends at the client's own address.
func sameAddress(o *trace.Outcome, packet trace.Packet) bool {
	return o.Destination.Addr().Unmap() == packet.Source.Addr().Unmap()
}

func familyOf(o *trace.Outcome) intent.Family { return intent.FamilyOf(o.Destination.Addr()) }

// lastHop is the last step of an outcome; nil when it has none.
func lastHop(t *trace.Trace, o *trace.Outcome) *trace.Hop {
	if len(o.Path) == 0 {
		return nil
	}
	return &t.Hops[o.Path[len(o.Path)-1]]
}

// nodesOf lists the nodes that an outcome's path passes, in order.
func nodesOf(t *trace.Trace, o *trace.Outcome) []string {
	var out []string
	for _, i := range o.Path {
		out = append(out, t.Hops[i].Node)
	}
	return slices.Compact(out)
}
