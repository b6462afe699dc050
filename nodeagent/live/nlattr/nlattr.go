// Package nlattr reads and writes netlink attributes without copying: a type, a length, a payload, padded to four bytes
// (struct nlattr in include/uapi/linux/netlink.h).
package nlattr

import (
	"encoding/binary"
	"fmt"
)

// Nested is the flag of attributes that hold attributes.
const Nested = 1 << 15

const typeMask = 0x3fff

// Each calls f for every attribute in b, with the flag bits taken off the type. The payloads are parts of b.
func Each(b []byte, f func(typ uint16, payload []byte) error) error {
	for len(b) >= 4 {
		size := int(binary.NativeEndian.Uint16(b))
		if size < 4 || size > len(b) {
			return fmt.Errorf("a netlink attribute of %d bytes in %d", size, len(b))
		}
		if err := f(binary.NativeEndian.Uint16(b[2:])&typeMask, b[4:size]); err != nil {
			return err
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return nil
}

// Append adds one attribute to b and returns the result.
func Append(b []byte, typ uint16, payload []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(payload)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, payload...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// Uint32 returns v in the machine's order, as rtnetlink wants it.
func Uint32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// BigUint32 returns v in network order, as nfnetlink wants it.
func BigUint32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// BigUint16 returns v in network order.
func BigUint16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

// String returns s with a terminating zero.
func String(s string) []byte { return append([]byte(s), 0) }

// Text returns the string in a payload, without its terminating zero.
func Text(payload []byte) string {
	for i, c := range payload {
		if c == 0 {
			return string(payload[:i])
		}
	}
	return string(payload)
}
