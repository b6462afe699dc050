//go:build linux

package chainmem

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
)

// leading writes down the loads and comparisons at the beginning of a rule, as the message of a rule that ends there.
func (r *Reader) leading(data []byte) (attrs, shape []byte, err error) {
	r.attrs.b = r.attrs.b[:0]
	list := r.attrs.open(unix.NFTA_RULE_EXPRESSIONS)
	s, at := r.shape[:0], 0
	for at+exprHead <= len(data) {
		k, err := r.known(binary.NativeEndian.Uint64(data[at:]))
		if err != nil {
			return nil, nil, err
		}
		if k.what == other {
			break
		}
		if at+k.size > len(data) {
			return nil, nil, fmt.Errorf("%w: an expression of %d bytes in %d", ErrOdd, k.size, len(data)-at)
		}
		if !r.expression(k.what, data[at+exprHead:at+k.size]) {
			break
		}
		s = append(s, data[at:at+exprHead]...)
		at += k.size
	}
	r.attrs.close(list)
	r.shape = s
	return r.attrs.b, s, nil
}

// Begins tells whether a rule's message has the expressions of a Message first.
func Begins(rule, message []byte) bool {
	var is []byte
	found := false
	err := nlattr.Each(rule, func(typ uint16, payload []byte) error {
		if typ == unix.NFTA_RULE_EXPRESSIONS && !found {
			is, found = payload, true
		}
		return nil
	})
	return err == nil && bytes.HasPrefix(is, message[min(attrHead, len(message)):])
}

// expression writes down one expression; it returns false for one that is not a load or a comparison.
func (r *Reader) expression(w what, x []byte) bool {
	l, e := &r.layout, &r.attrs
	switch w {
	case payload:
		e.begin("payload")
		e.u32(unix.NFTA_PAYLOAD_DREG, register(x[l.payloadRegister]))
		e.u32(unix.NFTA_PAYLOAD_BASE, uint32(l.payloadBase.of(x)))
		e.u32(unix.NFTA_PAYLOAD_OFFSET, uint32(l.payloadOffset.of(x)))
		e.u32(unix.NFTA_PAYLOAD_LEN, uint32(x[l.payloadLength]))
		e.end()
		return true
	case meta:
		e.begin("meta")
		e.u32(unix.NFTA_META_KEY, uint32(l.metaKey.of(x)))
		e.u32(unix.NFTA_META_DREG, register(x[l.metaRegister]))
		e.end()
		return true
	case cmp:
		return e.compare(x[l.cmpRegister], uint32(l.cmpOp.of(x)), x[l.cmpData:], int(x[l.cmpBytes]))
	case cmpFast:
		return l.fast.write(e, x, 8) // its length is in bits
	case cmp16:
		return l.fast16.write(e, x, 1)
	}
	return false
}

func (l *fastLayout) write(e *message, x []byte, unit int) bool {
	op := uint32(cmpEqual)
	if x[l.inverted] != 0 {
		op = cmpNotEqual
	}
	return e.compare(x[l.register], op, x[l.data:], int(x[l.length])/unit)
}

// register is the number that the kernel gives to a register outside (nft_dump_register): one of four bytes has another than
// one of sixteen.
func register(n byte) uint32 {
	if n%4 == 0 {
		return uint32(n) / 4
	}
	return uint32(n) - 4 + unix.NFT_REG32_00
}
