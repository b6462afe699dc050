//go:build linux

package nft

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// Attributes that golang.org/x/sys/unix does not name (include/uapi/linux/netfilter/nf_tables.h).
const (
	attrGenerationID = 1 // NFTA_GEN_ID

	elementListTable    = 1 // NFTA_SET_ELEM_LIST_TABLE
	elementListSet      = 2 // NFTA_SET_ELEM_LIST_SET
	elementListElements = 3 // NFTA_SET_ELEM_LIST_ELEMENTS

	listElement     = 1  // NFTA_LIST_ELEM
	elementKey      = 1  // NFTA_SET_ELEM_KEY
	elementFlags    = 3  // NFTA_SET_ELEM_FLAGS
	elementCatchAll = 2  // NFT_SET_ELEM_CATCHALL
	dataValue       = 1  // NFTA_DATA_VALUE
	objectTable     = 1  // NFTA_OBJ_TABLE
	objectName      = 2  // NFTA_OBJ_NAME
	objectType      = 3  // NFTA_OBJ_TYPE
	getObject       = 19 // NFT_MSG_GETOBJ
)

// errMalformed is an answer that no kernel gives.
var errMalformed = errors.New("a malformed netlink message")

// NFTSet returns one set's header.
func (r *Reader) NFTSet(ctx context.Context, f node.NFTFamily, table, set string) ([]byte, error) {
	attrs := attrString(nil, unix.NFTA_SET_TABLE, table)
	attrs = attrString(attrs, unix.NFTA_SET_NAME, set)
	o, err := r.one(ctx, fmt.Sprintf("nftables set %s of table %s %s", set, f, table), unix.NFT_MSG_GETSET, f, attrs)
	return o.Attrs, err
}

// NFTElement returns the element with a key; an empty key asks for the catch-all element. The kernel finds elements of
// hash, bitmap and tree sets by key; interval sets answer with the start of the interval that the key lies in, which is
// not what the datapath would find when the interval has an end before it, so they are read by NFTElements.
func (r *Reader) NFTElement(ctx context.Context, f node.NFTFamily, table, set string, key []byte) ([]byte, error) {
	var element []byte
	if len(key) == 0 {
		element = attrU32(nil, elementFlags, elementCatchAll)
	} else {
		element = nested(nil, elementKey, attr(nil, dataValue, key))
	}
	attrs := attrString(nil, elementListTable, table)
	attrs = attrString(attrs, elementListSet, set)
	attrs = nested(attrs, elementListElements, nested(nil, listElement, element))
	what := fmt.Sprintf("an element of nftables set %s of table %s %s", set, f, table)
	o, err := r.one(ctx, what, unix.NFT_MSG_GETSETELEM, f, attrs)
	if err != nil {
		if len(key) == 0 && errors.Is(err, node.ErrNotSupported) {
			// Kernels before 5.13 have no catch-all elements.
			err = &node.ReadError{What: what, Err: node.ErrNotFound}
		}
		return nil, err
	}
	list, err := find(o.Attrs, elementListElements)
	if err != nil {
		return nil, &node.ReadError{What: what, Err: err}
	}
	out, err := find(list, listElement)
	if err == nil && out == nil {
		err = node.ErrNotFound
	}
	if err != nil {
		return nil, &node.ReadError{What: what, Err: err}
	}
	return out, nil
}

// NFTElements returns all elements of a set.
func (r *Reader) NFTElements(ctx context.Context, f node.NFTFamily, table, set string) ([][]byte, error) {
	attrs := attrString(nil, elementListTable, table)
	attrs = attrString(attrs, elementListSet, set)
	var out [][]byte
	what := fmt.Sprintf("the elements of nftables set %s of table %s %s", set, f, table)
	err := r.all(ctx, what, unix.NFT_MSG_GETSETELEM, f, attrs, func(o node.NFTObject) error {
		list, err := find(o.Attrs, elementListElements)
		if err != nil {
			return err
		}
		return each(list, func(typ uint16, data []byte) {
			if typ == listElement {
				out = append(out, bytes.Clone(data))
			}
		})
	}, func() { out = nil })
	if err != nil {
		return nil, err
	}
	return out, nil
}

// NFTObject returns one stateful object.
func (r *Reader) NFTObject(ctx context.Context, f node.NFTFamily, table, name string, typ uint32) ([]byte, error) {
	attrs := attrString(nil, objectTable, table)
	attrs = attrString(attrs, objectName, name)
	attrs = attrU32(attrs, objectType, typ)
	o, err := r.one(ctx, fmt.Sprintf("nftables object %s of table %s %s", name, f, table), getObject, f, attrs)
	return o.Attrs, err
}

// NFTObjects returns the stateful objects of all tables: some of them turn connection tracking on without any rule.
func (r *Reader) NFTObjects(ctx context.Context) ([]node.NFTObject, error) {
	return r.objects(ctx, "nftables objects", getObject)
}

// each calls f for each attribute.
func each(b []byte, f func(typ uint16, data []byte)) error {
	for len(b) > 0 {
		if len(b) < unix.SizeofNlAttr {
			return errMalformed
		}
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofNlAttr || n > len(b) {
			return errMalformed
		}
		f(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofNlAttr:n])
		b = b[min((n+3)&^3, len(b)):]
	}
	return nil
}

// find returns the last attribute with a number, nil when there is none.
func find(b []byte, want uint16) ([]byte, error) {
	var out []byte
	err := each(b, func(typ uint16, data []byte) {
		if typ == want {
			out = data
		}
	})
	return out, err
}
