package nat

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/fib"
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
	flagSecondary  = 0x01
	flagOptimistic = 0x04
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

// SelectIPv6 is ipv6_dev_get_saddr (net/ipv6/addrconf.c), as package fib has it: the source address for a destination by
// an interface. It is invalid when there is none.
func SelectIPv6(ctx context.Context, env Env, out string, dst netip.Addr) (netip.Addr, error) {
	links, addrs, err := state(ctx, env)
	if err != nil {
		return netip.Addr{}, err
	}
	own := map[int][]fib.Address{indexOf(links, out): nil} // even without an address it has a master
	for _, a := range addrs {
		if a.Prefix.Addr().Is6() {
			own[a.Link] = append(own[a.Link], fib.Address{Prefix: a.Prefix, Peer: a.Peer, Scope: a.Scope, Flags: a.Flags})
		}
	}
	var s fib.State
	if s.All6, err = conf6(ctx, env, "all"); err != nil {
		return netip.Addr{}, err
	}
	for _, index := range slices.Sorted(maps.Keys(own)) {
		l, ok := links[index]
		if !ok {
			continue
		}
		x := fib.Interface{Name: l.Name, Index: index, Flags: l.Flags, VRFTable: l.VRFTable, Addresses: own[index]}
		if m := links[l.Master]; m.VRFTable != 0 {
			x.Master = m.Name
		}
		if x.IPv6, err = conf6(ctx, env, l.Name); err != nil {
			return netip.Addr{}, err
		}
		s.Interfaces = append(s.Interfaces, x)
	}
	return s.SourceAddress6(out, dst), nil
}

// conf6 reads the sysctls of an interface that take part in the choice.
func conf6(ctx context.Context, env Env, dev string) (fib.Conf6, error) {
	var (
		c      fib.Conf6
		failed error
	)
	number := func(name string) int {
		v, err := env.Sysctl(ctx, "net/ipv6/conf/"+dev+"/"+name)
		if errors.Is(err, node.ErrNotFound) {
			return 0 // the kernel does not have it
		}
		n := 0
		if err == nil {
			n, err = strconv.Atoi(v)
		}
		if err != nil && failed == nil {
			failed = err
		}
		return n
	}
	c.OutAddrsOnly, c.UseOptimistic, c.UseTempAddr = number("use_oif_addrs_only") != 0, number("use_optimistic") != 0, number("use_tempaddr")
	return c, failed
}
