package nftables

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// FlowOffload hands the rest of a flow to a flowtable, past the rules (net/netfilter/nft_flow_offload.c). It does not
// change the way of this packet.
type FlowOffload struct{ Table string }

func decodeFlowOffload(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(1)
	if err != nil {
		return nil, err
	}
	return &FlowOffload{Table: t.str(1)}, nil
}

// Name returns flow_offload.
func (x *FlowOffload) Name() string { return "flow_offload" }

func (x *FlowOffload) effect() bool { return false }

// eval breaks the rule for flows that are not offloaded: new ones, those of other protocols than TCP and UDP.
func (x *FlowOffload) eval(st *state) (bool, error) {
	p := st.p
	if p.Ct == nil || p.State == skb.CtNew || p.Ct.New || p.Proto() != skb.TCP && p.Proto() != skb.UDP {
		return false, nil
	}
	return st.depends(fmt.Sprintf("the flow is taken over by flowtable %s", x.Table)), nil
}
