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
		before := routingKey(b.p)
		w.runTable(b, t, start, nil, func(b *branch) {
			// ipt_mangle_out routes again when the packet's addresses, mark or TOS changed.
			if t.Name == "mangle" && b.p.Hook == skb.Output && routingKey(b.p) != before {
				w.reroute(b, next)
				return
			}
			next(b)
		})
	}}
}

// returnTo is the stack of a legacy table: the offsets behind the jumps.
type returnTo struct {
	off   uint32
	below *returnTo
}

// runTable evaluates a legacy table's rules from an offset on (ipt_do_table).
func (w *walk) runTable(b *branch, t *xtables.Table, off uint32, stack *returnTo, next func(*branch)) {
	for !w.stopped() {
		r, err := t.Rule(off)
		if err != nil {
			w.fail(err)
			return
		}
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
				if to, s, goesOn := w.followLegacy(way, t, r, stack, next); goesOn {
					w.runTable(way.b, t, to, s, next)
				}
			}
			return
		}
		b = ways[0].b
		to, s, goesOn := w.followLegacy(ways[0], t, r, stack, next)
		if !goesOn {
			return
		}
		off, stack = to, s
	}
}

// followLegacy does what a rule's result asks for; goesOn is false when the table is left.
func (w *walk) followLegacy(way alternative, t *xtables.Table, r xtables.Rule, stack *returnTo, next func(*branch)) (to uint32, s *returnTo, goesOn bool) {
	b, res := way.b, way.res
	name := ""
	if res.Matched && (res.Action != "" || res.Code != rule.Continue) && !r.ChainEnd && !(r.Policy && res.Code == rule.Accept) {
		h, by, err := w.legacyHop(b, t, r, res)
		if err != nil {
			w.fail(err)
			return 0, nil, false
		}
		name = by
		w.hop(b, h)
	}
	switch res.Code {
	case rule.Continue:
		return r.Next, stack, true
	case rule.Accept:
		next(b)
		return 0, nil, false
	case rule.Return:
		if stack == nil {
			policy, ok := t.Policy(b.p.Hook)
			if !ok {
				w.fail(fmt.Errorf("legacy table %s has no policy at %s", t.Name, b.p.Hook))
				return 0, nil, false
			}
			return policy, nil, true
		}
		return stack.off, stack.below, true
	case rule.Jump:
		return way.target, &returnTo{r.Next, stack}, true
	case rule.Goto:
		return way.target, stack, true
	}
	w.verdict(b, res, name)
	return 0, nil, false
}

// legacyHop describes a rule that acted, and names it.
func (w *walk) legacyHop(b *branch, t *xtables.Table, r xtables.Rule, res rule.Result) (trace.Hop, string, error) {
	at, err := t.Locate(r.Offset)
	if err != nil {
		return trace.Hop{}, "", err
	}
	h := trace.Hop{Hook: b.p.Hook.String(), Table: "legacy " + t.Name, Chain: at.Chain, Action: res.Action, Says: res.Says}
	if t.Family == skb.IPv6 {
		h.Table = "legacy ip6 " + t.Name
	}
	if r.Policy {
		h.Action = "policy " + strings.ToLower(strings.TrimPrefix(res.Action, "policy "))
		return h, fmt.Sprintf("the policy of chain %s in legacy table %s", at.Chain, t.Name), nil
	}
	h.Rule = &trace.Rule{Handle: uint64(at.Number), Text: w.xt.RuleText(w.ctx, t, at), Comment: t.Comment(at), Packets: &r.Packets, Bytes: &r.Bytes}
	return h, fmt.Sprintf("rule %d of chain %s in legacy table %s", at.Number, at.Chain, t.Name), nil
}
