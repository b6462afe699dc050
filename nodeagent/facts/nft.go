package facts

import (
	"errors"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/owner"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/walk"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

// nativeTable is the table of kube-proxy's nftables mode, nativeChain the base chain that every release has.
const (
	nativeTable = "kube-proxy"
	nativeChain = "nat-prerouting"
)

// nft looks for kube-proxy's chains in nftables, and for the owners of what base chains jump to.
func (c *collector) nft() error {
	for _, f := range []skb.Family{skb.IPv4, skb.IPv6} {
		n := node.NFTFamily(f)
		native, err := c.nftChain(n, nativeTable, nativeChain)
		if err != nil {
			return err
		}
		c.out.Chains = append(c.out.Chains, wire.Chain{Backend: "nftables", Family: f.String(), Table: nativeTable, Name: nativeChain, Present: native, Expected: true})
		for _, w := range c.chainsOf() {
			x := wire.Chain{Backend: "nft", Family: f.String(), Table: w.table, Name: w.name, Expected: w.from != nil}
			if x.Present, err = c.nftChain(n, w.table, w.name); err != nil {
				return err
			}
			if x.Present && w.list {
				if x.Rules, err = c.nftRules(n, w.table, w.name); err != nil {
					return err
				}
			}
			for _, base := range w.from {
				to, err := c.nftJumps(n, w.table, base)
				if err != nil {
					return err
				}
				if slices.Contains(to, w.name) {
					x.From = append(x.From, base)
				} else {
					x.NotFrom = append(x.NotFrom, base)
				}
			}
			c.out.Chains = append(c.out.Chains, x)
		}
	}
	return c.nftOwners()
}

// gone tells errors that only say that something is not there.
func gone(err error) bool {
	return errors.Is(err, node.ErrNotFound) || errors.Is(err, node.ErrNotSupported)
}

func (c *collector) nftChain(f node.NFTFamily, table, chain string) (bool, error) {
	_, err := c.m.NFTChain(c.ctx, f, table, chain)
	if gone(err) {
		return false, nil
	}
	return err == nil, err
}

// nftJumps lists the chains that the rules of a chain jump to.
func (c *collector) nftJumps(f node.NFTFamily, table, chain string) ([]string, error) {
	rules, err := c.m.NFTRules(c.ctx, f, table, chain)
	if gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, raw := range rules {
		r, err := nftables.DecodeRule(f, table, chain, raw)
		if err != nil {
			return nil, err
		}
		out = append(out, r.Targets()...)
	}
	return out, nil
}

func (c *collector) nftRules(f node.NFTFamily, table, chain string) ([]wire.ChainRule, error) {
	rules, err := c.m.NFTRules(c.ctx, f, table, chain)
	if err != nil {
		return nil, err
	}
	e := &nftables.Evaluator{Env: c.m, Compat: walk.Extensions(&xtables.Evaluator{Env: c.m})}
	var out []wire.ChainRule
	for _, raw := range rules[:min(len(rules), maxListed)] {
		r, err := nftables.DecodeRule(f, table, chain, raw)
		if err != nil {
			return nil, err
		}
		packets, _, _ := r.Counter()
		out = append(out, wire.ChainRule{Handle: r.Handle, Text: e.Text(c.ctx, r), Packets: packets})
	}
	return out, nil
}

// nftOwners recognises programs by their tables, and by the chains that base chains jump to.
func (c *collector) nftOwners() error {
	for _, f := range []node.NFTFamily{node.NFTInet, node.NFTIPv4, node.NFTIPv6} {
		objects, err := c.m.NFTBaseChains(c.ctx, f)
		if gone(err) {
			continue
		}
		if err != nil {
			return err
		}
		for _, o := range objects {
			chain, err := nftables.DecodeChain(o)
			if err != nil {
				return err
			}
			table := f.String() + " " + chain.Table
			if chain.Table == nativeTable {
				continue
			}
			if name := owner.Of(table, chain.Name); name != "" {
				c.owned(name, "table "+table)
				continue
			}
			to, err := c.nftJumps(f, chain.Table, chain.Name)
			if err != nil {
				return err
			}
			for _, t := range to {
				if name := owner.Of(table, t); name != "" && name != owner.KubeProxy {
					c.owned(name, "chain "+t+" in table "+table)
				}
			}
		}
	}
	return nil
}
