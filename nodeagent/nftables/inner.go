package nftables

import "github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"

// Inner runs an expression on the packet inside a tunnel packet: VXLAN, Geneve, GRE (net/netfilter/nft_inner.c). The inner
// packet is payload, which is not known here.
type Inner struct {
	Type, HeaderSize, Flags uint32
	// Expr is a Payload or Meta.
	Expr Expr
}

func decodeInner(b []byte, depth int) (Expr, error) {
	t, err := attributes(b).find(5)
	if err != nil {
		return nil, err
	}
	x := &Inner{Type: t.u32(2), Flags: t.u32(3), HeaderSize: t.u32(4)}
	x.Expr, err = decodeExpr(t[5], depth+1)
	return x, err
}

// Name returns inner.
func (x *Inner) Name() string { return "inner" }

func (x *Inner) effect() bool { return false }

func (x *Inner) eval(st *state) (bool, error) {
	// Only UDP, GRE and IP in IP carry an inner packet.
	switch st.p.Proto() {
	case skb.UDP, 47, 4, 41:
	default:
		return false, nil
	}
	from := source{label: "the tunnelled packet"}
	switch e := x.Expr.(type) {
	case *Payload:
		st.regs.store(e.Register, unknown(int(e.Len)), from)
	case *Meta:
		st.regs.store(e.Register, unknown(16), from)
	default:
		return st.unknown("nftables expression inner " + x.Expr.Name()), nil
	}
	return true, nil
}
