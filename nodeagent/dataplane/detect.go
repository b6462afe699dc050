// Package dataplane tells from a node's kernel state what translates Services there. It reads what stands in the kernel,
// not what a configuration says.
package dataplane

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

// The entry chain of kube-proxy's iptables and IPVS modes, and the base chain of its nftables mode.
const (
	entryChain = "KUBE-SERVICES"
	nftTable   = "kube-proxy"
	nftChain   = "nat-prerouting"
)

// State is what detection reads.
type State interface {
	node.LegacyTables
	node.NFTables
}

// Detect returns the dataplanes whose state stands in the kernel, the active ones first.
func Detect(ctx context.Context, s State) ([]wire.Dataplane, error) {
	out := []wire.Dataplane{}
	for _, f := range []skb.Family{skb.IPv4, skb.IPv6} {
		for _, detect := range []func(context.Context, State, skb.Family) (*wire.Dataplane, error){nativeNFT, iptablesNFT, iptablesLegacy} {
			d, err := detect(ctx, s, f)
			if err != nil {
				return nil, err
			}
			if d != nil {
				d.Name, d.Family = "kube-proxy", f.String()
				out = append(out, *d)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b wire.Dataplane) int {
		switch {
		case a.Active == b.Active:
			return 0
		case a.Active:
			return -1
		}
		return 1
	})
	return out, nil
}

func nftFamily(f skb.Family) node.NFTFamily {
	if f == skb.IPv6 {
		return node.NFTIPv6
	}
	return node.NFTIPv4
}

// absent tells errors that only say that something is not there.
func absent(err error) bool {
	return errors.Is(err, node.ErrNotFound) || errors.Is(err, node.ErrNotSupported)
}

func nativeNFT(ctx context.Context, s State, f skb.Family) (*wire.Dataplane, error) {
	o, err := s.NFTChain(ctx, nftFamily(f), nftTable, nftChain)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := nftables.DecodeChain(o)
	if err != nil {
		return nil, err
	}
	return &wire.Dataplane{
		Mode: "nftables", Active: c.Base,
		Evidence: fmt.Sprintf("table %s %s with base chain %s", nftFamily(f), nftTable, nftChain),
	}, nil
}

func iptablesNFT(ctx context.Context, s State, f skb.Family) (*wire.Dataplane, error) {
	family := nftFamily(f)
	_, err := s.NFTChain(ctx, family, "nat", entryChain)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d := &wire.Dataplane{Mode: "iptables (nft)", Evidence: fmt.Sprintf("chain %s in table %s nat", entryChain, family)}
	for _, base := range []string{"PREROUTING", "OUTPUT"} {
		rules, err := s.NFTRules(ctx, family, "nat", base)
		if absent(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, raw := range rules {
			r, err := nftables.DecodeRule(family, "nat", base, raw)
			if err != nil {
				return nil, err
			}
			if slices.Contains(r.Targets(), entryChain) {
				d.Active = true
				d.Evidence += ", reached from " + base
				return d, nil
			}
		}
	}
	d.Evidence += ", which no base chain jumps to"
	return d, nil
}

func iptablesLegacy(ctx context.Context, s State, f skb.Family) (*wire.Dataplane, error) {
	names, err := s.LegacyTables(ctx, f)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(names, "nat") {
		return nil, nil
	}
	info, entries, err := s.LegacyTable(ctx, f, "nat")
	if err != nil {
		return nil, err
	}
	t, err := xtables.DecodeTable(f, "nat", info, entries)
	if err != nil {
		return nil, err
	}
	start, found := uint32(0), false
	err = t.Chains(func(c xtables.Chain) bool {
		if c.Name == entryChain {
			start, found = c.Start, true
		}
		return !found
	})
	if err != nil || !found {
		return nil, err
	}
	d := &wire.Dataplane{Mode: "iptables (legacy)", Evidence: fmt.Sprintf("chain %s in the legacy %s nat table", entryChain, f)}
	for _, h := range []skb.Hook{skb.Prerouting, skb.Output} {
		reached, err := jumpsTo(t, h, start)
		if err != nil {
			return nil, err
		}
		if reached {
			d.Active = true
			d.Evidence += ", reached from " + h.String()
			return d, nil
		}
	}
	d.Evidence += ", which no built-in chain jumps to"
	return d, nil
}

// jumpsTo reports whether a rule of a built-in chain jumps to the chain that starts at an offset.
func jumpsTo(t *xtables.Table, h skb.Hook, start uint32) (bool, error) {
	off, ok := t.Hook(h)
	if !ok {
		return false, nil
	}
	for {
		r, err := t.Rule(off)
		if err != nil {
			return false, err
		}
		if to, ok := r.JumpTarget(); ok && to == start {
			return true, nil
		}
		if r.Policy {
			return false, nil
		}
		off = r.Next
	}
}
