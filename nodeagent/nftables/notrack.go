package nftables

import "github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"

// Notrack keeps a packet out of connection tracking (nft_notrack_eval, net/netfilter/nft_ct.c).
type Notrack struct{}

func decodeNotrack([]byte, int) (Expr, error) { return &Notrack{}, nil }

// Name returns notrack.
func (x *Notrack) Name() string { return "notrack" }

func (x *Notrack) effect() bool { return true }

func (x *Notrack) eval(st *state) (bool, error) {
	if st.p.Ct == nil && st.p.State != skb.CtUntracked {
		st.p.State = skb.CtUntracked
		st.act("notrack")
	}
	return true, nil
}
