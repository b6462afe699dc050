package nftables

import "fmt"

// Range tests whether a register lies in an interval (net/netfilter/nft_range.c).
type Range struct {
	Register register
	Inverted bool
	From, To []byte
}

func decodeRange(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(4)
	if err != nil {
		return nil, err
	}
	x := &Range{Inverted: t.u32(2) == 1}
	if x.Register, err = parseRegister(t.u32(1)); err != nil {
		return nil, err
	}
	if x.From, err = decodeValue(t[3]); err != nil {
		return nil, err
	}
	if x.To, err = decodeValue(t[4]); err != nil {
		return nil, err
	}
	if len(x.From) != len(x.To) {
		return nil, fmt.Errorf("%w: a range of %d and %d bytes", ErrMalformed, len(x.From), len(x.To))
	}
	return x, nil
}

// Name returns range.
func (x *Range) Name() string { return "range" }

func (x *Range) effect() bool { return false }

func (x *Range) eval(st *state) (bool, error) {
	t := st.regs.load(x.Register, len(x.From)).within(x.From, x.To)
	from := st.regs.from[x.Register]
	in := st.decide(t, fmt.Sprintf("%s-%s", from.comparison("", x.From), from.text(x.To)))
	return in != x.Inverted && !st.stopped, nil
}
