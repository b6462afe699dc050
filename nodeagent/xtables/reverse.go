package xtables

import (
	"errors"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Flags of struct xt_rpfilter_info.
const (
	rpLoose       = 1
	rpValidMark   = 2
	rpAcceptLocal = 4
	rpInvert      = 8
)

// matchRPFilter is rpfilter_mt (net/ipv4/netfilter/ipt_rpfilter.c, net/ipv6/netfilter/ip6t_rpfilter.c): would a packet
// back to the source leave by the interface that this one came in by?
func matchRPFilter(c *call) (bool, error) {
	flags := c.info[0]
	invert := flags&rpInvert != 0
	ok, err := c.reversePath(flags)
	return err == nil && ok != invert, err
}

func (c *call) reversePath(flags uint8) (bool, error) {
	l, found, err := c.link(c.p.In)
	if err != nil {
		return false, err
	}
	if found && l.Loopback() || c.p.PktType == skb.PacketLoopback {
		return true, nil
	}
	src, dst := c.p.Src(), c.p.Dst()
	if c.family == skb.IPv4 {
		if src.IsUnspecified() && (dst == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || dst.IsLinkLocalMulticast()) {
			return true, nil
		}
	} else if src.IsLinkLocalUnicast() || src.IsLinkLocalMulticast() || src.IsMulticast() || src.IsUnspecified() {
		// rpfilter_addr_linklocal, and the source of duplicate address detection.
		return !src.IsMulticast(), nil
	}
	// The packet's destination is the lookup's source, for policy rules only; it cannot be asked for.
	byPolicy, err := c.env.SourceRules(c.ctx, c.family == skb.IPv6)
	if err != nil {
		return false, err
	}
	if byPolicy {
		return c.reverseByPolicy(flags)
	}
	q := node.RouteQuery{Dst: src, All: true}
	if flags&rpValidMark != 0 {
		q.Mark = c.p.Mark
	}
	if c.family == skb.IPv6 && flags&rpLoose == 0 {
		q.Out = c.p.In
	}
	r, err := c.env.Route(c.ctx, q)
	var refused *node.RouteError
	if errors.As(err, &refused) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if r.Type != node.RouteUnicast && !(r.Type == node.RouteLocal && flags&rpAcceptLocal != 0) {
		return false, nil
	}
	if r.Out != "" {
		c.explain("the route back to %s is by %s", src, r.Out)
	}
	return flags&rpLoose != 0 || r.Uses(c.p.In), nil
}

// reverseByPolicy makes the lookup in a model of the rules and tables, which takes the packet's destination for a source
// (rpfilter_lookup_reverse and rpfilter_lookup_reverse6).
func (c *call) reverseByPolicy(flags uint8) (bool, error) {
	q := node.FIBQuery{Dst: c.p.Src(), Src: c.p.Dst()}
	q.TOS, _ = c.p.TOS()
	if q.Src.IsMulticast() || q.Src == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		q.Src = netip.Addr{}
	}
	if flags&rpValidMark != 0 {
		q.Mark = c.p.Mark
	}
	if c.family == skb.IPv6 {
		q.Proto = c.p.Proto()
		if flags&rpLoose == 0 {
			q.Out = c.p.In
		}
	}
	r, err := c.env.FIBLookup(c.ctx, q)
	var refused *node.RouteError
	switch {
	case errors.As(err, &refused):
		c.explain("there is no route back to %s", c.p.Src())
		return false, nil
	case err != nil && c.ctx.Err() != nil:
		return false, err
	case err != nil:
		return c.ch.Unknown("policy routing by source in rpfilter", c.where()), nil
	}
	if r.Type != node.RouteUnicast && !(r.Type == node.RouteLocal && flags&rpAcceptLocal != 0) {
		return false, nil
	}
	if r.Out != "" {
		c.explain("the route back to %s is by %s", c.p.Src(), r.Out)
	}
	if c.family == skb.IPv6 {
		if r.Type == node.RouteLocal {
			return true, nil
		}
		r.Hops = nil // here the next hop that was chosen counts
	}
	return flags&rpLoose != 0 || r.Uses(c.p.In), nil
}

func textRPFilter(w *writer, info []byte) {
	w.flag(info[0]&rpLoose != 0, "--loose")
	w.flag(info[0]&rpValidMark != 0, "--validmark")
	w.flag(info[0]&rpAcceptLocal != 0, "--accept-local")
	w.flag(info[0]&rpInvert != 0, "--invert")
}
