package nftables

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// Attributes and flags of a table (enum nft_table_attributes, include/uapi/linux/netfilter/nf_tables.h).
const (
	attrTableName     = 1
	attrTableFlags    = 2
	attrTableHandle   = 4
	attrTableUserdata = 6

	tableDormant = 1
)

// Table is a table's header.
type Table struct {
	Family node.NFTFamily
	Name   string
	Handle uint64
	// Dormant is true when its base chains are not registered: no packet passes them.
	Dormant bool
	// Comment is the table's comment, empty when it has none.
	Comment string
}

// DecodeTable reads an NFT_MSG_NEWTABLE message.
func DecodeTable(o node.NFTObject) (Table, error) {
	t, err := attributes(o.Attrs).find(attrTableUserdata)
	if err != nil {
		return Table{}, fmt.Errorf("decoding a table: %w", err)
	}
	if !t.has(attrTableName) {
		return Table{}, fmt.Errorf("decoding a table: %w: no name", ErrMalformed)
	}
	return Table{
		Family:  o.Family,
		Name:    t.str(attrTableName),
		Handle:  t.u64(attrTableHandle),
		Dormant: t.u32(attrTableFlags)&tableDormant != 0,
		Comment: userdataComment(t[attrTableUserdata]),
	}, nil
}
