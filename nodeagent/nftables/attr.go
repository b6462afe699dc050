package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed is in the chain of errors about a netlink message that no kernel writes.
var ErrMalformed = errors.New("malformed nftables message")

// maxNesting bounds how deep expressions may nest (a set element's expressions, an inner header's expression).
const maxNesting = 4

// The bits of an attribute's type that are not its number (include/uapi/linux/netlink.h).
const (
	attrNested  = 1 << 15
	attrNetwork = 1 << 14
)

// attributes is a list of netlink attributes (struct nlattr) as it stands in a message.
type attributes []byte

// each calls f for each attribute, in order.
func (a attributes) each(f func(typ uint16, data []byte) error) error {
	for len(a) > 0 {
		if len(a) < 4 {
			return fmt.Errorf("%w: %d bytes behind the last attribute", ErrMalformed, len(a))
		}
		size := int(binary.NativeEndian.Uint16(a))
		typ := binary.NativeEndian.Uint16(a[2:]) &^ (attrNested | attrNetwork)
		if size < 4 || size > len(a) {
			return fmt.Errorf("%w: an attribute of %d bytes in %d", ErrMalformed, size, len(a))
		}
		if err := f(typ, a[4:size]); err != nil {
			return err
		}
		a = a[min((size+3)&^3, len(a)):]
	}
	return nil
}

// find returns the last attribute of each number up to limit, which is below 24; missing ones are nil.
func (a attributes) find(limit int) (table, error) {
	var t table
	err := a.each(func(typ uint16, data []byte) error {
		if int(typ) <= limit {
			t[typ] = data
		}
		return nil
	})
	return t, err
}

// table is attributes by number. It is an array so that decoding a long chain makes no garbage of it.
type table [24][]byte

func (t *table) has(i int) bool { return t[i] != nil }

// u8, u16, u32 and u64 read numbers in network order; a missing or short attribute is 0.
func (t *table) u8(i int) uint8 {
	if t.has(i) && len(t[i]) >= 1 {
		return t[i][0]
	}
	return 0
}

func (t *table) u16(i int) uint16 {
	if t.has(i) && len(t[i]) >= 2 {
		return binary.BigEndian.Uint16(t[i])
	}
	return 0
}

func (t *table) u32(i int) uint32 {
	if t.has(i) && len(t[i]) >= 4 {
		return binary.BigEndian.Uint32(t[i])
	}
	return 0
}

func (t *table) u64(i int) uint64 {
	if t.has(i) && len(t[i]) >= 8 {
		return binary.BigEndian.Uint64(t[i])
	}
	return 0
}

// str reads a string, with or without its closing zero byte.
func (t *table) str(i int) string {
	if !t.has(i) {
		return ""
	}
	return cString(t[i])
}

// cString returns b up to its first zero byte.
func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// nested reads the attributes inside attribute i.
func (t *table) nested(i, limit int) (table, error) {
	if !t.has(i) {
		return table{}, nil
	}
	return attributes(t[i]).find(limit)
}
