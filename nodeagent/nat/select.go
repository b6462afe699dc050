package nat

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Env is what address selection asks of the node.
type Env interface {
	node.Links
	node.Router
	node.Sysctls
}

// Bits of an address's flags (include/uapi/linux/if_addr.h).
const (
	flagSecondary  = 0x01 // also "temporary" for IPv6
	flagOptimistic = 0x04
	flagDeprecated = 0x20
	flagTentative  = 0x40
)

// Masquerade is Apply with the source address that nf_nat_masquerade_ipv4 or _ipv6 takes from the output interface p.Out.
func Masquerade(ctx context.Context, env Env, p *skb.Packet, r skb.NAT, ch *rule.Chooser) (rule.Result, error) {
	r.Source = true
	if p.Family == skb.IPv4 && p.Ct != nil && p.Ct.Orig.Src.Addr().IsUnspecified() {
		return rule.Result{Code: rule.Accept, Matched: true, Action: "accept", Says: "a packet from 0.0.0.0 is not masqueraded"}, nil
	}
	var a netip.Addr
	var err error
	if p.Family == skb.IPv4 {
		a, err = SelectIPv4(ctx, env, p)
	} else {
		a, err = SelectIPv6(ctx, env, p.Out, p.Dst())
	}
	if err != nil {
		return rule.Result{}, err
	}
	if !a.IsValid() {
		return rule.Result{Code: rule.Drop, Matched: true, Action: "drop", Says: "masquerade found no address on " + p.Out}, nil
	}
	r.Min, r.Max = a, a
	res, err := Apply(p, r, ch)
	if err == nil {
		res.Action = strings.Replace(res.Action, "snat to", "masquerade to", 1)
	}
	return res, err
}

// SelectIPv4 is inet_select_addr (net/ipv4/devinet.c) for the packet's output interface and next hop: the interface's
// first primary address of global scope that shares the next hop's subnet, else its first one, else one of another
// interface. It is invalid when there is none.
func SelectIPv4(ctx context.Context, env Env, p *skb.Packet) (netip.Addr, error) {
	links, addrs, err := state(ctx, env)
	if err != nil {
		return netip.Addr{}, err
	}
	q := node.RouteQuery{Dst: p.Dst(), Mark: p.Mark, Proto: p.Proto(), Out: p.Out}
	hop := p.Dst()
	route, err := env.Route(ctx, q)
	var refused *node.RouteError
	switch {
	case err == nil:
		if route.Gateway.Is4() {
			hop = route.Gateway
		}
	case !errors.As(err, &refused):
		return netip.Addr{}, fmt.Errorf("asking the next hop of a masqueraded packet: %w", err)
	}
	localnet := false
	for _, name := range []string{"all", p.Out} {
		v, err := env.Sysctl(ctx, "net/ipv4/conf/"+name+"/route_localnet")
		if err != nil && !errors.Is(err, node.ErrNotFound) {
			return netip.Addr{}, err
		}
		localnet = localnet || v != "" && v != "0"
	}
	var first netip.Addr
	for _, a := range addrs {
		scope := a.Scope
		if localnet {
			scope = min(scope, 253)
		}
		if links[a.Link].Name != p.Out || !a.Prefix.Addr().Is4() || a.Flags&flagSecondary != 0 || scope > 0 {
			continue
		}
		if subnet(a).Contains(hop) {
			return a.Prefix.Addr(), nil
		}
		if !first.IsValid() {
			first = a.Prefix.Addr()
		}
	}
	if first.IsValid() {
		return first, nil
	}
	for _, a := range addrs {
		if a.Prefix.Addr().Is4() && a.Flags&flagSecondary == 0 && a.Scope == 0 && links[a.Link].Up() && links[a.Link].Master == links[indexOf(links, p.Out)].Master {
			return a.Prefix.Addr(), nil
		}
	}
	return netip.Addr{}, nil
}

// subnet is the prefix that inet_ifa_match compares: of the peer when there is one.
func subnet(a node.Address) netip.Prefix {
	if a.Peer.IsValid() {
		return netip.PrefixFrom(a.Peer, a.Prefix.Bits()).Masked()
	}
	return a.Prefix.Masked()
}

func indexOf(links map[int]node.Link, name string) int {
	for i, l := range links {
		if l.Name == name {
			return i
		}
	}
	return 0
}

func state(ctx context.Context, env Env) (map[int]node.Link, []node.Address, error) {
	list, err := env.Links(ctx)
	if err != nil {
		return nil, nil, err
	}
	links := make(map[int]node.Link, len(list))
	for _, l := range list {
		links[l.Index] = l
	}
	addrs, err := env.Addresses(ctx)
	return links, addrs, err
}

// Redirect is Apply with the destination that nf_nat_redirect takes (net/netfilter/nf_nat_redirect.c): the input
// interface's first address, or loopback for packets of local processes.
func Redirect(ctx context.Context, env Env, p *skb.Packet, r skb.NAT, ch *rule.Chooser) (rule.Result, error) {
	r.Source = false
	var to netip.Addr
	if p.Hook == skb.Output {
		to = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if p.Family == skb.IPv6 {
			to = netip.IPv6Loopback()
		}
	} else {
		links, addrs, err := state(ctx, env)
		if err != nil {
			return rule.Result{}, err
		}
		for _, a := range addrs {
			if links[a.Link].Name != p.In || a.Prefix.Addr().Is4() != (p.Family == skb.IPv4) {
				continue
			}
			if p.Family == skb.IPv6 && (a.Flags&(flagTentative|flagOptimistic) == flagTentative || !sameScope(a.Prefix.Addr(), p.Dst())) {
				continue
			}
			to = a.Prefix.Addr()
			break
		}
	}
	if !to.IsValid() {
		return rule.Result{Code: rule.Drop, Matched: true, Action: "drop", Says: "redirect found no address on " + p.In}, nil
	}
	r.Min, r.Max = to, to
	res, err := Apply(p, r, ch)
	if err == nil {
		res.Action = strings.Replace(res.Action, "dnat to", "redirect to", 1)
	}
	return res, err
}

// sameScope tells whether an interface address may stand in for a destination of d's scope: any for a global
// destination, else one of the same scope.
func sameScope(a, d netip.Addr) bool {
	switch {
	case d.IsLoopback():
		return a.IsLoopback()
	case d.IsLinkLocalUnicast(), d.IsLinkLocalMulticast():
		return a.IsLinkLocalUnicast()
	}
	return true
}

// SelectIPv6 is ipv6_dev_get_saddr (net/ipv6/addrconf.c): the source address for a destination by an interface, by the
// rules of RFC 6724 with the kernel's default policy table. It is invalid when there is none.
func SelectIPv6(ctx context.Context, env node.Links, out string, dst netip.Addr) (netip.Addr, error) {
	list, err := env.Links(ctx)
	if err != nil {
		return netip.Addr{}, err
	}
	addrs, err := env.Addresses(ctx)
	if err != nil {
		return netip.Addr{}, err
	}
	links := make(map[int]node.Link, len(list))
	for _, l := range list {
		links[l.Index] = l
	}
	var best candidate
	for _, a := range addrs {
		ip, l := a.Prefix.Addr(), links[a.Link]
		if !ip.Is6() || ip.IsMulticast() || ip.IsUnspecified() || !l.Up() {
			continue
		}
		if a.Flags&(flagTentative|flagOptimistic) == flagTentative {
			continue
		}
		// Destinations of link scope take only the interface's own addresses.
		if (dst.IsLinkLocalUnicast() || dst.IsMulticast()) && l.Name != out {
			continue
		}
		c := candidate{addr: ip, flags: a.Flags, onOut: l.Name == out, bits: a.Prefix.Bits()}
		if !best.addr.IsValid() || c.better(best, dst) {
			best = c
		}
	}
	return best.addr, nil
}

type candidate struct {
	addr  netip.Addr
	flags uint32
	onOut bool
	bits  int
}

// better reports whether c is preferred to d (an earlier candidate) for dst.
func (c candidate) better(d candidate, dst netip.Addr) bool {
	if (c.addr == dst) != (d.addr == dst) {
		return c.addr == dst
	}
	cs, ds, want := scope(c.addr), scope(d.addr), scope(dst)
	if cs != ds {
		if cs < ds {
			return cs >= want
		}
		return ds < want
	}
	if (c.flags&flagDeprecated == 0) != (d.flags&flagDeprecated == 0) {
		return c.flags&flagDeprecated == 0
	}
	if c.onOut != d.onOut {
		return c.onOut
	}
	if lc, ld := label(c.addr) == label(dst), label(d.addr) == label(dst); lc != ld {
		return lc
	}
	if (c.flags&flagSecondary == 0) != (d.flags&flagSecondary == 0) {
		return c.flags&flagSecondary == 0 // public before temporary, the default of use_tempaddr
	}
	return common(c.addr, dst, c.bits) > common(d.addr, dst, d.bits)
}

func scope(a netip.Addr) int {
	switch {
	case a.IsLoopback():
		return 1
	case a.IsLinkLocalUnicast(), a.IsLinkLocalMulticast():
		return 2
	}
	return 14
}

// labels is the kernel's default policy table (net/ipv6/addrlabel.c).
var labels = []struct {
	prefix netip.Prefix
	label  int
}{
	{netip.MustParsePrefix("::1/128"), 0},
	{netip.MustParsePrefix("::ffff:0:0/96"), 4},
	{netip.MustParsePrefix("::/96"), 3},
	{netip.MustParsePrefix("2001::/32"), 6},
	{netip.MustParsePrefix("2001:10::/28"), 7},
	{netip.MustParsePrefix("3ffe::/16"), 12},
	{netip.MustParsePrefix("2002::/16"), 2},
	{netip.MustParsePrefix("fec0::/10"), 11},
	{netip.MustParsePrefix("fc00::/7"), 5},
}

func label(a netip.Addr) int {
	best, out := -1, 1
	for _, l := range labels {
		if l.prefix.Contains(a) && l.prefix.Bits() > best {
			best, out = l.prefix.Bits(), l.label
		}
	}
	return out
}

func common(a, b netip.Addr, limit int) int {
	x, y := a.As16(), b.As16()
	n := 0
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			n += bits.LeadingZeros8(d)
			break
		}
		n += 8
	}
	return min(n, limit)
}
