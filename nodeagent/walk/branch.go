package walk

import (
	"errors"
	"math/big"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// branch is one way the walk goes: the packet as it is there, and how it came there.
type branch struct {
	p *skb.Packet
	// prob is the product of the probabilities of the chances taken.
	prob *big.Rat
	// assumed are the conditions and unknowns assumed on the way, last first.
	assumed *assumed
	// path are the hops, last first.
	path *step
	// route is the routing decision in force.
	route node.Route
	// looped is true once the packet has come back by the loopback interface.
	looped bool
	// sent tells how the frame was addressed where the packet came from, when the walk has seen it.
	sent addressing
	// readdressed is true when the IP hooks of a bridge have changed the packet's destination.
	readdressed bool
	// tracked are the connection tracking entries that the packet has made in the namespaces behind it, last first.
	tracked *tracked
	// inner is the packet that a tunnel has wrapped, nil when p is not an outer packet; tunnel says how.
	inner  *skb.Packet
	tunnel *trace.Tunnel
	// crossings counts the namespaces that the packet has come through.
	crossings int
}

// addressing is to whom a frame was sent.
type addressing uint8

// The zero value says that it is not known: the walk started on the interface.
const (
	// toGateway: to the hardware address of a gateway.
	toGateway addressing = iota + 1
	// toDestination: to that of the destination itself.
	toDestination
)

type assumed struct {
	what   rule.Assumption
	before *assumed
}

type tracked struct {
	entry  trace.Tracked
	before *tracked
}

type step struct {
	hop    int
	before *step
}

// clone returns a branch that can go on alone.
func (b *branch) clone() *branch {
	c := *b
	c.p = b.p.Clone()
	if b.inner != nil {
		c.inner = b.inner.Clone()
	}
	return &c
}

func (b *branch) assume(a rule.Assumption) { b.assumed = &assumed{a, b.assumed} }

// assumes tells whether the branch has assumed something or its negation on its way.
func (b *branch) assumes(words string) (holds, known bool) {
	for a := b.assumed; a != nil; a = a.before {
		if a.what.Words == words {
			return !a.what.Negation, true
		}
	}
	return false, false
}

// hopKey is by what a step is known again.
type hopKey struct {
	namespace, hook, table, chain, action, says, rule string
	handle                                            uint64
	tunnel                                            netip.AddrPort
}

// hop writes a step of the branch down. A step that stands already, from another branch, is not written again.
func (w *walk) hop(b *branch, h trace.Hop) {
	h.Node, h.Namespace = w.start.Node, w.label
	key := hopKey{namespace: h.Namespace, hook: h.Hook, table: h.Table, chain: h.Chain, action: h.Action, says: h.Says}
	if h.Rule != nil {
		key.rule, key.handle = h.Rule.Text, h.Rule.Handle
	}
	if h.Tunnel != nil {
		key.tunnel = h.Tunnel.Source
	}
	i, ok := w.hopIndex[key]
	if !ok {
		i = len(w.trace.Hops)
		w.hopIndex[key] = i
		w.trace.Hops = append(w.trace.Hops, h)
	}
	b.path = &step{i, b.path}
}

// alternative is one way a rule can go.
type alternative struct {
	b   *branch
	res rule.Result
	// target is the offset of a jump in a legacy table.
	target uint32
}

// try evaluates one rule on the branch's packet, in all the ways that are open. The branches it returns are clones.
func (w *walk) try(b *branch, eval func(*skb.Packet, *rule.Chooser) (xtResult, error)) []alternative {
	type value struct {
		p   *skb.Packet
		res xtResult
	}
	found, err := rule.Enumerate(maxBranches, func(ch *rule.Chooser) (value, error) {
		p := b.p.Clone()
		res, err := eval(p, ch)
		return value{p, res}, err
	})
	if errors.Is(err, rule.ErrTooManyBranches) {
		w.tooMany(b)
		return nil
	}
	if err != nil {
		w.fail(err)
		return nil
	}
	w.branches += len(found) - 1
	out := make([]alternative, len(found))
	for i, f := range found {
		c := *b
		c.p = f.Value.p
		if f.P.Cmp(one) != 0 {
			c.prob = new(big.Rat).Mul(b.prob, f.P)
		}
		for _, a := range f.Assumptions {
			c.assume(a)
		}
		out[i] = alternative{&c, f.Value.res.Result, f.Value.res.target}
	}
	return out
}

var one = big.NewRat(1, 1)

// xtResult is a rule's result with the offset that a legacy jump goes to.
type xtResult struct {
	rule.Result
	target uint32
}

// fork splits a branch on a condition: the first way it holds, the second it does not.
func (w *walk) fork(b *branch, condition string) [2]*branch {
	yes, no := b.clone(), b
	w.branches++
	yes.assume(rule.Assumption{Condition: condition})
	no.assume(rule.Assumption{Condition: condition, Negation: true})
	return [2]*branch{yes, no}
}

// tooMany ends a branch that may not fork further.
func (w *walk) tooMany(b *branch) {
	b.assume(rule.Assumption{Unknown: &trace.Unknown{What: "more branches than the walk follows", Where: b.p.Hook.String()}})
	w.end(b, end{verdict: trace.Undetermined, reason: "the walk has too many branches"})
}
