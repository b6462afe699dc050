//go:build linux

package chainmem

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// what an expression does, as far as it is looked at here.
type what uint8

const (
	other what = iota
	payload
	meta
	cmp
	cmpFast
	cmp16
	immediate
)

// kind is what an expression's operations tell of it.
type kind struct {
	what what
	size int // of struct nft_expr with its data
}

const (
	// exprHead is the size of struct nft_expr before its data: the pointer to its operations.
	exprHead = 8
	// maxRule bounds a rule's expressions: nft_rule_dp.dlen has 12 bits.
	maxRule = 1 << 12
)

// A match or target of iptables has operations of its own in each rule, which nft_compat allocates: to read those of every rule
// would take longer than to have the rules by netlink. All others are part of the kernel or of a module, not far from each
// other.
const (
	near      = 1 << 31
	mostTried = 8
)

// known is kind for one that is perhaps a load or a comparison; it is other when that is not worth finding out.
func (r *Reader) known(ops uint64) (kind, error) {
	k, ok := r.kinds[ops]
	if !ok {
		k, ok = r.others[ops]
	}
	if ok {
		return k, nil
	}
	if r.some == 0 || ops-r.some+near >= 2*near {
		if r.tried++; r.tried > mostTried {
			return kind{}, nil
		}
	}
	return r.kind(ops)
}

// whatDumps tells what an expression is by the function that writes it down for netlink.
func whatDumps(function string) what {
	switch function {
	case "nft_payload_dump":
		return payload
	case "nft_meta_get_dump":
		return meta
	case "nft_cmp_dump":
		return cmp
	case "nft_cmp_fast_dump":
		return cmpFast
	case "nft_cmp16_fast_dump":
		return cmp16
	case "nft_immediate_dump":
		return immediate
	}
	return other
}

// least is how many bytes of an expression's data are looked at.
func (l *layout) least(w what) int {
	switch w {
	case payload:
		return max(l.payloadBase.at, l.payloadOffset.at, l.payloadLength, l.payloadRegister) + 1
	case meta:
		return max(l.metaKey.at, l.metaRegister) + 1
	case cmp:
		return max(l.cmpOp.at, l.cmpData, l.cmpRegister, l.cmpBytes) + 1
	case cmpFast:
		return l.fast.least()
	case cmp16:
		return l.fast16.least()
	case immediate:
		return immediateSize - exprHead
	}
	return 0
}

func (l fastLayout) least() int { return max(l.data, l.register, l.length, l.inverted) + 1 }

// kind finds out what operations do.
func (r *Reader) kind(ops uint64) (kind, error) {
	if k, ok := r.kinds[ops]; ok {
		return k, nil
	}
	if k, ok := r.others[ops]; ok {
		return k, nil
	}
	l := &r.layout
	head := make([]byte, max(l.opsSize, l.opsDump)+8)
	if err := r.memory.Bytes(ops, head); err != nil {
		return kind{}, fmt.Errorf("%w: %w", ErrOdd, err)
	}
	k := kind{size: int(binary.NativeEndian.Uint32(head[l.opsSize:]))}
	if k.size < exprHead || k.size > maxRule || k.size%exprHead != 0 {
		return kind{}, fmt.Errorf("%w: an expression of %d bytes", ErrOdd, k.size)
	}
	function, err := r.memory.Symbol(binary.NativeEndian.Uint64(head[l.opsDump:]))
	if err != nil {
		return kind{}, fmt.Errorf("%w: %w", ErrOdd, err)
	}
	function, _, _ = strings.Cut(function, " ") // the module's name
	k.what = whatDumps(function)
	if k.what == other { // it may be allocated, and be another's soon
		r.others[ops] = k
		return k, nil
	}
	if k.size < exprHead+l.least(k.what) {
		return kind{}, fmt.Errorf("%w: an expression of %s with %d bytes", ErrOdd, function, k.size)
	}
	r.kinds[ops], r.some = k, ops
	return k, nil
}

// text reads the string behind a pointer.
func (r *Reader) text(at uint64) (string, error) {
	p, err := r.memory.Pointer(at)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrOdd, err)
	}
	s, err := r.memory.Text(p)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrOdd, err)
	}
	return s, nil
}
