package nftables

import "fmt"

// Xfrm loads a property of the IPsec state that a packet passed or will pass (net/netfilter/nft_xfrm.c). Neither is known
// here.
type Xfrm struct {
	Key       uint32
	Dest      register
	Direction uint8
	Number    uint32
}

func decodeXfrm(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(4)
	if err != nil {
		return nil, err
	}
	x := &Xfrm{Key: t.u32(2), Direction: t.u8(3), Number: t.u32(4)}
	if x.Key < 1 || x.Key > 6 {
		return &Opaque{Type: "xfrm", Why: fmt.Sprintf("key %d", x.Key), Raw: append([]byte(nil), b...)}, nil
	}
	x.Dest, err = parseRegister(t.u32(1))
	return x, err
}

// Name returns xfrm.
func (x *Xfrm) Name() string { return "xfrm" }

func (x *Xfrm) effect() bool { return false }

func (x *Xfrm) eval(st *state) (bool, error) {
	n := 4
	if x.Key == 2 || x.Key == 4 {
		n = 16
	}
	st.regs.store(x.Dest, unknown(n), source{label: "the IPsec state"})
	return true, nil
}
