package walk

import (
	"fmt"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

// tableFunction is a legacy table as a hook function.
func tableFunction(t *xtables.Table, priority int32) function {
	return function{priority, "legacy iptables table " + t.Name, func(w *walk, b *branch, next func(*branch)) {
		start, ok := t.Hook(b.p.Hook)
		if !ok {
			next(b)
			return
		}
		r, err := t.First(start)
		if err != nil {
			w.fail(err)
			return
		}
		before := routingKey(b.p)
		w.runTable(b, t, tablePosition{start, r.Chain, 1, nil}, func(b *branch) {
			// ipt_mangle_out routes again when the packet's addresses, mark or TOS changed.
			if t.Name == "mangle" && b.p.Hook == skb.Output && routingKey(b.p) != before {
				w.reroute(b, next)
				return
			}
			next(b)
		})
	}}
}

// tablePosition is where a packet is in a legacy table.
type tablePosition struct {
	off uint32
	// chain and number name the rule there: the chain's number-th. A chain's entries lie one behind the other. The number is
	// 0 where a RETURN has gone on at the policy.
	chain  string
	number int
	// stack is where a RETURN goes on, nil in the built-in chain.
	stack *tablePosition
}

// behind is the position of the next entry of the chain.
func (at tablePosition) behind(r xtables.Rule) tablePosition {
	at.off = r.Next
	if at.number > 0 {
		at.number++
	}
	return at
}

// runTable evaluates a legacy table's rules from a position on (ipt_do_table).
func (w *walk) runTable(b *branch, t *xtables.Table, at tablePosition, next func(*branch)) {
	for !w.stopped() {
		r, err := t.Rule(at.off)
		if err != nil {
			w.fail(err)
			return
		}
		if !t.MayMatch(r, b.p) {
			at = at.behind(r)
			continue
		}
		r.Chain, r.Number = at.chain, at.number
		ways := w.try(b, func(p *skb.Packet, ch *rule.Chooser) (xtResult, error) {
			res, err := w.xt.EvalRule(w.ctx, t, r, p, ch)
			return xtResult{res.Result, res.Target}, err
		})
		if len(ways) != 1 {
			if w.branches > maxBranches {
				w.tooMany(b)
				return
			}
			for _, way := range ways {
				if to, goesOn := w.followLegacy(way, t, r, at, next); goesOn {
					w.runTable(way.b, t, to, next)
				}
			}
			return
		}
		b = ways[0].b
		to, goesOn := w.followLegacy(ways[0], t, r, at, next)
		if !goesOn {
			return
		}
		at = to
	}
}

// followLegacy does what the result of rule r at a position asks for; goesOn is false when the table is left.
func (w *walk) followLegacy(way alternative, t *xtables.Table, r xtables.Rule, at tablePosition, next func(*branch)) (to tablePosition, goesOn bool) {
	b, res := way.b, way.res
	name := ""
	if res.Matched && (res.Action != "" || res.Code != rule.Continue) && !r.ChainEnd && !(r.Policy && res.Code == rule.Accept) {
		h, by := w.legacyHop(b, t, r, res)
		name = by
		w.hop(b, h)
	}
	switch res.Code {
	case rule.Continue:
		return at.behind(r), true
	case rule.Accept:
		next(b)
		return at, false
	case rule.Return:
		if at.stack != nil {
			return *at.stack, true
		}
		start, _ := t.Hook(b.p.Hook)
		policy, ok := t.Policy(b.p.Hook)
		chain, named := t.ChainName(start)
		if !ok || !named {
			w.fail(fmt.Errorf("legacy table %s has no policy at %s", t.Name, b.p.Hook))
			return at, false
		}
		return tablePosition{off: policy, chain: chain}, true
	case rule.Jump:
		back := at.behind(r)
		return tablePosition{way.target, res.Chain, 1, &back}, true
	case rule.Goto:
		return tablePosition{way.target, res.Chain, 1, at.stack}, true
	}
	w.verdict(b, res, name)
	return at, false
}

// legacyHop describes a rule that acted, and names it.
func (w *walk) legacyHop(b *branch, t *xtables.Table, r xtables.Rule, res rule.Result) (trace.Hop, string) {
	h := trace.Hop{Hook: b.p.Hook.String(), Table: "legacy " + t.Name, Chain: r.Chain, Action: res.Action, Says: res.Says}
	if t.Family == skb.IPv6 {
		h.Table = "legacy ip6 " + t.Name
	}
	if r.Policy {
		h.Action = "policy " + strings.ToLower(strings.TrimPrefix(res.Action, "policy "))
		return h, fmt.Sprintf("the policy of chain %s in legacy table %s", r.Chain, t.Name)
	}
	h.Rule = &trace.Rule{Handle: uint64(r.Number), Text: w.xt.RuleText(w.ctx, t, r), Comment: t.Comment(r), Packets: &r.Packets, Bytes: &r.Bytes}
	return h, fmt.Sprintf("rule %d of chain %s in legacy table %s", r.Number, r.Chain, t.Name)
}
