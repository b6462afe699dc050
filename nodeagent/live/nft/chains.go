//go:build linux

package nft

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// NFTTables returns the tables of all families.
func (r *Reader) NFTTables(ctx context.Context) ([]node.NFTObject, error) {
	return r.objects(ctx, "nftables tables", unix.NFT_MSG_GETTABLE)
}

// NFTChains returns the chains of all families. The kernel has no filter for them.
func (r *Reader) NFTChains(ctx context.Context) ([]node.NFTObject, error) {
	return r.objects(ctx, "nftables chains", unix.NFT_MSG_GETCHAIN)
}

func (r *Reader) objects(ctx context.Context, what string, msg uint16) ([]node.NFTObject, error) {
	var out []node.NFTObject
	err := r.all(ctx, what, msg, unix.AF_UNSPEC, nil, func(o node.NFTObject) error {
		out = append(out, kept(o))
		return nil
	}, func() { out = nil })
	if err != nil {
		return nil, err
	}
	return out, nil
}

// NFTBaseChains returns the base chains of one family. No kernel lists them alone, so that all chains of the family are
// received; what has no hook is dropped where it lies.
func (r *Reader) NFTBaseChains(ctx context.Context, f node.NFTFamily) ([]node.NFTObject, error) {
	var out []node.NFTObject
	err := r.all(ctx, "nftables chains", unix.NFT_MSG_GETCHAIN, f, nil, func(o node.NFTObject) error {
		base := false
		err := each(o.Attrs, func(typ uint16, _ []byte) { base = base || typ == unix.NFTA_CHAIN_HOOK })
		if base {
			out = append(out, kept(o))
		}
		return err
	}, func() { out = nil })
	if err != nil {
		return nil, err
	}
	return out, nil
}

// NFTChain returns one chain.
func (r *Reader) NFTChain(ctx context.Context, f node.NFTFamily, table, chain string) (node.NFTObject, error) {
	attrs := attrString(nil, unix.NFTA_CHAIN_TABLE, table)
	attrs = attrString(attrs, unix.NFTA_CHAIN_NAME, chain)
	return r.one(ctx, fmt.Sprintf("nftables chain %s of table %s %s", chain, f, table), unix.NFT_MSG_GETCHAIN, f, attrs)
}

// NFTGeneration returns the generation counter of the rule set: every commit counts it up.
func (r *Reader) NFTGeneration(ctx context.Context) (uint32, error) {
	o, err := r.one(ctx, "the nftables generation", unix.NFT_MSG_GETGEN, unix.AF_UNSPEC, nil)
	if err != nil {
		return 0, err
	}
	b, err := find(o.Attrs, attrGenerationID)
	if err != nil || len(b) < 4 {
		return 0, &node.ReadError{What: "the nftables generation", Err: fmt.Errorf("an answer of %d bytes: %w", len(b), err)}
	}
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]), nil
}
