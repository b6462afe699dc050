//go:build linux

package oracle

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

// A construct decides a packet's fate when the fate would be another had the construct answered otherwise. A rule acts when
// all its matches hold and all its expressions go through; one that answers otherwise makes the rule one that does not act.
// So the engine is asked again with a rule that never acts in the place of one on the packet's way: when what was then seen
// is not among the outcomes, each construct of that rule decided.

// ruleKey names a rule as a hop does.
type ruleKey struct {
	table, chain string
	handle       uint64
}

func keyOf(h trace.Hop) ruleKey { return ruleKey{h.Table, h.Chain, h.Rule.Handle} }

// maxCounterfactuals bounds how often the engine is asked again about one packet.
const maxCounterfactuals = 8

// counterfactuals asks the engine about a packet without the rules of its way that have a construct whose count is short.
func (b *bench) counterfactuals(ctx context.Context, o *Observation) map[ruleKey]*trace.Trace {
	if b.Short == nil || o.Trace == nil {
		return nil
	}
	without := map[ruleKey]*trace.Trace{}
	o.constructs = map[ruleKey][]string{}
	for _, h := range o.Trace.Hops {
		if h.Rule == nil || len(without) == maxCounterfactuals {
			continue
		}
		k := keyOf(h)
		names := b.constructsOf(ctx, h)
		o.constructs[k] = names
		if _, done := without[k]; done || !slices.ContainsFunc(names, b.Short) {
			continue
		}
		if t, err := evaluate(ctx, o.Start, &k, b.derived); err == nil {
			without[k] = t
		}
	}
	return without
}

// decided tells whether the rule decided the observed fate.
func (o *Observation) decided(c *Case, k ruleKey) bool {
	t := o.without[k]
	if t == nil {
		return false
	}
	other := *o
	other.Trace = t
	return !slices.ContainsFunc(t.Outcomes, func(out trace.Outcome) bool {
		return out.Verdict == trace.Undetermined || fit(c, &other, o.Fate, out)
	})
}

// constructsOf names what a rule is made of: for iptables rules of the nft backend what the kernel has, not what the text
// shows.
func (b *bench) constructsOf(ctx context.Context, h trace.Hop) []string {
	if strings.HasPrefix(h.Table, "legacy ") {
		return xtConstructs(h.Rule.Text)
	}
	k := keyOf(h)
	if names, ok := b.expressions[k]; ok {
		return names
	}
	names, err := nftConstructs(ctx, k)
	if err != nil {
		names = nil // the rule is gone, or another reader has failed: nothing is counted
	}
	b.expressions[k] = names
	return names
}

// xtConstructs names the matches and the target of a legacy rule.
func xtConstructs(text string) []string {
	var out []string
	f := strings.Fields(text)
	for i := 0; i+1 < len(f); i++ {
		switch f[i] {
		case "-m":
			out = append(out, "match "+f[i+1])
		case "-j":
			if targets[f[i+1]] {
				out = append(out, "target "+f[i+1])
			}
		case "-g":
			out = append(out, "goto")
		case "-s", "-d", "-i", "-o", "-p", "-f":
			out = append(out, f[i])
		case "!":
			out = append(out, "inversion")
		}
	}
	if len(f) > 0 && f[len(f)-1] == "-f" {
		out = append(out, "-f")
	}
	return out
}

// targets are the names of iptables' targets, to tell them from chains.
var targets = func() map[string]bool {
	m := map[string]bool{}
	for _, e := range xtables.Extensions() {
		if e.Kind == xtables.Target {
			m[e.Name] = true
		}
	}
	return m
}()

// nftConstructs names the expressions of a rule, and the extensions in it.
func nftConstructs(ctx context.Context, k ruleKey) ([]string, error) {
	n, err := live.OpenNode()
	if err != nil {
		return nil, err
	}
	defer n.Close()
	ns, _, err := n.Namespace(ctx, node.Home)
	if err != nil {
		return nil, err
	}
	family, table := splitTable(k.table)
	raw, err := ns.NFTRules(ctx, family, table, k.chain)
	if err != nil {
		return nil, err
	}
	for _, attrs := range raw {
		r, err := nftables.DecodeRule(family, table, k.chain, attrs)
		if err != nil || r.Handle != k.handle {
			continue
		}
		var out []string
		for _, x := range r.Exprs {
			out = append(out, "nft "+x.Name())
			switch x := x.(type) {
			case *nftables.CompatMatch:
				out = append(out, "match "+x.Match)
			case *nftables.CompatTarget:
				out = append(out, "target "+x.Target)
			}
		}
		return out, nil
	}
	return nil, fmt.Errorf("rule %v: %w", k, node.ErrNotFound)
}

func splitTable(s string) (node.NFTFamily, string) {
	name, table, _ := strings.Cut(s, " ")
	for _, f := range []node.NFTFamily{node.NFTInet, node.NFTIPv4, node.NFTIPv6, node.NFTBridge, node.NFTNetdev, node.NFTARP} {
		if f.String() == name {
			return f, table
		}
	}
	return 0, table
}

// lacking is a node in which one rule never acts.
type lacking struct {
	node.Node
	rule ruleKey
}

// Namespace returns the namespace with that rule disarmed.
func (l lacking) Namespace(ctx context.Context, id string) (node.Namespace, string, error) {
	ns, label, err := l.Node.Namespace(ctx, id)
	return disarmed{ns, l.rule}, label, err
}

type disarmed struct {
	node.Namespace
	rule ruleKey
}

// NFTRules puts a comparison that never holds in front of the rule.
func (d disarmed) NFTRules(ctx context.Context, f node.NFTFamily, table, chain string) ([][]byte, error) {
	raw, err := d.Namespace.NFTRules(ctx, f, table, chain)
	if err != nil {
		return nil, err
	}
	return d.disarm(f, table, chain, raw)
}

// NFTRulesFor does the same.
func (d disarmed) NFTRulesFor(ctx context.Context, f node.NFTFamily, table, chain string, misses func([]byte) bool) (node.NFTRules, error) {
	list, err := d.Namespace.NFTRulesFor(ctx, f, table, chain, misses)
	if err != nil {
		return list, err
	}
	list.Rules, err = d.disarm(f, table, chain, list.Rules)
	return list, err
}

func (d disarmed) disarm(f node.NFTFamily, table, chain string, raw [][]byte) (_ [][]byte, err error) {
	if f.String()+" "+table != d.rule.table || chain != d.rule.chain {
		return raw, nil
	}
	raw = slices.Clone(raw)
	for i, attrs := range raw {
		if r, err := nftables.DecodeRule(f, table, chain, attrs); err == nil && r.Handle == d.rule.handle {
			if raw[i], err = disarm(attrs); err != nil {
				return nil, err
			}
		}
	}
	return raw, nil
}

// disarm rewrites the attributes of a rule.
func disarm(attrs []byte) ([]byte, error) {
	const (
		nested      = nlattr.Nested
		expressions = 4 // NFTA_RULE_EXPRESSIONS
		element     = 1 // NFTA_LIST_ELEM
		register    = 8 // NFT_REG32_00
	)
	expression := func(name string, data []byte) []byte {
		return nlattr.Append(nil, element|nested, nlattr.Append(nlattr.Append(nil, 1, nlattr.String(name)), 2|nested, data))
	}
	value := func(v uint32) []byte { return nlattr.Append(nil, 1, nlattr.BigUint32(v)) }
	load := nlattr.Append(nlattr.Append(nil, 1, nlattr.BigUint32(register)), 2|nested, value(0))
	compare := nlattr.Append(nlattr.Append(nlattr.Append(nil, 1, nlattr.BigUint32(register)), 2, nlattr.BigUint32(0)), 3|nested, value(1))
	var out []byte
	err := nlattr.Each(attrs, func(typ uint16, payload []byte) error {
		if typ == expressions {
			payload = slices.Concat(expression("immediate", load), expression("cmp", compare), payload)
			typ |= nested
		}
		out = nlattr.Append(out, typ, payload)
		return nil
	})
	return out, err
}

// LegacyTable makes the rule ask for a source address that no packet has.
func (d disarmed) LegacyTable(ctx context.Context, f skb.Family, table string) (info, entries []byte, err error) {
	info, entries, err = d.Namespace.LegacyTable(ctx, f, table)
	name := "legacy " + table
	if f == skb.IPv6 {
		name = "legacy ip6 " + table
	}
	if err != nil || name != d.rule.table {
		return info, entries, err
	}
	entries = slices.Clone(entries)
	t, err := xtables.DecodeTable(f, table, info, entries)
	if err != nil {
		return nil, nil, err
	}
	off, err := offsetOf(t, d.rule)
	if err != nil {
		return nil, nil, err
	}
	size, mask, inversions := 4, 8, 83
	if f == skb.IPv6 {
		size, mask, inversions = 16, 32, 132
	}
	e := entries[off:]
	for i := range size {
		e[i], e[mask+i] = 0xff, 0xff
	}
	const invertedSource = 0x08
	e[inversions] &^= invertedSource
	return info, entries, nil
}

// offsetOf finds a rule in a legacy table.
func offsetOf(t *xtables.Table, k ruleKey) (uint32, error) {
	start, found := uint32(0), false
	err := t.Chains(func(c xtables.Chain) bool {
		if found = c.Name == k.chain; found {
			start = c.Start
		}
		return !found
	})
	if err != nil || !found {
		return 0, fmt.Errorf("no chain %s: %w", k.chain, node.ErrNotFound)
	}
	r, err := t.First(start)
	for ; err == nil && uint64(r.Number) < k.handle; r, err = t.Next(r) {
	}
	return r.Offset, err
}
