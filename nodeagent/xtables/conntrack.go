package xtables

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// conntrackMatches are the matches on the connection's tuples, state and status: xt_conntrack.c, xt_state.c.
var conntrackMatches = []module{
	{name: "conntrack", modelled: Yes, tracks: true, effect: inert, note: "--ctexpire: depends", revisions: []revision{
		{rev: 1, size: 152, match: matchConntrack, text: textConntrack},
		{rev: 2, size: 154, match: matchConntrack, text: textConntrack},
		{rev: 3, size: 162, match: matchConntrack, text: textConntrack},
	}},
	{name: "state", modelled: Yes, tracks: true, effect: inert, revisions: []revision{{size: 4, match: matchState, text: textState}}},
}

// Flags of struct xt_conntrack_mtinfo3 (enum of include/uapi/linux/netfilter/xt_conntrack.h).
const (
	ctMatchState       = 1 << 0
	ctMatchProto       = 1 << 1
	ctMatchOrigSrc     = 1 << 2
	ctMatchStatus      = 1 << 6
	ctMatchExpires     = 1 << 7
	ctMatchOrigSrcPort = 1 << 8
	ctMatchDirection   = 1 << 12
	ctMatchStateAlias  = 1 << 13
)

// Bits of a state mask: XT_CONNTRACK_STATE_….
const (
	stateInvalid     = 1 << 0
	stateEstablished = 1 << 1
	stateRelated     = 1 << 2
	stateNew         = 1 << 3
	stateSNAT        = 1 << 6
	stateDNAT        = 1 << 7
	stateUntracked   = 1 << 8
	// stateUntrackedOld is XT_STATE_UNTRACKED of the state match.
	stateUntrackedOld = 1 << 6
)

// stateBit returns the packet's bit, without the virtual states.
func stateBit(p *skb.Packet, untracked uint32) uint32 {
	if p.Ct == nil {
		if p.State == skb.CtUntracked {
			return untracked
		}
		return stateInvalid
	}
	switch p.State {
	case skb.CtEstablished, skb.CtEstablishedReply:
		return stateEstablished
	case skb.CtRelated, skb.CtRelatedReply:
		return stateRelated
	case skb.CtNew:
		return stateNew
	case skb.CtUntracked:
		return untracked
	}
	return stateInvalid
}

// conntrackInfo is struct xt_conntrack_mtinfo1 to 3, decoded.
type conntrackInfo struct {
	// addr holds origsrc, origdst, replsrc, repldst with their masks, 16 bytes each.
	addr [4]struct{ value, mask []byte }
	// ports holds the bounds in the same order.
	ports                  [4][2]uint16
	expiresMin, expiresMax uint32
	proto                  uint16
	match, invert          uint16
	state, status          uint32
}

func decodeConntrack(rev uint8, info []byte) conntrackInfo {
	var d conntrackInfo
	for i := range d.addr {
		d.addr[i].value, d.addr[i].mask = info[32*i:32*i+16], info[32*i+16:32*i+32]
	}
	d.expiresMin, d.expiresMax, d.proto = u32(info, 128), u32(info, 132), u16(info, 136)
	d.match, d.invert = u16(info, 146), u16(info, 148)
	for i := range d.ports {
		if rev < 3 {
			p := be16(info, 138+2*i)
			d.ports[i] = [2]uint16{p, p}
		} else {
			d.ports[i] = [2]uint16{u16(info, 138+2*i), u16(info, 154+2*i)}
		}
	}
	if rev == 1 {
		d.state, d.status = uint32(info[150]), uint32(info[151])
	} else {
		d.state, d.status = uint32(u16(info, 150)), uint32(u16(info, 152))
	}
	return d
}

// tupleEnds are the four ends of a connection in the order of conntrackInfo.
func tupleEnds(c *skb.Conn) [4]netip.AddrPort {
	return [4]netip.AddrPort{c.Orig.Src, c.Orig.Dst, c.Reply.Src, c.Reply.Dst}
}

var endNames = [4]string{"original source", "original destination", "reply source", "reply destination"}

// matchConntrack is conntrack_mt.
func matchConntrack(c *call) (bool, error) {
	d := decodeConntrack(c.rev, c.info)
	want := func(flag uint16) bool { return d.invert&flag == 0 }
	ct := c.p.Ct
	if d.match&ctMatchState != 0 {
		bit := stateBit(c.p, stateUntracked)
		if ct != nil {
			if ct.Status&skb.StatusSrcNAT != 0 {
				bit |= stateSNAT
			}
			if ct.Status&skb.StatusDstNAT != 0 {
				bit |= stateDNAT
			}
		}
		if (d.state&bit != 0) != want(ctMatchState) {
			return false, nil
		}
	}
	if ct == nil {
		return d.match&ctMatchState != 0, nil
	}
	if d.match&ctMatchDirection != 0 && !c.p.State.Reply() != want(ctMatchDirection) {
		return false, nil
	}
	ends := tupleEnds(ct)
	for i, end := range ends {
		flag := uint16(ctMatchOrigSrc << i)
		if d.match&flag == 0 {
			continue
		}
		a := end.Addr().Unmap().AsSlice()
		if maskedSame(a, d.addr[i].mask, d.addr[i].value) != want(flag) {
			return false, nil
		}
	}
	if d.match&ctMatchProto != 0 && (uint16(ct.Orig.Proto) == d.proto) != want(ctMatchProto) {
		return false, nil
	}
	for i, end := range ends {
		flag := uint16(ctMatchOrigSrcPort << i)
		if d.match&flag == 0 {
			continue
		}
		low, high := d.ports[i][0], d.ports[i][1]
		condition := fmt.Sprintf("%s port %s", endNames[i], span(uint64(low), uint64(high)))
		if c.decide(tuplePort(ct.Orig.Proto, end).within(uint64(low), uint64(high)), condition) != want(flag) {
			return false, nil
		}
	}
	if d.match&ctMatchStatus != 0 && (d.status&ct.Status != 0) != want(ctMatchStatus) {
		return false, nil
	}
	if d.match&ctMatchExpires != 0 {
		// A connection that is not confirmed has no timer: it counts as expiring in 0 seconds.
		t := exact(0).within(uint64(d.expiresMin), uint64(d.expiresMax))
		if ct.Status&skb.StatusConfirmed != 0 {
			t = maybe
		}
		if c.decide(t, "the connection expires in "+span(uint64(d.expiresMin), uint64(d.expiresMax))+" s") != want(ctMatchExpires) {
			return false, nil
		}
	}
	return true, nil
}

// maskedSame compares as nf_inet_addr comparisons do: (value ^ want) & mask == 0.
func maskedSame(value, mask, want []byte) bool {
	for i, v := range value {
		if (v^want[i])&mask[i] != 0 {
			return false
		}
	}
	return true
}

// tuplePort is one end's port as conntrack holds it. A port of 0 is not known where the protocol has ports.
func tuplePort(proto uint8, end netip.AddrPort) number {
	switch proto {
	case skb.TCP, skb.UDP, skb.SCTP, skb.DCCP, skb.UDPLite, skb.ICMP, skb.ICMPv6:
		if end.Port() == 0 && proto != skb.ICMP && proto != skb.ICMPv6 {
			return number{width: 0xffff}
		}
	}
	return exact(uint64(end.Port()))
}

// matchState is state_mt.
func matchState(c *call) (bool, error) {
	return u32(c.info, 0)&stateBit(c.p, stateUntrackedOld) != 0, nil
}

// aliasState reports whether iptables prints this conntrack match as "-m state".
func aliasState(name string, rev uint8, info []byte) bool {
	return name == "conntrack" && rev >= 1 && u16(info, 146)&ctMatchStateAlias != 0
}

var stateNames = []struct {
	bit  uint32
	name string
}{{stateInvalid, "INVALID"}, {stateNew, "NEW"}, {stateRelated, "RELATED"}, {stateEstablished, "ESTABLISHED"},
	{stateUntracked, "UNTRACKED"}, {stateSNAT, "SNAT"}, {stateDNAT, "DNAT"}}

func stateText(mask uint32) string {
	var out []string
	for _, s := range stateNames {
		if mask&s.bit != 0 {
			out = append(out, s.name)
		}
	}
	return strings.Join(out, ",")
}

func statusText(mask uint32) string {
	var out []string
	for _, s := range []struct {
		bit  uint32
		name string
	}{{skb.StatusExpected, "EXPECTED"}, {skb.StatusSeenReply, "SEEN_REPLY"}, {skb.StatusAssured, "ASSURED"}, {skb.StatusConfirmed, "CONFIRMED"}} {
		if mask&s.bit != 0 {
			out = append(out, s.name)
		}
	}
	if len(out) == 0 {
		return "NONE"
	}
	return strings.Join(out, ",")
}

func textState(w *writer, info []byte) {
	mask := u32(info, 0)
	if mask&stateUntrackedOld != 0 {
		mask = mask&^stateUntrackedOld | stateUntracked
	}
	w.word("--state", stateText(mask))
}

func textConntrack(w *writer, info []byte) {
	d := decodeConntrack(w.rev, info)
	inverted := func(flag uint16) bool { return d.invert&flag != 0 }
	if d.match&ctMatchState != 0 {
		option := "--ctstate"
		if d.match&ctMatchStateAlias != 0 {
			option = "--state"
		}
		w.inv(inverted(ctMatchState), option, stateText(d.state))
	}
	if d.match&ctMatchProto != 0 {
		w.inv(inverted(ctMatchProto), "--ctproto", fmt.Sprint(d.proto))
	}
	for i, option := range []string{"--ctorigsrc", "--ctorigdst", "--ctreplsrc", "--ctrepldst"} {
		if flag := uint16(ctMatchOrigSrc << i); d.match&flag != 0 {
			w.inv(inverted(flag), option, w.conntrackAddr(d.addr[i].value, d.addr[i].mask))
		}
	}
	for i, option := range []string{"--ctorigsrcport", "--ctorigdstport", "--ctreplsrcport", "--ctrepldstport"} {
		if flag := uint16(ctMatchOrigSrcPort << i); d.match&flag != 0 {
			w.inv(inverted(flag), option, span(uint64(d.ports[i][0]), uint64(d.ports[i][1])))
		}
	}
	if d.match&ctMatchStatus != 0 {
		w.inv(inverted(ctMatchStatus), "--ctstatus", statusText(d.status))
	}
	if d.match&ctMatchExpires != 0 {
		w.inv(inverted(ctMatchExpires), "--ctexpire", span(uint64(d.expiresMin), uint64(d.expiresMax)))
	}
	if d.match&ctMatchDirection != 0 {
		direction := "ORIGINAL"
		if inverted(ctMatchDirection) {
			direction = "REPLY"
		}
		w.word("--ctdir", direction)
	}
}

// conntrackAddr prints an address, with its mask unless that covers all of it.
func (w *writer) conntrackAddr(value, mask []byte) string {
	value, mask = w.addrBytes(value), w.addrBytes(mask)
	s := addrText(value)
	if n, ok := prefixLength(mask); !ok || n != 8*len(mask) {
		s += "/" + maskText(mask)
	}
	return s
}
