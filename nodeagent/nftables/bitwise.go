package nftables

import (
	"encoding/binary"
	"fmt"
)

// BitwiseOp is an operation of a Bitwise (enum nft_bitwise_ops). And, Or and Xor with two registers exist since 6.13.
type BitwiseOp uint32

// The operations.
const (
	BitwiseMaskXor BitwiseOp = iota
	BitwiseLeftShift
	BitwiseRightShift
	BitwiseAnd
	BitwiseOr
	BitwiseXor
)

// Bitwise computes on a register: (source & Mask) ^ Xor, a shift by Shift bits, or and/or/xor with a second register or
// constant (net/netfilter/nft_bitwise.c).
type Bitwise struct {
	Source, Dest register
	Len          int
	Op           BitwiseOp
	Mask, Xor    []byte
	// Shift is the number of bits. It is applied word by word, with a carry, to numbers in host order.
	Shift uint32
	// Second is the second operand's register when HasSecond; else Operand holds it.
	Second    register
	HasSecond bool
	Operand   []byte
}

func decodeBitwise(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(8)
	if err != nil {
		return nil, err
	}
	x := &Bitwise{Len: int(t.u32(3)), Op: BitwiseOp(t.u32(6))}
	if x.Source, err = parseRegister(t.u32(1)); err != nil {
		return nil, err
	}
	if x.Dest, err = parseRegister(t.u32(2)); err != nil {
		return nil, err
	}
	if x.Len < 1 || x.Len > maxKeyLength {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, x.Len)
	}
	switch x.Op {
	case BitwiseMaskXor:
		if x.Mask, err = decodeValue(t[4]); err != nil {
			return nil, err
		}
		if x.Xor, err = decodeValue(t[5]); err != nil {
			return nil, err
		}
		if len(x.Mask) != x.Len || len(x.Xor) != x.Len {
			return nil, fmt.Errorf("%w: a mask of %d bytes for %d", ErrMalformed, len(x.Mask), x.Len)
		}
	case BitwiseLeftShift, BitwiseRightShift:
		d, err := decodeValue(t[7])
		if err != nil {
			return nil, err
		}
		if len(d) != 4 || binary.NativeEndian.Uint32(d) >= 32 {
			return nil, fmt.Errorf("%w: a shift of %x", ErrMalformed, d)
		}
		x.Shift = binary.NativeEndian.Uint32(d)
	case BitwiseAnd, BitwiseOr, BitwiseXor:
		if t.has(8) {
			x.HasSecond = true
			if x.Second, err = parseRegister(t.u32(8)); err != nil {
				return nil, err
			}
			break
		}
		if x.Operand, err = decodeValue(t[7]); err != nil {
			return nil, err
		}
		if len(x.Operand) != x.Len {
			return nil, fmt.Errorf("%w: an operand of %d bytes for %d", ErrMalformed, len(x.Operand), x.Len)
		}
	default:
		return &Opaque{Type: "bitwise", Why: fmt.Sprintf("operation %d", x.Op), Raw: append([]byte(nil), b...)}, nil
	}
	return x, nil
}

// Name returns bitwise.
func (x *Bitwise) Name() string { return "bitwise" }

func (x *Bitwise) effect() bool { return false }

func (x *Bitwise) eval(st *state) (bool, error) {
	v := st.regs.load(x.Source, x.Len)
	origin := st.regs.from[x.Source]
	from := origin
	from.inPacket, from.random = false, false
	out := unknown(len(v.b))
	switch x.Op {
	case BitwiseMaskXor:
		for i := range v.b {
			// A bit is known when it was known, or when the mask clears it.
			out.b[i] = v.b[i]&v.known[i]&x.Mask[i] ^ x.Xor[i]
			out.known[i] = v.known[i] | ^x.Mask[i]
		}
		from = x.masked(st, origin)
	case BitwiseLeftShift, BitwiseRightShift:
		v = st.regs.load(x.Source, (x.Len+3)&^3)
		out = value{shift(v.b, x.Shift, x.Op == BitwiseLeftShift, 0), shift(v.known, x.Shift, x.Op == BitwiseLeftShift, 0xff)}
	default:
		second := known(x.Operand)
		if x.HasSecond {
			second = st.regs.load(x.Second, x.Len)
			if from.label == "" {
				from.label = st.regs.from[x.Second].label
			}
		}
		for i := range v.b {
			combine(&out, i, v, second, x.Op)
		}
	}
	st.regs.store(x.Dest, out, from)
	return true, nil
}

// combine computes byte i of an operation on two values. A known 0 decides an and, a known 1 an or.
func combine(out *value, i int, a, b value, op BitwiseOp) {
	if i >= len(b.b) {
		return
	}
	both := a.known[i] & b.known[i]
	switch op {
	case BitwiseAnd:
		out.b[i] = a.b[i] & b.b[i]
		out.known[i] = both | a.known[i]&^a.b[i] | b.known[i]&^b.b[i]
		out.b[i] &= both
	case BitwiseOr:
		out.known[i] = both | a.known[i]&a.b[i] | b.known[i]&b.b[i]
		out.b[i] = a.b[i]&a.known[i] | b.b[i]&b.known[i]
	case BitwiseXor:
		out.known[i] = both
		out.b[i] = (a.b[i] ^ b.b[i]) & both
	}
}

// shift moves 32-bit words in host order by n bits; bits move from word to word as the kernel's carry does. fill is what
// comes in at the open end.
func shift(b []byte, n uint32, left bool, fill byte) []byte {
	words := make([]uint32, len(b)/4)
	for i := range words {
		words[i] = binary.NativeEndian.Uint32(b[i*4:])
	}
	carry := uint32(0)
	if fill != 0 && n > 0 {
		carry = 1<<n - 1
		if !left {
			carry <<= 32 - n
		}
	}
	out := make([]byte, 0, len(b))
	shifted := make([]uint32, len(words))
	if left {
		for i := len(words) - 1; i >= 0; i-- {
			shifted[i] = words[i]<<n | carry
			carry = uint32(uint64(words[i]) >> (32 - n))
		}
	} else {
		for i := range words {
			shifted[i] = carry | words[i]>>n
			carry = uint32(uint64(words[i]) << (32 - n))
		}
	}
	for _, w := range shifted {
		out = binary.NativeEndian.AppendUint32(out, w)
	}
	return out
}

// masked names a masked value: a field of some bits by its own name.
func (x *Bitwise) masked(st *state, from source) source {
	out := source{label: from.label, typ: from.typ}
	if out.label == "" || allOnes(x.Mask) && allZero(x.Xor) {
		return out
	}
	if first, n, ok := bitRun(x.Mask); ok && from.inPacket && allZero(x.Xor) {
		if h, f := findField(uint32(from.base), uint32(from.offset)*8+first, n, st.p.Proto(), st.p.Family); f != nil {
			return source{label: h.name + " " + f.name, typ: f.typ.shifted(first, n, len(x.Mask))}
		}
	}
	if !allOnes(x.Mask) {
		out.label += " & " + from.text(x.Mask)
	}
	if !allZero(x.Xor) {
		out.label += " ^ " + from.text(x.Xor)
	}
	return out
}

func allOnes(b []byte) bool {
	for _, c := range b {
		if c != 0xff {
			return false
		}
	}
	return true
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
