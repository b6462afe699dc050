package nftables

import "github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"

// Fwd sends the packet out by another interface, past the rest of the stack (net/netfilter/nft_fwd_netdev.c).
type Fwd struct {
	Device, Addr register
	HasAddr      bool
	Family       uint32
}

func decodeFwd(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(3)
	if err != nil {
		return nil, err
	}
	x := &Fwd{HasAddr: t.has(2), Family: t.u32(3)}
	if x.Device, err = parseRegister(t.u32(1)); err != nil {
		return nil, err
	}
	x.Addr, err = parseRegister(t.u32(2))
	return x, err
}

// Name returns fwd.
func (x *Fwd) Name() string { return "fwd" }

func (x *Fwd) effect() bool { return true }

func (x *Fwd) eval(st *state) (bool, error) {
	st.res.Code = rule.Stolen
	v := st.regs.load(x.Device, 4)
	name, err := st.linkName(v)
	if err != nil {
		return false, err
	}
	if v.all() && !x.HasAddr {
		st.res.Out = name
	}
	st.act("forwarded to device %s", name)
	return false, nil
}
