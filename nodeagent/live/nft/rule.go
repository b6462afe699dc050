//go:build linux

package nft

import (
	"context"
	"encoding/binary"
	"fmt"

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

// Table returns the NFT_MSG_NEWTABLE message of one table, or ErrNotFound.
func (r *Reader) Table(ctx context.Context, f node.NFTFamily, table string) ([]byte, error) {
	o, err := r.one(ctx, fmt.Sprintf("nftables table %s %s", f, table), unix.NFT_MSG_GETTABLE, f, attrString(nil, unix.NFTA_TABLE_NAME, table))
	return o.Attrs, err
}
