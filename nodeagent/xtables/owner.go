package xtables

import (
	"fmt"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// ownerMatches test who handles the packet: xt_owner.c, xt_cgroup.c, xt_pkttype.c, xt_cpu.c.
var ownerMatches = []module{
	{name: "owner", modelled: Yes, effect: inert, note: "a local packet whose owner is not known, supplementary groups: depends",
		revisions: []revision{{rev: 1, size: 18, match: matchOwner, text: textOwner}}},
	{name: "cgroup", modelled: Depends, effect: inert, note: "never matches a packet without a local socket", revisions: []revision{
		{rev: 0, size: 8, match: matchCgroup, text: textCgroup},
		{rev: 1, size: 4104, match: matchCgroup, text: textCgroup},
		{rev: 2, size: 516, match: matchCgroup, text: textCgroup},
	}},
	{name: "pkttype", modelled: Yes, effect: inert, revisions: []revision{{size: 8, match: matchPkttype, text: textPkttype}}},
	{name: "cpu", modelled: Depends, effect: inert, revisions: []revision{{size: 8, match: matchCPU, text: textCPU}}},
}

// Flags of struct xt_owner_match_info.
const (
	ownerUID    = 1
	ownerGID    = 2
	ownerSocket = 4
	ownerGroups = 8
)

// matchOwner is owner_mt: a packet without a socket of this namespace matches only what is all inverted.
func matchOwner(c *call) (bool, error) {
	flags, inv := c.info[16], c.info[17]
	if !c.p.Local {
		return flags^inv == 0, nil
	}
	if flags&inv&ownerSocket != 0 {
		return false, nil
	}
	if flags&ownerUID != 0 {
		low, high := u32(c.info, 0), u32(c.info, 4)
		t := maybe
		if c.p.Owner != nil {
			t = triOf(c.p.Owner.UID >= low && c.p.Owner.UID <= high)
		}
		if c.decide(t, "the sender's user is "+span(uint64(low), uint64(high))) == (inv&ownerUID != 0) {
			return false, nil
		}
	}
	if flags&ownerGID != 0 {
		low, high := u32(c.info, 8), u32(c.info, 12)
		t := maybe
		if o := c.p.Owner; o != nil {
			t = groupIn(o, low, high, flags&ownerGroups != 0)
		}
		if c.decide(t, "the sender's group is "+span(uint64(low), uint64(high))) == (inv&ownerGID != 0) {
			return false, nil
		}
	}
	return true, nil
}

// groupIn tells whether a sender's group, or with all one of its supplementary groups, is in a range.
func groupIn(o *skb.Owner, low, high uint32, all bool) tri {
	in := func(g uint32) bool { return g >= low && g <= high }
	switch {
	case !o.GIDUnknown && in(o.GID), all && slices.ContainsFunc(o.Groups, in):
		return yes
	case o.GIDUnknown, all && o.Groups == nil:
		return maybe
	}
	return no
}

func textOwner(w *writer, info []byte) {
	flags, inv := info[16], info[17]
	ids := func(off int) string {
		low, high := u32(info, off), u32(info, off+4)
		if low == high {
			return fmt.Sprint(low)
		}
		return fmt.Sprintf("%d-%d", low, high)
	}
	if flags&ownerSocket != 0 {
		w.inv(inv&ownerSocket != 0, "--socket-exists")
	}
	if flags&ownerUID != 0 {
		w.inv(inv&ownerUID != 0, "--uid-owner", ids(0))
	}
	if flags&ownerGID != 0 {
		w.inv(inv&ownerGID != 0, "--gid-owner", ids(8))
	}
	w.flag(flags&ownerGroups != 0, "--suppl-groups")
}

// cgroupInfo is struct xt_cgroup_info_v0 to v2.
type cgroupInfo struct {
	path    string
	hasPath bool
	class   uint32
	invert  bool
}

func decodeCgroup(rev uint8, info []byte) cgroupInfo {
	if rev == 0 {
		return cgroupInfo{class: u32(info, 0), invert: u32(info, 4) != 0}
	}
	d := cgroupInfo{hasPath: info[0] != 0, invert: info[3] != 0}
	if d.hasPath {
		end := 516
		if rev == 1 {
			end = 4100
		}
		d.path, d.invert = cstring(info[4:end]), info[2] != 0
		return d
	}
	d.class = u32(info, 4)
	if rev == 1 {
		d.class = u32(info, 4100)
	}
	return d
}

// matchCgroup is cgroup_mt: without a socket it never matches, inverted or not.
func matchCgroup(c *call) (bool, error) {
	if !c.p.Local && c.p.Hook != skb.Input && c.p.Hook != skb.Prerouting {
		return false, nil
	}
	d := decodeCgroup(c.rev, c.info)
	if !c.p.Local && !c.depends("the kernel has found the packet's socket already") {
		return false, nil
	}
	if d.hasPath {
		return c.depends("the socket is in cgroup %s", d.path) != d.invert, nil
	}
	return c.depends("the socket is in net_cls class %d", d.class) != d.invert, nil
}

func textCgroup(w *writer, info []byte) {
	d := decodeCgroup(w.rev, info)
	if d.hasPath {
		w.inv(d.invert, "--path", quote(d.path))
	} else {
		w.inv(d.invert, "--cgroup", fmt.Sprint(d.class))
	}
}

// matchPkttype is pkttype_mt.
func matchPkttype(c *call) (bool, error) {
	typ := c.p.PktType
	if typ == skb.PacketLoopback {
		typ = skb.PacketBroadcast
		if c.p.Dst().IsMulticast() {
			typ = skb.PacketMulticast
		}
	}
	return (uint32(typ) == u32(c.info, 0)) != (u32(c.info, 4) != 0), nil
}

func textPkttype(w *writer, info []byte) {
	typ := u32(info, 0)
	name := map[uint32]string{skb.PacketHost: "unicast", skb.PacketBroadcast: "broadcast", skb.PacketMulticast: "multicast"}[typ]
	if name == "" {
		name = fmt.Sprint(typ)
	}
	w.inv(u32(info, 4) != 0, "--pkt-type", name)
}

func matchCPU(c *call) (bool, error) {
	return c.depends("CPU %d handles the packet", u32(c.info, 0)) != (u32(c.info, 4) != 0), nil
}

func textCPU(w *writer, info []byte) { w.inv(u32(info, 4) != 0, "--cpu", fmt.Sprint(u32(info, 0))) }
