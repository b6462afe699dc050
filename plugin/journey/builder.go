package journey

import (
	"math/big"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// builder joins legs into one trace.
type builder struct {
	trace *trace.Trace
	stops []Stop
	index map[hopKey]int
}

// hopKey tells steps apart, so that each is written once.
type hopKey struct {
	node, namespace, hook, table, chain, action, says, text string
	handle                                                  uint64
	tunnel                                                  trace.Tunnel
}

// way is what a branch has behind it when it comes to a leg.
type way struct {
	path []int
	// chance is the product of the shares so far; nil when a condition decided, which begun tells from the start.
	chance      *big.Rat
	begun       bool
	masqueraded bool
	conditions  []string
	unknown     []trace.Unknown
	tracked     []trace.Tracked
}

func newBuilder(p trace.Packet) *builder {
	return &builder{trace: trace.New(p), index: map[hopKey]int{}}
}

// add writes a hop, unless it stands there already, and returns its index.
func (b *builder) add(h trace.Hop) int {
	k := hopKey{node: h.Node, namespace: h.Namespace, hook: h.Hook, table: h.Table, chain: h.Chain, action: h.Action, says: h.Says}
	if h.Rule != nil {
		k.text, k.handle = h.Rule.Text, h.Rule.Handle
	}
	if h.Tunnel != nil {
		k.tunnel = *h.Tunnel
	}
	if i, ok := b.index[k]; ok {
		return i
	}
	b.trace.Hops = append(b.trace.Hops, h)
	b.index[k] = len(b.trace.Hops) - 1
	return b.index[k]
}

// join adds the outcomes of a leg, and of all legs after it, behind what a branch has passed before.
func (b *builder) join(l *leg, before way, entered *trace.Hop) {
	b.trace.Reads.Messages += l.trace.Reads.Messages
	b.trace.Reads.Bytes += l.trace.Reads.Bytes
	b.trace.Reads.Hooks = b.trace.Reads.Hooks.Join(l.trace.Reads.Hooks)
	if entered != nil {
		before.path = append(slices.Clone(before.path), b.add(*entered))
	}
	for i := range l.trace.Outcomes {
		o := &l.trace.Outcomes[i]
		w := before.with(o)
		for _, k := range o.Path {
			if k >= 0 && k < len(l.trace.Hops) {
				w.path = append(w.path, b.add(l.trace.Hops[k]))
			}
		}
		if n := l.next[i]; n != nil && n.leg != nil {
			h := n.hop(l.node)
			b.join(n.leg, w, &h)
			continue
		} else if n != nil {
			b.stops = append(b.stops, Stop{Outcome: len(b.trace.Outcomes), Node: n.node, Why: n.stop, Bounded: n.bounded})
		}
		b.trace.Outcomes = append(b.trace.Outcomes, w.end(o))
	}
}

// with is the way after one more outcome; its path is still that of before.
func (w way) with(o *trace.Outcome) way {
	out := way{
		path: slices.Clone(w.path), begun: true, masqueraded: w.masqueraded || o.Masqueraded,
		conditions: slices.Clone(w.conditions), unknown: slices.Clone(w.unknown), tracked: append(slices.Clone(w.tracked), o.Tracked...),
	}
	for _, c := range o.Conditions {
		if !slices.Contains(out.conditions, c) {
			out.conditions = append(out.conditions, c)
		}
	}
	for _, u := range o.Unknown {
		if !slices.Contains(out.unknown, u) {
			out.unknown = append(out.unknown, u)
		}
	}
	switch {
	case o.Probability == nil || w.begun && w.chance == nil:
	case !w.begun:
		out.chance = o.Probability.Rat()
	default:
		out.chance = new(big.Rat).Mul(w.chance, o.Probability.Rat())
	}
	return out
}

// end is an outcome at the end of a way.
func (w way) end(o *trace.Outcome) trace.Outcome {
	out := *o
	out.Path, out.Masqueraded, out.Tracked, out.Unknown = w.path, w.masqueraded, w.tracked, w.unknown
	if out.Path == nil {
		out.Path = []int{}
	}
	if out.Conditions = w.conditions; out.Conditions == nil {
		out.Conditions = []string{}
	}
	out.Probability = nil
	if w.chance != nil {
		out.Probability = trace.ProbabilityOf(w.chance)
	}
	return out
}
