package facts

import (
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/owner"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

// legacy looks for kube-proxy's chains in legacy tables that are in use. A table that was never used is not read: reading
// would create it.
func (c *collector) legacy() error {
	for _, f := range []skb.Family{skb.IPv4, skb.IPv6} {
		names, err := c.m.LegacyTables(c.ctx, f)
		if err != nil {
			return err
		}
		for _, table := range []string{"nat", "filter", "mangle"} {
			if !slices.Contains(names, table) {
				continue
			}
			info, entries, err := c.m.LegacyTable(c.ctx, f, table)
			if err != nil {
				return err
			}
			t, err := xtables.DecodeTable(f, table, info, entries)
			if err != nil {
				return err
			}
			if err := c.legacyTable(t); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *collector) legacyTable(t *xtables.Table) error {
	starts := map[string]uint32{}
	names := map[uint32]string{}
	err := t.Chains(func(x xtables.Chain) bool {
		if !x.Builtin {
			starts[x.Name], names[x.Start] = x.Start, x.Name
		}
		return true
	})
	if err != nil {
		return err
	}
	jumps := map[string][]string{}
	for base, hook := range builtinHooks {
		if jumps[base], err = legacyJumps(t, hook, names); err != nil {
			return err
		}
		for _, to := range jumps[base] {
			if name := owner.Of("legacy "+t.Name, to); name != "" && name != owner.KubeProxy {
				c.owned(name, "chain "+to+" in table legacy "+t.Name)
			}
		}
	}
	for _, w := range c.chainsOf() {
		if w.table != t.Name {
			continue
		}
		start, present := starts[w.name]
		x := wire.Chain{Backend: "legacy", Family: t.Family.String(), Table: t.Name, Name: w.name, Present: present, Expected: w.from != nil}
		for _, base := range w.from {
			if slices.Contains(jumps[base], w.name) {
				x.From = append(x.From, base)
			} else {
				x.NotFrom = append(x.NotFrom, base)
			}
		}
		if present && w.list {
			if x.Rules, err = c.legacyRules(t, start); err != nil {
				return err
			}
		}
		c.out.Chains = append(c.out.Chains, x)
	}
	return nil
}

// legacyJumps lists the chains that a built-in chain jumps to.
func legacyJumps(t *xtables.Table, h skb.Hook, names map[uint32]string) ([]string, error) {
	off, ok := t.Hook(h)
	if !ok {
		return nil, nil
	}
	var out []string
	for {
		r, err := t.Rule(off)
		if err != nil {
			return nil, err
		}
		if to, ok := r.JumpTarget(); ok {
			out = append(out, names[to])
		}
		if r.Policy {
			return out, nil
		}
		off = r.Next
	}
}

func (c *collector) legacyRules(t *xtables.Table, start uint32) ([]wire.ChainRule, error) {
	e := &xtables.Evaluator{Env: c.m}
	var out []wire.ChainRule
	for r, err := t.First(start); len(out) < maxListed; r, err = t.Next(r) {
		if err != nil {
			return nil, err
		}
		if r.ChainEnd {
			break
		}
		out = append(out, wire.ChainRule{Handle: uint64(r.Number), Text: e.RuleText(c.ctx, t, r), Packets: r.Packets})
	}
	return out, nil
}
