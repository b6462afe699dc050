package nftables

import (
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nat"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Masq translates the source to the output interface's address (net/netfilter/nft_masq.c).
type Masq struct {
	Flags            uint32
	PortMin, PortMax register
	HasPort          bool
	hasPortMax       bool
}

func decodeMasq(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(3)
	if err != nil {
		return nil, err
	}
	x := &Masq{Flags: t.u32(1), HasPort: t.has(2), hasPortMax: t.has(3)}
	x.PortMin, x.PortMax, err = registerPair(&t, 2, 3)
	return x, err
}

// Name returns masq.
func (x *Masq) Name() string { return "masq" }

func (x *Masq) effect() bool { return true }

func (x *Masq) eval(st *state) (bool, error) {
	r := skb.NAT{Source: true}
	return st.translate(&r, x.HasPort, x.PortMin, x.PortMax, x.Flags, func() (rule.Result, error) {
		return nat.Masquerade(st.ctx, st.e.Env, st.p, r, st.ch)
	})
}
