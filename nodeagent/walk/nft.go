package walk

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// maxDepth is the kernel's bound on nested jumps (NFT_JUMP_STACK_SIZE).
const maxDepth = 16

// chainFunction is a base chain as a hook function.
func chainFunction(c nftables.Chain) function {
	return function{c.Priority, "nftables chain " + c.Family.String() + " " + c.Table + " " + c.Name, func(w *walk, b *branch, next func(*branch)) {
		before := routingKey(b.p)
		w.runChain(b, c, func(b *branch) {
			if c.Type == "route" && b.p.Hook == skb.Output && routingKey(b.p) != before {
				w.reroute(b, next)
				return
			}
			next(b)
		})
	}}
}

// position is where a packet is in a base chain.
type position struct {
	chain chainKey
	rule  int
	stack *frame // chains to return to
	depth int
}

type frame struct {
	chain chainKey
	rule  int
	below *frame
}

func (w *walk) runChain(b *branch, base nftables.Chain, next func(*branch)) {
	w.runRules(b, base, position{chain: chainKey{base.Family, base.Table, base.Name}}, next)
}

// runRules evaluates rules from a position on until the base chain has a verdict.
func (w *walk) runRules(b *branch, base nftables.Chain, at position, next func(*branch)) {
	for !w.stopped() {
		rules, err := w.chainRules(at.chain, b.p)
		if err != nil {
			w.fail(err)
			return
		}
		i := rules.next(at.chain.family, at.rule, b.p)
		if i < 0 {
			if at.stack == nil {
				w.policy(b, base, next)
				return
			}
			at.chain, at.rule, at.stack, at.depth = at.stack.chain, at.stack.rule, at.stack.below, at.depth-1
			continue
		}
		r, err := rules.rule(at.chain, i)
		if err != nil {
			w.fail(err)
			return
		}
		ways := w.try(b, func(p *skb.Packet, ch *rule.Chooser) (xtResult, error) {
			res, err := w.nft.Eval(w.ctx, r, p, ch)
			return xtResult{Result: res}, err
		})
		at.rule = rules.number(i) + 1
		if len(ways) != 1 {
			if w.branches > maxBranches {
				w.tooMany(b)
				return
			}
			for _, way := range ways {
				if to, goesOn := w.followNFT(way, r, base, at, next); goesOn {
					w.runRules(way.b, base, to, next)
				}
			}
			return
		}
		b = ways[0].b
		to, goesOn := w.followNFT(ways[0], r, base, at, next)
		if !goesOn {
			return
		}
		at = to
	}
}

// followNFT does what a rule's result asks for; goesOn is false when the base chain is left. at is behind the rule.
func (w *walk) followNFT(way alternative, r *nftables.Rule, base nftables.Chain, at position, next func(*branch)) (to position, goesOn bool) {
	b, res := way.b, way.res
	if res.Matched && (res.Action != "" || res.Code != rule.Continue) {
		w.hop(b, w.nftHop(b, r, res))
	}
	switch res.Code {
	case rule.Continue:
		return at, true
	case rule.Accept:
		next(b)
		return at, false
	case rule.Return:
		if at.stack == nil {
			w.policy(b, base, next)
			return at, false
		}
		return position{at.stack.chain, at.stack.rule, at.stack.below, at.depth - 1}, true
	case rule.Jump, rule.Goto:
		to := position{chain: chainKey{at.chain.family, at.chain.table, res.Chain}, stack: at.stack, depth: at.depth}
		if res.Code == rule.Jump {
			to.stack, to.depth = &frame{at.chain, at.rule, at.stack}, at.depth+1
			if to.depth > maxDepth {
				w.fail(fmt.Errorf("chain %s %s jumps more than %d deep", at.chain.table, at.chain.name, maxDepth))
				return at, false
			}
		}
		return to, true
	}
	w.verdict(b, res, ruleName(r))
	return at, false
}

func ruleName(r *nftables.Rule) string {
	return fmt.Sprintf("rule %d of chain %s in table %s %s", r.Handle, r.Chain, r.Family, r.Table)
}

// ruleText prints a rule, once for all branches that come to it.
func (w *walk) ruleText(r *nftables.Rule) string {
	text, ok := w.texts[r]
	if !ok {
		text = w.nft.Text(w.ctx, r)
		w.texts[r] = text
	}
	return text
}

// nftHop describes a rule that acted.
func (w *walk) nftHop(b *branch, r *nftables.Rule, res rule.Result) trace.Hop {
	tr := &trace.Rule{Handle: r.Handle, Text: w.ruleText(r), Comment: r.Comment}
	if packets, bytes, ok := r.Counter(); ok {
		tr.Packets, tr.Bytes = &packets, &bytes
	}
	return trace.Hop{Hook: b.p.Hook.String(), Table: r.Family.String() + " " + r.Table, Chain: r.Chain, Rule: tr, Action: res.Action, Says: res.Says}
}

// policy ends a base chain whose rules gave no verdict.
func (w *walk) policy(b *branch, base nftables.Chain, next func(*branch)) {
	if base.Policy != rule.Drop {
		next(b)
		return
	}
	w.hop(b, trace.Hop{Hook: b.p.Hook.String(), Table: base.Family.String() + " " + base.Table, Chain: base.Name, Action: "policy drop"})
	w.end(b, end{verdict: trace.Dropped, reason: fmt.Sprintf("the policy of chain %s in table %s %s is drop", base.Name, base.Family, base.Table)})
}

// verdict ends a branch by a rule's final result.
func (w *walk) verdict(b *branch, res rule.Result, by string) {
	switch res.Code {
	case rule.Drop:
		w.end(b, end{verdict: trace.Dropped, reason: by + " drops it"})
	case rule.Reject:
		w.end(b, end{verdict: trace.Rejected, with: res.With, reason: by + " rejects it"})
	case rule.Queue:
		b.assume(rule.Assumption{Unknown: &trace.Unknown{What: "the program behind " + res.Action, Where: by}})
		w.end(b, end{verdict: trace.Undetermined, reason: by + " hands it to a program"})
	case rule.Stolen:
		if res.Out != "" {
			// nf_fwd_netdev_egress: as it is, past the rest of the stack.
			b.route, b.p.Out = node.Route{Type: node.RouteUnicast, Out: res.Out}, res.Out
			w.egress(b, func(b *branch) { w.end(b, end{verdict: trace.Forwarded}) })
			return
		}
		fallthrough
	default:
		b.assume(rule.Assumption{Unknown: &trace.Unknown{What: res.Action, Where: by}})
		w.end(b, end{verdict: trace.Undetermined, reason: by + " takes it out of the path"})
	}
}
