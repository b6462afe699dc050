package nftables

import (
	"errors"
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Keys of an Rt (enum nft_rt_keys).
const (
	rtClassid = iota
	rtNexthop4
	rtNexthop6
	rtTCPMSS
	rtXfrm
)

// Rt loads a property of the packet's route (net/netfilter/nft_rt.c).
type Rt struct {
	Key  uint32
	Dest register
}

func decodeRt(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(2)
	if err != nil {
		return nil, err
	}
	x := &Rt{Key: t.u32(2)}
	if x.Key > rtXfrm {
		return &Opaque{Type: "rt", Why: fmt.Sprintf("key %d", x.Key), Raw: append([]byte(nil), b...)}, nil
	}
	x.Dest, err = parseRegister(t.u32(1))
	return x, err
}

// Name returns rt.
func (x *Rt) Name() string { return "rt" }

func (x *Rt) effect() bool { return false }

func (x *Rt) text() string {
	return [...]string{"rt classid", "rt ip nexthop", "rt ip6 nexthop", "rt mtu", "rt ipsec"}[x.Key]
}

func (x *Rt) typ() *dataType {
	return [...]*dataType{typeRealm, typeIPv4, typeIPv6, typeHostInteger, typeBoolean}[x.Key]
}

func (x *Rt) eval(st *state) (bool, error) {
	p := st.p
	if (p.Hook == skb.Prerouting || p.Hook == skb.Ingress) && p.In != "lo" {
		return false, nil // not routed yet; what comes back over lo keeps its route
	}
	v := unknown(4)
	switch x.Key {
	case rtNexthop4, rtNexthop6:
		if (x.Key == rtNexthop4) != (p.Family == skb.IPv4) {
			return false, nil
		}
		q := node.RouteQuery{Dst: p.Dst(), Mark: p.Mark, Proto: p.Proto()}
		if p.In != "" && p.Hook != skb.Output {
			q.Src, q.In = p.Src(), p.In
		}
		r, err := st.e.Env.Route(st.ctx, q)
		var refused *node.RouteError
		if errors.As(err, &refused) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("asking for the route to %s: %w", p.Dst(), err)
		}
		hop := p.Dst()
		if r.Gateway.IsValid() {
			hop = r.Gateway
		}
		v = known(hop.AsSlice())
	case rtTCPMSS:
		v = unknown(2)
	case rtXfrm:
		v = value{[]byte{0}, []byte{0xfe}}
	}
	st.regs.store(x.Dest, v, source{label: x.text(), typ: x.typ()})
	return true, nil
}
