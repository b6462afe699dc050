package nftables

import (
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nat"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Redir translates the destination to this host (net/netfilter/nft_redir.c).
type Redir struct {
	Flags            uint32
	PortMin, PortMax register
	HasPort          bool
	hasPortMax       bool
}

func decodeRedir(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(3)
	if err != nil {
		return nil, err
	}
	x := &Redir{Flags: t.u32(3), HasPort: t.has(1), hasPortMax: t.has(2)}
	x.PortMin, x.PortMax, err = registerPair(&t, 1, 2)
	return x, err
}

// Name returns redir.
func (x *Redir) Name() string { return "redir" }

func (x *Redir) effect() bool { return true }

func (x *Redir) eval(st *state) (bool, error) {
	r := skb.NAT{}
	return st.translate(&r, x.HasPort, x.PortMin, x.PortMax, x.Flags, func() (rule.Result, error) {
		return nat.Redirect(st.ctx, st.e.Env, st.p, r, st.ch)
	})
}
