package xtables

import (
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// socketMatches and socketTargets look for a local socket: xt_socket.c, xt_TPROXY.c.
var socketMatches = []module{
	{name: "socket", modelled: Yes, effect: changes, note: "established sockets, --transparent: depends; --restore-skmark: unknown mark", revisions: []revision{
		{rev: 0, only: skb.IPv4, size: 0, match: matchSocket, text: textSocket},
		{rev: 1, size: 1, match: matchSocket, text: textSocket},
		{rev: 2, size: 1, match: matchSocket, text: textSocket},
		{rev: 3, size: 1, match: matchSocket, text: textSocket},
	}},
}

var socketTargets = []module{
	{name: "TPROXY", modelled: Yes, note: "whether the socket has IP_TRANSPARENT: depends", revisions: []revision{
		{rev: 0, only: skb.IPv4, size: 14, target: targetTPROXY, text: textTPROXY},
		{rev: 1, size: 26, target: targetTPROXY, text: textTPROXY},
	}},
}

// Flags of struct xt_socket_mtinfo1 to 3.
const (
	socketTransparent = 1
	socketNoWildcard  = 2
	socketRestoreMark = 4
)

func socketFlags(rev uint8, info []byte) uint8 {
	if rev == 0 {
		return 0
	}
	return info[0]
}

// matchSocket is socket_match. For the first packet of a flow only listening sockets come into question.
func matchSocket(c *call) (bool, error) {
	flags := socketFlags(c.rev, c.info)
	proto := c.p.Proto()
	if proto != skb.TCP && proto != skb.UDP {
		if typ, _, ok := c.p.ICMPType(); ok && icmpError(c.family, typ) {
			return c.depends("the ICMP error is about a local socket's packet"), nil
		}
		return false, nil
	}
	if c.p.Ct != nil && !c.p.Ct.New || c.p.Ct == nil && c.p.State == skb.CtEstablished {
		if !c.depends("a local socket has this connection") {
			return false, nil
		}
	} else {
		port, known := c.p.DstPort()
		if !known {
			return c.depends("a local socket listens on the destination port"), nil
		}
		sockets, err := c.env.Listening(c.ctx, proto, netip.AddrPortFrom(c.p.Dst(), port))
		if err != nil {
			return false, err
		}
		found := false
		for _, s := range sockets {
			if !s.Local.Addr().IsUnspecified() || flags&socketNoWildcard != 0 {
				found = true
				c.explain("a socket listens on %s", s.Local)
				break
			}
		}
		if !found {
			return false, nil
		}
	}
	if flags&socketTransparent != 0 && !c.depends("the socket has IP_TRANSPARENT") {
		return false, nil
	}
	if flags&socketRestoreMark != 0 && !c.depends("the socket's mark is %#x", c.p.Mark) {
		return c.ch.Unknown("the mark of a socket", c.where()), nil
	}
	return true, nil
}

func textSocket(w *writer, info []byte) {
	flags := socketFlags(w.rev, info)
	w.flag(flags&socketTransparent != 0, "--transparent")
	w.flag(flags&socketNoWildcard != 0, "--nowildcard")
	w.flag(flags&socketRestoreMark != 0, "--restore-skmark")
}

// tproxyInfo is struct xt_tproxy_target_info and its revision 1.
type tproxyInfo struct {
	mask, value uint32
	addr        []byte
	port        uint16
}

func decodeTPROXY(rev uint8, info []byte, f skb.Family) tproxyInfo {
	d := tproxyInfo{mask: u32(info, 0), value: u32(info, 4)}
	if rev == 0 {
		d.addr, d.port = info[8:12], be16(info, 12)
	} else {
		d.addr, d.port = addrBytes(f, info[8:24]), be16(info, 24)
	}
	return d
}

// targetTPROXY is tproxy_tg4 and tproxy_tg6: the packet goes to a local transparent socket, or is dropped.
func targetTPROXY(c *call) (rule.Result, error) {
	d := decodeTPROXY(c.rev, c.info, c.family)
	addr, _ := netip.AddrFromSlice(d.addr)
	if addr.IsUnspecified() {
		a, err := c.firstAddress(c.p.In)
		if err != nil {
			return rule.Result{}, err
		}
		if addr = c.p.Dst(); a.IsValid() {
			addr = a
		}
	}
	port := d.port
	if port == 0 {
		p, known := c.p.DstPort()
		if !known {
			return unknownTarget(c, "TPROXY to a port that is not known"), nil
		}
		port = p
	}
	to := netip.AddrPortFrom(addr, port)
	established := c.p.Ct != nil && !c.p.Ct.New && c.depends("a local socket has this connection")
	if !established {
		sockets, err := c.env.Listening(c.ctx, c.p.Proto(), to)
		if err != nil {
			return rule.Result{}, err
		}
		if len(sockets) == 0 {
			return rule.Result{Code: rule.Drop, Action: fmt.Sprintf("drop: nothing listens on %s for tproxy", to)}, nil
		}
	}
	if !c.depends("the socket on %s has IP_TRANSPARENT", to) {
		return rule.Result{Code: rule.Drop, Action: fmt.Sprintf("drop: the socket on %s is not transparent", to)}, nil
	}
	c.p.Mark = c.p.Mark&^d.mask ^ d.value
	c.p.TProxy = to
	return rule.Result{Code: rule.Accept, Action: fmt.Sprintf("tproxy to %s", to)}, nil
}

// Address flags that keep an address from being used (IFA_F_…).
const (
	addrSecondary  = 0x01
	addrDeprecated = 0x20
	addrTentative  = 0x40
)

// firstAddress returns the interface's first usable address of the packet's family, or none.
func (c *call) firstAddress(dev string) (netip.Addr, error) {
	l, ok, err := c.link(dev)
	if err != nil || !ok {
		return netip.Addr{}, err
	}
	all, err := c.env.Addresses(c.ctx)
	if err != nil {
		return netip.Addr{}, err
	}
	bad := uint32(addrSecondary)
	if c.family == skb.IPv6 {
		bad = addrDeprecated | addrTentative
	}
	for _, a := range all {
		if a.Link == l.Index && a.Prefix.Addr().Is4() == (c.family == skb.IPv4) && a.Flags&bad == 0 {
			return a.Prefix.Addr(), nil
		}
	}
	return netip.Addr{}, nil
}

func textTPROXY(w *writer, info []byte) {
	d := decodeTPROXY(w.rev, info, w.family)
	w.word("--on-port", fmt.Sprint(d.port), "--on-ip", addrText(d.addr))
	w.word("--tproxy-mark", hex(uint64(d.value))+"/"+hex(uint64(d.mask)))
}
