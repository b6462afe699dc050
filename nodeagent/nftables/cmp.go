package nftables

import (
	"fmt"
	"math/big"
)

// CmpOp is a comparison (enum nft_cmp_ops).
type CmpOp uint32

// The comparisons.
const (
	CmpEqual CmpOp = iota
	CmpNotEqual
	CmpLess
	CmpLessEqual
	CmpGreater
	CmpGreaterEqual
)

// String returns the operator as nft prints it; equality is not printed.
func (o CmpOp) String() string {
	names := [...]string{"", "!=", "<", "<=", ">", ">="}
	if int(o) < len(names) {
		return names[o]
	}
	return fmt.Sprintf("cmp %d", uint32(o))
}

// Cmp compares a register with a constant, as memcmp does (net/netfilter/nft_cmp.c).
type Cmp struct {
	Register register
	Op       CmpOp
	Data     []byte
}

func decodeCmp(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(3)
	if err != nil {
		return nil, err
	}
	x := &Cmp{Op: CmpOp(t.u32(2))}
	if x.Op > CmpGreaterEqual {
		return &Opaque{Type: "cmp", Why: x.Op.String(), Raw: append([]byte(nil), b...)}, nil
	}
	if x.Register, err = parseRegister(t.u32(1)); err != nil {
		return nil, err
	}
	if x.Data, err = decodeValue(t[3]); err != nil {
		return nil, err
	}
	return x, nil
}

// Name returns cmp.
func (x *Cmp) Name() string { return "cmp" }

func (x *Cmp) effect() bool { return false }

func (x *Cmp) eval(st *state) (bool, error) {
	v := st.regs.load(x.Register, len(x.Data))
	from := st.regs.from[x.Register]
	if p := x.chance(from); p != nil {
		if st.quiet() {
			return false, nil
		}
		return st.ch.Chance(p), nil
	}
	var t truth
	switch x.Op {
	case CmpEqual:
		t = v.equals(x.Data)
	case CmpNotEqual:
		t = v.equals(x.Data).not()
	case CmpLess:
		t = v.less(x.Data)
	case CmpLessEqual:
		t = v.lessEqual(x.Data)
	case CmpGreater:
		t = v.lessEqual(x.Data).not()
	case CmpGreaterEqual:
		t = v.less(x.Data).not()
	}
	if t != maybe {
		return t == yes, nil
	}
	op := x.Op
	if op == CmpNotEqual {
		op = CmpEqual
	}
	holds := st.depends(from.comparison(op.String(), x.Data))
	if st.stopped {
		return false, nil
	}
	if holds && op == CmpEqual {
		refine(st.p, from, x.Data)
	}
	return holds != (x.Op == CmpNotEqual), nil
}

// chance returns the probability of a comparison of a random number, nil for other comparisons. Its bytes are uniformly
// random in either byte order.
func (x *Cmp) chance(from source) *big.Rat {
	if !from.random || len(x.Data) != 4 {
		return nil
	}
	all := new(big.Int).Lsh(big.NewInt(1), 32)
	below := new(big.Int).SetBytes(x.Data)
	ratio := func(n *big.Int) *big.Rat { return new(big.Rat).SetFrac(n, all) }
	one := big.NewInt(1)
	switch x.Op {
	case CmpEqual:
		return ratio(one)
	case CmpNotEqual:
		return ratio(new(big.Int).Sub(all, one))
	}
	switch x.Op {
	case CmpLess:
		return ratio(below)
	case CmpLessEqual:
		return ratio(new(big.Int).Add(below, one))
	case CmpGreater:
		return ratio(new(big.Int).Sub(all, new(big.Int).Add(below, one)))
	case CmpGreaterEqual:
		return ratio(new(big.Int).Sub(all, below))
	}
	return nil
}

// comparison is a condition in words: "udp sport is 53", "ip ttl > 10".
func (s source) comparison(op string, data []byte) string {
	label := s.label
	if label == "" {
		label = "a value"
	}
	if op == "" {
		op = "is"
	}
	return fmt.Sprintf("%s %s %s", label, op, s.text(data))
}

// text prints a value of the source.
func (s source) text(data []byte) string {
	if s.typ == nil || s.typ.size > len(data) {
		return hexOrNumber(data)
	}
	return s.typ.text(data)
}

// hexOrNumber prints up to 4 bytes as a number, more in hexadecimal.
func hexOrNumber(b []byte) string {
	if len(b) > 4 {
		return fmt.Sprintf("0x%x", b)
	}
	n := uint64(0)
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return fmt.Sprint(n)
}
