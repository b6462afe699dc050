package nftables

import "fmt"

// Immediate loads a constant into a register, or issues a verdict (net/netfilter/nft_immediate.c).
type Immediate struct {
	Register register
	Data     []byte
	Verdict  *Verdict
}

func decodeImmediate(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(2)
	if err != nil {
		return nil, err
	}
	x := &Immediate{}
	if x.Register, err = parseRegister(t.u32(1)); err != nil {
		return nil, err
	}
	if x.Data, x.Verdict, err = decodeData(t[2]); err != nil {
		return nil, err
	}
	if (x.Register == regVerdict) != (x.Verdict != nil) {
		return nil, fmt.Errorf("%w: register %d does not fit the data", ErrMalformed, x.Register)
	}
	return x, nil
}

// Name returns immediate.
func (x *Immediate) Name() string { return "immediate" }

func (x *Immediate) effect() bool { return x.Verdict != nil && x.Verdict.Code != verdictContinue }

func (x *Immediate) eval(st *state) (bool, error) {
	if x.Verdict != nil {
		return st.verdict(*x.Verdict), nil
	}
	st.regs.store(x.Register, known(x.Data), source{})
	return true, nil
}
