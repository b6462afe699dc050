package nftables

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Keys of a Ct (enum nft_ct_keys).
const (
	ctState = iota
	ctDirection
	ctStatus
	ctMark
	ctSecmark
	ctExpiration
	ctHelper
	ctL3proto
	ctSrc
	ctDst
	ctProtocol
	ctProtoSrc
	ctProtoDst
	ctLabels
	ctPkts
	ctBytes
	ctAvgpkt
	ctZone
	ctEventmask
	ctSrcIP
	ctDstIP
	ctSrcIP6
	ctDstIP6
	ctID
)

// Bits of ct state (NF_CT_STATE_BIT, include/uapi/linux/netfilter/nf_conntrack_common.h).
const (
	stateInvalid     = 1 << 0
	stateEstablished = 1 << 1
	stateRelated     = 1 << 2
	stateNew         = 1 << 3
	stateUntracked   = 1 << 6
)

// Directions of a Ct; directionNone is a key without one.
const (
	directionOriginal = 0
	directionReply    = 1
	directionNone     = 2
)

// Ct loads what connection tracking knows about a packet's flow, or sets it (net/netfilter/nft_ct.c).
type Ct struct {
	Key uint32
	// Direction is 0 for the original, 1 for the reply direction, 2 for keys without direction.
	Direction uint8
	// Register receives the value, or holds it when Set.
	Register register
	Set      bool
}

func decodeCt(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(4)
	if err != nil {
		return nil, err
	}
	x := &Ct{Key: t.u32(2), Direction: directionNone, Set: t.has(4)}
	if t.has(3) {
		x.Direction = t.u8(3)
	}
	at := 1
	if x.Set {
		at = 4
	}
	if x.Register, err = parseRegister(t.u32(at)); err != nil {
		return nil, err
	}
	if x.key() == nil || x.Direction > directionNone {
		return &Opaque{Type: "ct", Why: fmt.Sprintf("key %d", x.Key), Raw: append([]byte(nil), b...)}, nil
	}
	return x, nil
}

// Name returns ct.
func (x *Ct) Name() string { return "ct" }

func (x *Ct) effect() bool { return x.Set && x.Key != ctEventmask && x.Key != ctSecmark }

func (x *Ct) eval(st *state) (bool, error) {
	if x.Set {
		return x.write(st)
	}
	v, ok := x.read(st)
	if !ok || st.stopped {
		return false, nil
	}
	st.regs.store(x.Register, v, source{label: x.text(), typ: x.key().typ})
	return true, nil
}

// stateBits is a packet's state as ct state reads it.
func stateBits(p *skb.Packet) uint32 {
	switch p.State {
	case skb.CtNew:
		return stateNew
	case skb.CtEstablished, skb.CtEstablishedReply:
		return stateEstablished
	case skb.CtRelated, skb.CtRelatedReply:
		return stateRelated
	case skb.CtUntracked:
		return stateUntracked
	}
	return stateInvalid
}

// read returns the value; ok is false where the kernel breaks the rule: every key but state needs a connection.
func (x *Ct) read(st *state) (v value, ok bool) {
	p := st.p
	if x.Key == ctState {
		return knownHost32(stateBits(p)), true
	}
	c := p.Ct
	if c == nil {
		return value{}, false
	}
	tuple := c.Orig
	if x.Direction == directionReply {
		tuple = c.Reply
	}
	switch x.Key {
	case ctDirection:
		if p.State.Reply() {
			return knownU8(1), true
		}
		return knownU8(0), true
	case ctStatus:
		return knownHost32(c.Status), true
	case ctMark:
		return knownHost32(c.Mark), true
	case ctExpiration:
		if c.TimeoutSeconds > 0 {
			return value{knownHost32(c.TimeoutSeconds * 1000).b, make([]byte, 4)}, true
		}
		return unknown(4), true
	case ctHelper:
		// The helper of the master connection, which the state does not hold: only an expected flow has one.
		if c.Status&skb.StatusExpected == 0 {
			return value{}, false
		}
		return unknown(16), true
	case ctL3proto:
		return knownU8(uint8(p.Family)), true
	case ctProtocol:
		return knownU8(c.Orig.Proto), true
	case ctLabels:
		b := make([]byte, 16)
		copy(b, c.Labels)
		return known(b), true
	case ctPkts, ctBytes, ctAvgpkt:
		return x.readCount(c), true
	case ctZone:
		return knownHost16(c.Zone), true
	case ctID, ctSecmark:
		return unknown(4), true
	}
	return x.readTuple(tuple)
}

func (x *Ct) readTuple(t skb.Tuple) (value, bool) {
	addr := func(a netip.Addr) value { return known(a.Unmap().AsSlice()) }
	switch x.Key {
	case ctSrc:
		return addr(t.Src.Addr()), true
	case ctDst:
		return addr(t.Dst.Addr()), true
	case ctSrcIP:
		return addr(t.Src.Addr()), t.Src.Addr().Unmap().Is4()
	case ctDstIP:
		return addr(t.Dst.Addr()), t.Dst.Addr().Unmap().Is4()
	case ctSrcIP6:
		return addr(t.Src.Addr()), !t.Src.Addr().Unmap().Is4()
	case ctDstIP6:
		return addr(t.Dst.Addr()), !t.Dst.Addr().Unmap().Is4()
	case ctProtoSrc:
		return tuplePort(t.Src.Port(), t.Proto), true
	case ctProtoDst:
		return tuplePort(t.Dst.Port(), t.Proto), true
	}
	return unknown(4), true
}

// tuplePort is a port of a tuple: 0 stands for one that is not known, where the protocol has ports.
func tuplePort(port uint16, proto uint8) value {
	switch proto {
	case skb.TCP, skb.UDP, skb.SCTP, skb.DCCP, skb.UDPLite:
		if port == 0 {
			return unknown(2)
		}
	}
	return knownBE16(port)
}

// readCount reads the flow's counters, which count when accounting is on: any rule with such a key turns it on for later
// flows. The packet itself is counted before (nf_conntrack_in).
func (x *Ct) readCount(c *skb.Conn) value {
	if !c.Counted || c.New {
		return unknown(8)
	}
	packets, octets := c.OrigPackets+c.ReplyPackets, c.OrigBytes+c.ReplyBytes
	switch x.Direction {
	case directionOriginal:
		packets, octets = c.OrigPackets, c.OrigBytes
	case directionReply:
		packets, octets = c.ReplyPackets, c.ReplyBytes
	}
	switch x.Key {
	case ctPkts:
		return knownHost64(packets)
	case ctBytes:
		return knownHost64(octets)
	}
	if packets == 0 {
		return knownHost64(0)
	}
	return knownHost64(octets / packets)
}

// write sets mark, labels, zone or event mask. A packet without connection, or with
// a template only, is left alone.
func (x *Ct) write(st *state) (bool, error) {
	p := st.p
	tracked := p.Ct != nil && p.Ct.Status&skb.StatusTemplate == 0
	switch x.Key {
	case ctMark:
		v := st.regs.load(x.Register, 4)
		if !tracked {
			return true, nil
		}
		if !v.all() && !st.unknown("the value that the connection mark is set to") {
			return false, nil
		}
		p.Ct.Mark = binary.NativeEndian.Uint32(v.b)
		st.act("ct mark set 0x%x", p.Ct.Mark)
	case ctLabels:
		if !tracked {
			return true, nil
		}
		p.Ct.Labels = st.regs.load(x.Register, 16).b
		st.act("ct label set")
	case ctZone:
		if p.Ct != nil {
			return true, nil
		}
		v := st.regs.load(x.Register, 2)
		if !v.all() && !st.unknown("the value that the connection's zone is set to") {
			return false, nil
		}
		st.setZone(binary.NativeEndian.Uint16(v.b), x.Direction)
	case ctEventmask, ctSecmark:
	default:
		return st.unknown("setting " + x.text()), nil
	}
	return true, nil
}

// setZone attaches a template with a zone, for connection tracking to use (nft_ct_set_zone_eval).
func (st *state) setZone(zone uint16, direction uint8) {
	st.p.Ct = &skb.Conn{Zone: zone, Status: skb.StatusTemplate}
	st.p.State = skb.CtNew
	switch direction {
	case directionOriginal:
		st.act("ct original zone set %d", zone)
	case directionReply:
		st.act("ct reply zone set %d", zone)
	default:
		st.act("ct zone set %d", zone)
	}
}
