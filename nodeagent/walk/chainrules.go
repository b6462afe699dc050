package walk

import (
	"errors"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// keepDecoded bounds the rules of a chain that are kept decoded.
const keepDecoded = 512

type chainKey struct {
	family      node.NFTFamily
	table, name string
}

// chainRules are the rules of one chain: all, or those that are left for one packet.
type chainRules struct {
	raw [][]byte
	// numbers are the places of the rules in the chain, from 0 on; nil when all are there.
	numbers []int
	// packet is the packet for which rules were left out; nil when all are there.
	packet *skb.Packet
	// decoded are the rules that were decoded, nil for a chain that is too long.
	decoded []*nftables.Rule
}

// chainRules returns the rules of a chain that p may not miss, and perhaps others; all for a nil p. A long chain is read for
// the first packet that comes to it, and once more, whole, when a packet with other bytes does.
func (w *walk) chainRules(k chainKey, p *skb.Packet) (*chainRules, error) {
	known := w.rules[k]
	if known != nil && (known.packet == nil || p != nil && p.SameBytes(known.packet)) {
		return known, nil
	}
	r := &chainRules{}
	var err error
	if known == nil && p != nil {
		var list node.NFTRules
		list, err = w.ns.NFTRulesFor(w.ctx, k.family, k.table, k.name, func(rule []byte) bool { return nftables.Misses(k.family, rule, p) })
		if r.raw, r.numbers = list.Rules, list.Numbers; r.numbers != nil {
			r.packet = p.Clone()
		}
	} else {
		r.raw, err = w.ns.NFTRules(w.ctx, k.family, k.table, k.name)
	}
	if errors.Is(err, node.ErrNotFound) {
		return nil, errChanged
	}
	if err != nil {
		return nil, err
	}
	if len(r.raw) <= keepDecoded {
		r.decoded = make([]*nftables.Rule, len(r.raw))
	}
	w.rules[k] = r
	return r, nil
}

// next returns the index of the first rule, of a chain of family f, that p does not miss, from a place in the chain on; -1 when there is none.
func (r *chainRules) next(f node.NFTFamily, from int, p *skb.Packet) int {
	i := from
	if r.packet != nil {
		i, _ = slices.BinarySearch(r.numbers, from)
	}
	for ; i < len(r.raw); i++ {
		if !nftables.Misses(f, r.raw[i], p) {
			return i
		}
	}
	return -1
}

// number is the place in the chain of the rule with an index.
func (r *chainRules) number(i int) int {
	if r.packet != nil {
		return r.numbers[i]
	}
	return i
}

// rule decodes the rule with an index.
func (r *chainRules) rule(k chainKey, i int) (*nftables.Rule, error) {
	if r.decoded != nil && r.decoded[i] != nil {
		return r.decoded[i], nil
	}
	d, err := nftables.DecodeRule(k.family, k.table, k.name, r.raw[i])
	if err == nil && r.decoded != nil {
		r.decoded[i] = d
	}
	return d, err
}
