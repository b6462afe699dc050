//go:build linux

package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

// maxRules bounds how many rules are read before and after.
const maxRules = 4096

// count is a rule's counter.
type count struct{ packets, bytes uint64 }

// counters reads the counters of rules in the namespaces that are open. A rule that went away or has no counter is left out.
func counters(ctx context.Context, n *live.Node, places []*place, rules []wire.ProbeRule) (map[wire.ProbeRule]count, error) {
	out := map[wire.ProbeRule]count{}
	for _, p := range places {
		legacy := map[string]map[wire.ProbeRule]bool{}
		for _, r := range rules[:min(len(rules), maxRules)] {
			if r.Namespace != p.label {
				continue
			}
			if table, ok := strings.CutPrefix(r.Table, "legacy "); ok {
				if legacy[table] == nil {
					legacy[table] = map[wire.ProbeRule]bool{}
				}
				legacy[table][r] = true
				continue
			}
			c, ok, err := nftCounter(ctx, p, r)
			if err != nil {
				return nil, err
			}
			if ok {
				out[r] = c
			}
		}
		for table, wanted := range legacy {
			if err := legacyCounters(ctx, n, p, table, wanted, out); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func nftCounter(ctx context.Context, p *place, r wire.ProbeRule) (count, bool, error) {
	family, table, ok := strings.Cut(r.Table, " ")
	f, known := families[family]
	if !ok || !known {
		return count{}, false, fmt.Errorf("%w: table %q has no family", ErrRequest, r.Table)
	}
	b, err := p.rules.Rule(ctx, f, table, r.Chain, r.Handle)
	if errors.Is(err, node.ErrNotFound) {
		return count{}, false, nil
	}
	if err != nil {
		return count{}, false, err
	}
	decoded, err := nftables.DecodeRule(f, table, r.Chain, b)
	if err != nil {
		return count{}, false, err
	}
	packets, bytes, ok := decoded.Counter()
	return count{packets, bytes}, ok, nil
}

var families = map[string]node.NFTFamily{
	"inet": node.NFTInet, "ip": node.NFTIPv4, "ip6": node.NFTIPv6, "arp": node.NFTARP, "netdev": node.NFTNetdev, "bridge": node.NFTBridge,
}

// legacyCounters reads one legacy table and takes the wanted rules' counters out of it.
func legacyCounters(ctx context.Context, n *live.Node, p *place, table string, wanted map[wire.ProbeRule]bool, out map[wire.ProbeRule]count) error {
	family, name := skb.IPv4, table
	if rest, ok := strings.CutPrefix(table, "ip6 "); ok {
		family, name = skb.IPv6, rest
	}
	ns, _, err := n.Namespace(ctx, p.id)
	if err != nil {
		return err
	}
	used, err := ns.LegacyTables(ctx, family)
	if err != nil {
		return err
	}
	if !slices.Contains(used, name) {
		return nil // reading it would create it
	}
	info, entries, err := ns.LegacyTable(ctx, family, name)
	if err != nil {
		return err
	}
	t, err := xtables.DecodeTable(family, name, info, entries)
	if err != nil {
		return err
	}
	chains := map[string]bool{}
	for r := range wanted {
		chains[r.Chain] = true
	}
	var failed error
	err = t.Chains(func(c xtables.Chain) bool {
		if chains[c.Name] {
			failed = chainCounters(t, c, wire.ProbeRule{Namespace: p.label, Table: "legacy " + table, Chain: c.Name}, wanted, out)
		}
		return failed == nil
	})
	return errors.Join(err, failed)
}

// chainCounters takes the counters of the wanted rules of one legacy chain. key names the chain.
func chainCounters(t *xtables.Table, c xtables.Chain, key wire.ProbeRule, wanted map[wire.ProbeRule]bool, out map[wire.ProbeRule]count) error {
	r, err := t.First(c.Start)
	for ; err == nil; r, err = t.Next(r) {
		key.Handle = uint64(r.Number)
		if wanted[key] {
			out[key] = count{r.Packets, r.Bytes}
		}
		if r.Policy || r.ChainEnd {
			return nil
		}
	}
	return err
}

// moved lists the counters that differ, in the order of the rules.
func moved(rules []wire.ProbeRule, before, after map[wire.ProbeRule]count) []wire.ProbeCounter {
	out := []wire.ProbeCounter{}
	for _, r := range rules {
		a, was := before[r]
		b, is := after[r]
		if was && is && b.packets > a.packets {
			out = append(out, wire.ProbeCounter{ProbeRule: r, Packets: b.packets - a.packets, Bytes: b.bytes - a.bytes})
		}
	}
	return out
}
