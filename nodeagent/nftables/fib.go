package nftables

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Flags and results of a Fib (enum nft_fib_flags, nft_fib_result).
const (
	fibSaddr   = 1
	fibDaddr   = 2
	fibMark    = 4
	fibIif     = 8
	fibOif     = 16
	fibPresent = 32

	fibResultOif      = 1
	fibResultOifname  = 2
	fibResultAddrtype = 3
)

// Fib asks the routing tables about the packet's source or destination (net/ipv4/netfilter/nft_fib_ipv4.c,
// net/ipv6/netfilter/nft_fib_ipv6.c).
type Fib struct {
	Dest   register
	Result uint32
	Flags  uint32
}

func decodeFib(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(3)
	if err != nil {
		return nil, err
	}
	x := &Fib{Result: t.u32(2), Flags: t.u32(3)}
	if x.Dest, err = parseRegister(t.u32(1)); err != nil {
		return nil, err
	}
	if x.Result < fibResultOif || x.Result > fibResultAddrtype || x.Flags >= 64 {
		return &Opaque{Type: "fib", Why: fmt.Sprintf("result %d, flags %d", x.Result, x.Flags), Raw: append([]byte(nil), b...)}, nil
	}
	return x, nil
}

// Name returns fib.
func (x *Fib) Name() string { return "fib" }

func (x *Fib) effect() bool { return false }

func (x *Fib) eval(st *state) (bool, error) {
	from := source{label: x.text()}
	a := st.p.Src()
	if x.Flags&fibDaddr != 0 {
		a = st.p.Dst()
	}
	if x.Result == fibResultAddrtype {
		t, err := st.e.addrType(st.ctx, a, x.device(st.p))
		if err != nil {
			return false, err
		}
		st.regs.store(x.Dest, knownHost32(uint32(t)), from)
		return true, nil
	}
	name, found, err := x.lookup(st, a)
	if err != nil {
		return false, err
	}
	v, err := x.answer(st, name, found)
	if err != nil {
		return false, err
	}
	st.regs.store(x.Dest, v, from)
	return true, nil
}

// device is the interface that the lookup is restricted to, "" for none.
func (x *Fib) device(p *skb.Packet) string {
	switch {
	case x.Flags&fibIif != 0:
		return p.In
	case x.Flags&fibOif != 0:
		return p.Out
	}
	return ""
}

// addrType asks for an address's type.
func (e *Evaluator) addrType(ctx context.Context, a netip.Addr, dev string) (node.RouteType, error) {
	t, err := e.Env.AddrType(ctx, a, dev)
	if err != nil {
		return 0, fmt.Errorf("asking for the type of address %s: %w", a, err)
	}
	return t, nil
}

// lookup finds the interface that a packet to a would leave by: for the source address, the reverse path.
func (x *Fib) lookup(st *state, a netip.Addr) (name string, found bool, err error) {
	p := st.p
	loopback := p.In == "lo" || p.PktType == skb.PacketLoopback
	if loopback && (p.Hook == skb.Prerouting || p.Hook == skb.Ingress || p.Hook == skb.Input) { // nft_fib_can_skip
		return p.In, true, nil
	}
	if p.Family == skb.IPv4 && p.Src() == netip.IPv4Unspecified() {
		if d := p.Dst(); d == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || d.IsLinkLocalMulticast() {
			return p.In, true, nil
		}
	}
	// The other address takes part in policy rules only. It is not a source of this host, so it cannot be asked for as
	// one: the kernel's interface for route queries checks it.
	byPolicy, err := st.e.Env.SourceRules(st.ctx, p.Family == skb.IPv6)
	if err != nil {
		return "", false, err
	}
	if byPolicy {
		name, found, done, err := x.bare(st, a)
		if done || err != nil {
			return name, found, err
		}
		if st.unknown("policy routing by source in a fib lookup") {
			return "", false, nil
		}
	}
	dev := x.device(p)
	q := node.RouteQuery{Dst: a, All: dev != ""}
	if x.Flags&fibMark != 0 {
		q.Mark = p.Mark
	}
	if p.Family == skb.IPv6 && a.IsLinkLocalUnicast() {
		q.Out = dev
		if dev == "" {
			q.Out = p.In
		}
	}
	r, err := st.e.Env.Route(st.ctx, q)
	var refused *node.RouteError
	if errors.As(err, &refused) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("asking for the route to %s: %w", a, err)
	}
	if r.Type == node.RouteLocal || p.Family == skb.IPv6 && r.Type == node.RouteAnycast {
		return "", false, nil
	}
	if dev == "" {
		return r.Out, true, nil
	}
	if r.Uses(dev) {
		return dev, true, nil
	}
	return st.throughDevice(r, dev)
}

// bare makes the lookup in a model of the rules and tables, which takes a foreign source. It is not done when these could
// not be read.
func (x *Fib) bare(st *state, a netip.Addr) (name string, found, done bool, err error) {
	p := st.p
	dev := x.device(p)
	q := node.FIBQuery{Dst: a, Src: p.Dst(), Proto: p.Proto()}
	q.TOS, _ = p.TOS()
	switch {
	case x.Flags&fibDaddr != 0:
		q.Src = p.Src()
	case p.Hook == skb.Forward && x.Flags&fibIif != 0:
		q.In = p.Out
	}
	if q.Src.IsMulticast() || q.Src == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		q.Src = netip.Addr{}
	}
	if x.Flags&fibMark != 0 {
		q.Mark = p.Mark
	}
	if p.Family == skb.IPv6 && a.IsLinkLocalUnicast() {
		q.Strict, q.Out = true, dev
		if dev == "" {
			q.Out = p.In
		}
	}
	r, err := st.e.Env.FIBLookup(st.ctx, q)
	var refused *node.RouteError
	switch {
	case errors.As(err, &refused):
		return "", false, true, nil
	case err != nil && st.ctx.Err() != nil:
		return "", false, false, err
	case err != nil:
		return "", false, false, nil
	}
	if r.Type == node.RouteLocal || p.Family == skb.IPv6 && r.Type == node.RouteAnycast {
		return "", false, true, nil
	}
	if len(r.OneOf) > 0 && (dev == "" || r.Uses(dev)) {
		return "", false, false, nil // the kernel's choice decides
	}
	if dev == "" {
		return r.Out, true, true, nil
	}
	if p.Family == skb.IPv6 {
		r.Hops = nil // here the next hop that was chosen counts
	}
	if r.Uses(dev) {
		return dev, true, true, nil
	}
	name, found, err = st.throughDevice(r, dev)
	return name, found, true, err
}

// throughDevice tells whether a route that leaves by another interface has dev as one of its next hops: then the kernel
// answers dev (fib_info_nh_uses_dev). A VRF's device stands for its slaves.
func (st *state) throughDevice(r node.Route, dev string) (string, bool, error) {
	out, err := st.linkOf(r.Out)
	if err != nil {
		return "", false, err
	}
	in, err := st.linkOf(dev)
	if err != nil {
		return "", false, err
	}
	if out != nil && in != nil && out.Master == in.Index && in.Kind == "vrf" {
		return dev, true, nil
	}
	return "", false, nil
}

// answer is what the register receives (nft_fib_store_result).
func (x *Fib) answer(st *state, name string, found bool) (value, error) {
	if x.Flags&fibPresent != 0 {
		if found && name != "" {
			return knownU8(1), nil
		}
		return known(make([]byte, 4)), nil
	}
	if !found {
		// The register was cleared: its first word only, for a name.
		return known(make([]byte, 4)), nil
	}
	if x.Result == fibResultOifname {
		return padded(name, 16), nil
	}
	l, err := st.linkOf(name)
	if err != nil {
		return value{}, err
	}
	if l == nil {
		return unknown(4), nil
	}
	return knownHost32(uint32(l.Index)), nil
}

// text is the expression as nft prints it.
func (x *Fib) text() string {
	s := "fib "
	sep := ""
	for _, f := range []struct {
		flag uint32
		name string
	}{{fibSaddr, "saddr"}, {fibDaddr, "daddr"}, {fibMark, "mark"}, {fibIif, "iif"}, {fibOif, "oif"}} {
		if x.Flags&f.flag != 0 {
			s += sep + f.name
			sep = " . "
		}
	}
	switch x.Result {
	case fibResultOif:
		return s + " oif"
	case fibResultOifname:
		return s + " oifname"
	}
	return s + " type"
}
