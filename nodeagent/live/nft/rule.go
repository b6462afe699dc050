//go:build linux

package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// Rule returns the NFT_MSG_NEWRULE message of one rule, or ErrNotFound.
func (r *Reader) Rule(ctx context.Context, f node.NFTFamily, table, chain string, handle uint64) ([]byte, error) {
	attrs := attrString(nil, unix.NFTA_RULE_TABLE, table)
	attrs = attrString(attrs, unix.NFTA_RULE_CHAIN, chain)
	attrs = attr(attrs, unix.NFTA_RULE_HANDLE, binary.BigEndian.AppendUint64(nil, handle))
	what := fmt.Sprintf("nftables rule %d of chain %s of table %s %s", handle, chain, f, table)
	o, err := r.one(ctx, what, unix.NFT_MSG_GETRULE, f, attrs)
	return o.Attrs, err
}

// keepRules bounds the rules of a chain that are kept whatever the packet: packets share the rules of a chain that is not
// longer.
const keepRules = 128

// ErrLong is returned for a chain with more rules than were asked for.
var ErrLong = errors.New("the chain is long")

// NFTRules returns the rules of one chain, in order.
func (r *Reader) NFTRules(ctx context.Context, f node.NFTFamily, table, chain string) ([][]byte, error) {
	list, err := r.NFTRulesFor(ctx, f, table, chain, nil)
	return list.Rules, err
}

// NFTRulesFor returns the rules of one chain, of those behind the first only what a packet does not miss.
func (r *Reader) NFTRulesFor(ctx context.Context, f node.NFTFamily, table, chain string, misses func(rule []byte) bool) (node.NFTRules, error) {
	return r.rules(ctx, f, table, chain, misses, math.MaxInt)
}

// ShortRules returns the rules of one chain, or ErrLong in the chain of an error when there are more than bound.
func (r *Reader) ShortRules(ctx context.Context, f node.NFTFamily, table, chain string, bound int) ([][]byte, error) {
	list, err := r.rules(ctx, f, table, chain, nil, bound)
	return list.Rules, err
}

// rules reads the rules of one chain. A dump for a chain that is not there is empty, so an empty answer is checked.
func (r *Reader) rules(ctx context.Context, f node.NFTFamily, table, chain string, misses func(rule []byte) bool, bound int) (node.NFTRules, error) {
	attrs := attrString(nil, unix.NFTA_RULE_TABLE, table)
	attrs = attrString(attrs, unix.NFTA_RULE_CHAIN, chain)
	var out node.NFTRules
	var room arena
	n := 0
	what := fmt.Sprintf("nftables rules of chain %s of table %s %s", chain, f, table)
	err := r.all(ctx, what, unix.NFT_MSG_GETRULE, f, attrs, func(o node.NFTObject) error {
		if n >= bound {
			return ErrLong
		}
		if misses == nil || n < keepRules || !misses(o.Attrs) {
			out.Rules = append(out.Rules, room.keep(o.Attrs))
			if misses != nil {
				out.Numbers = append(out.Numbers, n)
			}
		}
		n++
		return nil
	}, func() { out, room, n = node.NFTRules{}, nil, 0 })
	if err != nil {
		return node.NFTRules{}, err
	}
	if n == 0 {
		if _, err := r.NFTChain(ctx, f, table, chain); err != nil {
			return node.NFTRules{}, err
		}
	}
	if len(out.Rules) == n {
		out.Numbers = nil
	}
	return out, nil
}

// Table returns the NFT_MSG_NEWTABLE message of one table, or ErrNotFound.
func (r *Reader) Table(ctx context.Context, f node.NFTFamily, table string) ([]byte, error) {
	o, err := r.one(ctx, fmt.Sprintf("nftables table %s %s", f, table), unix.NFT_MSG_GETTABLE, f, attrString(nil, unix.NFTA_TABLE_NAME, table))
	return o.Attrs, err
}
