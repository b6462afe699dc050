package nftables

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
)

// Numgen makes a number below Modulus: random, or the next of a shared counter (net/netfilter/nft_numgen.c).
type Numgen struct {
	Dest            register
	Modulus, Offset uint32
	Random          bool
}

// maxUniform bounds the values that a random number forks into.
const maxUniform = 4096

func decodeNumgen(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(4)
	if err != nil {
		return nil, err
	}
	x := &Numgen{Modulus: t.u32(2), Random: t.u32(3) == 1, Offset: t.u32(4)}
	if x.Dest, err = parseRegister(t.u32(1)); err != nil {
		return nil, err
	}
	if x.Modulus == 0 {
		return nil, fmt.Errorf("%w: modulus 0", ErrMalformed)
	}
	return x, nil
}

// Name returns numgen.
func (x *Numgen) Name() string { return "numgen" }

func (x *Numgen) effect() bool { return false }

func (x *Numgen) text() string {
	mode := "inc"
	if x.Random {
		mode = "random"
	}
	s := fmt.Sprintf("numgen %s mod %d", mode, x.Modulus)
	if x.Offset != 0 {
		s += fmt.Sprintf(" offset %d", x.Offset)
	}
	return s
}

// eval forks into the possible numbers. A random number is reciprocal_scale of 32 random bits: with a modulus far below
// 2^32 all values are equally likely, to within one part in 2^32.
func (x *Numgen) eval(st *state) (bool, error) {
	from := source{label: x.text(), typ: typeHostInteger}
	if x.Modulus <= 1 {
		st.regs.store(x.Dest, knownHost32(x.Offset), from)
		return true, nil
	}
	if st.quiet() {
		return false, nil
	}
	v := unknown(4)
	switch {
	case x.Random && x.Modulus <= maxUniform:
		v = knownHost32(uint32(st.ch.Uniform(int(x.Modulus))) + x.Offset)
	case !x.Random:
		v = st.pick(x.text(), x.Modulus, x.Offset)
	}
	st.regs.store(x.Dest, v, from)
	return true, nil
}

// maxPicks bounds the values that a number which the state does not settle forks into.
const maxPicks = 64

// pick forks over the numbers from offset to offset+modulus-1, which something outside the state decides: what makes
// them. Too many stay one unknown number.
func (st *state) pick(what string, modulus, offset uint32) value {
	if modulus > maxPicks {
		return unknown(4)
	}
	options := make([]rule.Option, modulus)
	for i := range options {
		options[i].Condition = fmt.Sprintf("%s gives %d", what, uint32(i)+offset)
	}
	return knownHost32(uint32(st.ch.Choose(options...)) + offset)
}
