package nftables

import (
	"encoding/binary"
	"fmt"
)

// Attributes of a set (enum nft_set_attributes). attrSetCount exists since 6.16.
const (
	attrSetTable       = 1
	attrSetName        = 2
	attrSetFlags       = 3
	attrSetKeyType     = 4
	attrSetKeyLen      = 5
	attrSetDataType    = 6
	attrSetDataLen     = 7
	attrSetDesc        = 9
	attrSetTimeout     = 11
	attrSetUserdata    = 13
	attrSetObjectType  = 15
	attrSetHandle      = 16
	attrSetExpr        = 17
	attrSetExpressions = 18
	attrSetType        = 19
	attrSetCount       = 20

	attrDescSize   = 1
	attrDescConcat = 2

	attrListElement = 1
	attrFieldLen    = 1
)

// SetFlags are the properties of a set (enum nft_set_flags).
type SetFlags uint32

// The flags.
const (
	SetAnonymous SetFlags = 0x1
	SetConstant  SetFlags = 0x2
	SetInterval  SetFlags = 0x4
	SetMap       SetFlags = 0x8
	SetTimeout   SetFlags = 0x10
	SetDynamic   SetFlags = 0x20
	SetObject    SetFlags = 0x40
	SetConcat    SetFlags = 0x80
	SetExpr      SetFlags = 0x100
)

// verdictType is the data type of verdict maps (NFT_DATA_VERDICT).
const verdictType = 0xffffff00

// maxKeyLength bounds a key: the register file has 64 bytes for it (NFT_DATA_VALUE_MAXLEN).
const maxKeyLength = 64

// Set is a set's or map's header.
type Set struct {
	Name   string
	Handle uint64
	Flags  SetFlags
	// KeyType and DataType are nft's numbers of the data types, six bits for each part of a concatenation. The kernel does
	// not interpret them, except verdictType.
	KeyType, DataType uint32
	// KeyLen and DataLen are lengths in bytes.
	KeyLen, DataLen int
	// Fields are the lengths of a ranged concatenation's parts in bytes, nil for other sets.
	Fields []int
	// Size is the most elements it may hold, 0 for no limit.
	Size uint32
	// Count is the number of elements, -1 when the kernel does not tell (before 6.16).
	Count int64
	// TimeoutMillis is the default timeout of elements, 0 for none.
	TimeoutMillis uint64
	// ObjectType is the type of the objects of an object map.
	ObjectType uint32
	// Exprs are the stateful expressions that every element has.
	Exprs []Expr
	// Comment is the set's comment.
	Comment string
	// keyHostOrder and dataHostOrder tell that the numbers are in host order.
	keyHostOrder, dataHostOrder bool
}

// VerdictMap reports whether the set maps to verdicts.
func (s *Set) VerdictMap() bool { return s.Flags&SetMap != 0 && s.DataType == verdictType }

// ranged reports whether the set is a concatenation of ranges (the pipapo set types).
func (s *Set) ranged() bool { return s.Flags&SetInterval != 0 && len(s.Fields) > 1 }

// DecodeSet reads an NFT_MSG_NEWSET message's attributes.
func DecodeSet(attrs []byte) (*Set, error) {
	t, err := attributes(attrs).find(attrSetCount)
	if err != nil {
		return nil, fmt.Errorf("decoding a set: %w", err)
	}
	if !t.has(attrSetName) {
		return nil, fmt.Errorf("decoding a set: %w: no name", ErrMalformed)
	}
	s := &Set{
		Name:          t.str(attrSetName),
		Handle:        t.u64(attrSetHandle),
		Flags:         SetFlags(t.u32(attrSetFlags)),
		KeyType:       t.u32(attrSetKeyType),
		KeyLen:        int(t.u32(attrSetKeyLen)),
		DataType:      t.u32(attrSetDataType),
		DataLen:       int(t.u32(attrSetDataLen)),
		TimeoutMillis: t.u64(attrSetTimeout),
		ObjectType:    t.u32(attrSetObjectType),
		Count:         -1,
	}
	if s.KeyLen < 0 || s.KeyLen > maxKeyLength || s.DataLen < 0 || s.DataLen > maxKeyLength {
		return nil, fmt.Errorf("decoding set %s: %w: keys of %d and data of %d bytes", s.Name, ErrMalformed, s.KeyLen, s.DataLen)
	}
	if t.has(attrSetCount) {
		s.Count = int64(t.u32(attrSetCount))
	}
	if err := s.decodeDesc(&t); err != nil {
		return nil, fmt.Errorf("decoding set %s: %w", s.Name, err)
	}
	if s.Exprs, err = decodeStateful(&t, attrSetExpr, attrSetExpressions, 1); err != nil {
		return nil, fmt.Errorf("decoding the expressions of set %s: %w", s.Name, err)
	}
	userdata(t[attrSetUserdata], func(typ uint8, value []byte) {
		switch {
		case typ == userdataSetComment:
			s.Comment = cString(value)
		case typ == userdataSetKeyOrder && len(value) == 4:
			s.keyHostOrder = binary.NativeEndian.Uint32(value) == byteOrderHost
		case typ == userdataSetDataOrder && len(value) == 4:
			s.dataHostOrder = binary.NativeEndian.Uint32(value) == byteOrderHost
		}
	})
	return s, nil
}

func (s *Set) decodeDesc(t *table) error {
	d, err := t.nested(attrSetDesc, attrDescConcat)
	if err != nil {
		return err
	}
	s.Size = d.u32(attrDescSize)
	return attributes(d[attrDescConcat]).each(func(typ uint16, data []byte) error {
		if typ != attrListElement {
			return nil
		}
		f, err := attributes(data).find(attrFieldLen)
		if err != nil {
			return err
		}
		n := int(f.u32(attrFieldLen))
		if n < 1 || n > maxKeyLength || len(s.Fields) == 16 {
			return fmt.Errorf("%w: a field of %d bytes", ErrMalformed, n)
		}
		s.Fields = append(s.Fields, n)
		return nil
	})
}

// decodeStateful reads the expressions of a set, element or dynset: one, or a list.
func decodeStateful(t *table, one, list int, depth int) ([]Expr, error) {
	var out []Expr
	add := func(b []byte) error {
		if len(out) == 16 {
			return fmt.Errorf("%w: more than 16 expressions in an element", ErrMalformed)
		}
		x, err := decodeExpr(b, depth)
		if err != nil {
			return err
		}
		out = append(out, x)
		return nil
	}
	if t.has(one) {
		return out, add(t[one])
	}
	err := attributes(t[list]).each(func(typ uint16, data []byte) error {
		if typ != attrListElement {
			return nil
		}
		return add(data)
	})
	return out, err
}
