package nftables

// Dup sends a copy of the packet elsewhere (net/ipv4/netfilter/nft_dup_ipv4.c, net/netfilter/nft_dup_netdev.c). The packet
// itself goes on as if nothing had happened.
type Dup struct {
	Addr, Device       register
	HasAddr, HasDevice bool
}

func decodeDup(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(2)
	if err != nil {
		return nil, err
	}
	x := &Dup{HasAddr: t.has(1), HasDevice: t.has(2)}
	if x.Addr, err = parseRegister(t.u32(1)); err != nil {
		return nil, err
	}
	x.Device, err = parseRegister(t.u32(2))
	return x, err
}

// Name returns dup.
func (x *Dup) Name() string { return "dup" }

func (x *Dup) effect() bool { return false }

func (x *Dup) eval(st *state) (bool, error) {
	st.act("copied elsewhere")
	return true, nil
}
