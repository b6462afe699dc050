package nftables

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nat"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Flags of a translation (NF_NAT_RANGE_*, include/uapi/linux/netfilter/nf_nat.h).
const (
	rangeMapIPs      = 1 << 0
	rangeProto       = 1 << 1
	rangeRandom      = 1 << 2
	rangePersistent  = 1 << 3
	rangeFullyRandom = 1 << 4
	rangeOffset      = 1 << 5
	rangeNetmap      = 1 << 6
)

// NAT translates the source or destination of a flow (net/netfilter/nft_nat.c).
type NAT struct {
	// Destination is true for dnat, false for snat.
	Destination bool
	// Family is the family of the addresses, in NFPROTO numbers.
	Family node.NFTFamily
	// The registers of addresses and ports; they count only when Has… is true.
	AddrMin, AddrMax, PortMin, PortMax register
	HasAddr, HasPort                   bool
	hasAddrMax, hasPortMax             bool
	Flags                              uint32
}

func decodeNAT(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(7)
	if err != nil {
		return nil, err
	}
	x := &NAT{
		Destination: t.u32(1) == 1, Family: node.NFTFamily(t.u32(2)), HasAddr: t.has(3), HasPort: t.has(5),
		hasAddrMax: t.has(4), hasPortMax: t.has(6), Flags: t.u32(7),
	}
	if t.u32(1) > 1 {
		return nil, fmt.Errorf("%w: translation %d", ErrMalformed, t.u32(1))
	}
	x.AddrMin, x.AddrMax, err = registerPair(&t, 3, 4)
	if err != nil {
		return nil, err
	}
	x.PortMin, x.PortMax, err = registerPair(&t, 5, 6)
	return x, err
}

// registerPair reads the registers of a range; a missing second one is the first.
func registerPair(t *table, first, second int) (a, b register, err error) {
	if a, err = parseRegister(t.u32(first)); err != nil {
		return 0, 0, err
	}
	if !t.has(second) {
		return a, a, nil
	}
	b, err = parseRegister(t.u32(second))
	return a, b, err
}

// Name returns nat.
func (x *NAT) Name() string { return "nat" }

func (x *NAT) effect() bool { return true }

func (x *NAT) eval(st *state) (bool, error) {
	if x.Family != node.NFTInet && uint8(x.Family) != st.nfproto() {
		// nft_nat_inet_eval leaves packets of the other family alone.
		return true, nil
	}
	r := skb.NAT{Source: !x.Destination}
	if x.HasAddr {
		n := 4
		if st.p.Family == skb.IPv6 {
			n = 16
		}
		low, high := st.regs.load(x.AddrMin, n), st.regs.load(x.AddrMax, n)
		if !low.all() || !high.all() {
			return st.unknown("the address of the translation"), nil
		}
		r.Min, _ = netip.AddrFromSlice(low.b)
		r.Max, _ = netip.AddrFromSlice(high.b)
	}
	return st.translate(&r, x.HasPort, x.PortMin, x.PortMax, x.Flags, func() (rule.Result, error) {
		return nat.Apply(st.p, r, st.ch)
	})
}

// translate fills in ports and flags and applies a translation.
func (st *state) translate(r *skb.NAT, ports bool, low, high register, flags uint32, apply func() (rule.Result, error)) (bool, error) {
	if st.p.Ct == nil {
		// The kernel does not run nat chains for a packet without connection (nf_nat_inet_fn accepts it).
		st.res.Code = rule.Accept
		return false, nil
	}
	if ports {
		a, b := st.regs.load(low, 2), st.regs.load(high, 2)
		if !a.all() || !b.all() {
			return st.unknown("the port of the translation"), nil
		}
		r.Ports, r.MinPort, r.MaxPort = true, binary.BigEndian.Uint16(a.b), binary.BigEndian.Uint16(b.b)
	}
	r.Random = flags&rangeRandom != 0
	r.FullyRandom = flags&rangeFullyRandom != 0
	r.Persistent = flags&rangePersistent != 0
	r.Netmap = flags&rangeNetmap != 0
	if flags&rangeOffset != 0 {
		return st.unknown("a shifted port range"), nil
	}
	res, err := apply()
	if err != nil {
		return false, err
	}
	return st.result(res), nil
}
