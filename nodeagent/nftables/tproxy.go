package nftables

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Tproxy gives the packet to a local socket without translation (net/netfilter/nft_tproxy.c).
type Tproxy struct {
	Family           node.NFTFamily
	Addr, Port       register
	HasAddr, HasPort bool
}

func decodeTproxy(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(3)
	if err != nil {
		return nil, err
	}
	x := &Tproxy{Family: node.NFTFamily(t.u32(1)), HasAddr: t.has(2), HasPort: t.has(3)}
	if x.Addr, err = parseRegister(t.u32(2)); err != nil {
		return nil, err
	}
	x.Port, err = parseRegister(t.u32(3))
	return x, err
}

// Name returns tproxy.
func (x *Tproxy) Name() string { return "tproxy" }

func (x *Tproxy) effect() bool { return true }

func (x *Tproxy) eval(st *state) (bool, error) {
	p := st.p
	if p.Proto() != skb.TCP && p.Proto() != skb.UDP {
		return false, nil
	}
	if x.Family != 0 && x.Family != node.NFTInet && uint8(x.Family) != st.nfproto() {
		return false, nil
	}
	port, _ := p.DstPort()
	if x.HasPort {
		v := st.regs.load(x.Port, 2)
		if !v.all() {
			return st.unknown("the port of tproxy"), nil
		}
		if n := binary.BigEndian.Uint16(v.b); n != 0 {
			port = n
		}
	}
	addr, err := x.address(st)
	if err != nil {
		return false, err
	}
	to := netip.AddrPortFrom(addr, port)
	list, err := st.e.Env.Listening(st.ctx, p.Proto(), to)
	if err != nil {
		return false, fmt.Errorf("asking for sockets on %s: %w", to, err)
	}
	if len(list) == 0 {
		if p.State == skb.CtNew || p.State == skb.CtNone {
			return false, nil
		}
		if !st.depends("the packet belongs to a local transparent socket") {
			return false, nil
		}
		p.TProxy = p.Destination()
		return true, nil
	}
	if !st.depends(fmt.Sprintf("the socket on %s is transparent", to)) {
		return false, nil
	}
	p.TProxy = to
	st.act("tproxy to %s", to)
	return true, nil
}

// address is the address that the socket is looked for on: the rule's, else the input interface's first
// (nf_tproxy_laddr4, nf_tproxy_laddr6), else the packet's destination.
func (x *Tproxy) address(st *state) (netip.Addr, error) {
	n := 4
	if st.p.Family == skb.IPv6 {
		n = 16
	}
	if x.HasAddr {
		if v := st.regs.load(x.Addr, n); v.all() {
			a, _ := netip.AddrFromSlice(v.b)
			if !a.IsUnspecified() {
				return a, nil
			}
		}
	}
	in, err := st.linkOf(st.p.In)
	if err != nil || in == nil {
		return st.p.Dst(), err
	}
	list, err := st.e.Env.Addresses(st.ctx)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range list {
		if a.Link == in.Index && a.Prefix.Addr().Is4() == (st.p.Family == skb.IPv4) && a.Flags&1 == 0 {
			return a.Prefix.Addr(), nil
		}
	}
	return st.p.Dst(), nil
}
