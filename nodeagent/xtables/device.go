package xtables

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// deviceMatches test how the packet came or will go: xt_physdev.c, xt_devgroup.c, xt_mac.c, xt_realm.c.
// xt_rpfilter's modules are in reverse.go, xt_policy.c in policy.go.
var deviceMatches = []module{
	{name: "physdev", modelled: Yes, effect: inert, note: "for a packet that is said to come from a bridge device, whose port is not known: depends", revisions: []revision{{size: 66, match: matchPhysdev, text: textPhysdev}}},
	{name: "devgroup", modelled: Yes, effect: inert, revisions: []revision{{size: 20, match: matchDevgroup, text: textDevgroup}}},
	{name: "mac", modelled: Depends, effect: inert, note: "never matches on interfaces that are not Ethernet", revisions: []revision{{size: 12, match: matchMAC, text: textMAC}}},
	{name: "realm", family: skb.IPv4, modelled: Depends, effect: inert, revisions: []revision{{size: 9, match: matchRealm, text: textRealm}}},
	{name: "rpfilter", modelled: Yes, effect: inert, note: "unknown where policy rules look at the source",
		revisions: []revision{{size: 1, match: matchRPFilter, text: textRPFilter}}},
	{name: "policy", modelled: Depends, effect: inert, note: "IPsec states are not read", revisions: []revision{{size: 308, match: matchPolicy, text: textPolicy}}},
}

// link finds an interface by name.
func (c *call) link(name string) (node.Link, bool, error) {
	if name == "" {
		return node.Link{}, false, nil
	}
	links, err := c.env.Links(c.ctx)
	if err != nil {
		return node.Link{}, false, err
	}
	for _, l := range links {
		if l.Name == name {
			return l, true, nil
		}
	}
	return node.Link{}, false, nil
}

// Bits of struct xt_physdev_info.
const (
	physIn      = 0x01
	physOut     = 0x02
	physBridged = 0x04
	physIsIn    = 0x08
	physIsOut   = 0x10
	physAll     = 0x1f
)

// matchPhysdev is physdev_mt. Only frames that came by a bridge port, with br_netfilter calling the IP hooks, carry what
// it asks for; any other packet matches exactly when every option is inverted.
func matchPhysdev(c *call) (bool, error) {
	inv, bits := c.info[64], c.info[65]
	if c.p.PhysIn != "" {
		return c.physdev(inv, bits), nil
	}
	bridged, err := c.mayBeBridged()
	if err != nil {
		return false, err
	}
	if bridged {
		w := &writer{}
		textPhysdev(w, c.info)
		return c.depends("bridge port: %s", w.String()), nil
	}
	return bits&^inv&physAll == 0, nil
}

// physdev compares the bridge ports of a frame that is in the IP hooks.
func (c *call) physdev(inv, bits uint8) bool {
	in, out := c.p.PhysIn, c.p.PhysOut
	if out == "" && c.p.Out == c.p.In && bits&(physOut|physIsOut|physBridged) != 0 {
		// The frame crosses the bridge, to a port that the bridge has not learned.
		w := &writer{}
		textPhysdev(w, c.info)
		return c.depends("bridge port: %s", w.String())
	}
	is := func(bit uint8, holds bool) bool { return bits&bit == 0 || holds == (inv&bit == 0) }
	return is(physBridged, out != "") && is(physIsIn, true) && is(physIsOut, out != "") &&
		is(physIn, interfaceEqual(in, c.info[:16], c.info[16:32])) &&
		(bits&physOut == 0 || out != "" && is(physOut, interfaceEqual(out, c.info[32:48], c.info[48:64])))
}

func (c *call) mayBeBridged() (bool, error) {
	l, ok, err := c.link(c.p.In)
	if err != nil || !ok || l.Kind != "bridge" {
		return false, err
	}
	sysctl := "net/bridge/bridge-nf-call-iptables"
	if c.family == skb.IPv6 {
		sysctl = "net/bridge/bridge-nf-call-ip6tables"
	}
	// Its value does not matter: a bridge may switch the hooks on for itself. Without br_netfilter it is not there.
	_, err = c.env.Sysctl(c.ctx, sysctl)
	if errors.Is(err, node.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func textPhysdev(w *writer, info []byte) {
	inv, bits := info[64], info[65]
	if bits&physIsIn != 0 {
		w.inv(inv&physIsIn != 0, "--physdev-is-in")
	}
	if bits&physIn != 0 {
		w.inv(inv&physIn != 0, "--physdev-in", cstring(info[:16]))
	}
	if bits&physIsOut != 0 {
		w.inv(inv&physIsOut != 0, "--physdev-is-out")
	}
	if bits&physOut != 0 {
		w.inv(inv&physOut != 0, "--physdev-out", cstring(info[32:48]))
	}
	if bits&physBridged != 0 {
		w.inv(inv&physBridged != 0, "--physdev-is-bridged")
	}
}

// Flags of struct xt_devgroup_info.
const (
	groupSrc    = 1
	groupSrcInv = 2
	groupDst    = 4
	groupDstInv = 8
)

// matchDevgroup is devgroup_mt.
func matchDevgroup(c *call) (bool, error) {
	flags := u32(c.info, 0)
	for _, side := range []struct {
		use, invert uint32
		off         int
		dev         string
	}{{groupSrc, groupSrcInv, 4, c.p.In}, {groupDst, groupDstInv, 12, c.p.Out}} {
		if flags&side.use == 0 {
			continue
		}
		want, mask := u32(c.info, side.off), u32(c.info, side.off+4)
		l, ok, err := c.link(side.dev)
		if err != nil {
			return false, err
		}
		t := maybe
		if ok {
			t = triOf((want^l.Group)&mask == 0)
		}
		if c.decide(t, fmt.Sprintf("interface %s is in group %s", side.dev, masked(want, mask))) == (flags&side.invert != 0) {
			return false, nil
		}
	}
	return true, nil
}

func textDevgroup(w *writer, info []byte) {
	flags := u32(info, 0)
	if flags&groupSrc != 0 {
		w.inv(flags&groupSrcInv != 0, "--src-group", groupText(u32(info, 4), u32(info, 8)))
	}
	if flags&groupDst != 0 {
		w.inv(flags&groupDstInv != 0, "--dst-group", groupText(u32(info, 12), u32(info, 16)))
	}
}

// groupText prints an interface group; iproute2 names group 0, and iptables takes its names.
func groupText(group, mask uint32) string {
	if group == 0 && mask == ^uint32(0) {
		return "default"
	}
	return masked(group, mask)
}

// arpEthernet is ARPHRD_ETHER.
const arpEthernet = 1

// matchMAC is mac_mt. The sender's hardware address is not described, so an Ethernet packet depends.
func matchMAC(c *call) (bool, error) {
	l, ok, err := c.link(c.p.In)
	if err != nil || c.p.In == "" || ok && l.Type != arpEthernet {
		return false, err
	}
	return c.depends("the frame's source is %s", net.HardwareAddr(c.info[:6])) != (u32(c.info, 8) != 0), nil
}

func textMAC(w *writer, info []byte) {
	w.inv(u32(info, 8) != 0, "--mac-source", strings.ToLower(net.HardwareAddr(info[:6]).String()))
}

func matchRealm(c *call) (bool, error) {
	return c.depends("the route is in realm %s", masked(u32(c.info, 0), u32(c.info, 4))) != (c.info[8] != 0), nil
}

func textRealm(w *writer, info []byte) {
	w.inv(info[8] != 0, "--realm", masked(u32(info, 0), u32(info, 4)))
}
