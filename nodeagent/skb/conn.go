package skb

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// CtState is a packet's relation to its connection, as rules test it.
type CtState uint8

// The states.
const (
	// CtNone: conntrack has not seen the packet, or is not active here: rules see it as invalid.
	CtNone CtState = iota
	// CtNew: the first packet of a flow.
	CtNew
	// CtEstablished and CtEstablishedReply: of a known flow, by direction.
	CtEstablished
	CtEstablishedReply
	// CtRelated and CtRelatedReply: an ICMP error or an expected flow, by direction.
	CtRelated
	CtRelatedReply
	// CtUntracked: a rule said so (NOTRACK).
	CtUntracked
	// CtInvalid: conntrack saw it and could not place it.
	CtInvalid
)

// Reply reports whether the packet goes in the reply direction.
func (s CtState) Reply() bool { return s == CtEstablishedReply || s == CtRelatedReply }

// Bits of Conn.Status (enum ip_conntrack_status, include/uapi/linux/netfilter/nf_conntrack_common.h).
const (
	StatusExpected   = 1 << 0
	StatusSeenReply  = 1 << 1
	StatusAssured    = 1 << 2
	StatusConfirmed  = 1 << 3
	StatusSrcNAT     = 1 << 4
	StatusDstNAT     = 1 << 5
	StatusSeqAdjust  = 1 << 6
	StatusSrcNATDone = 1 << 7
	StatusDstNATDone = 1 << 8
	StatusDying      = 1 << 9
	StatusFixTimeout = 1 << 10
	StatusTemplate   = 1 << 11
)

// Tuple is one direction of a flow. For ICMP the ports hold nothing: Src has the echo id, Dst type and code.
type Tuple struct {
	Proto    uint8
	Src, Dst netip.AddrPort
}

// String returns "tcp 10.0.0.1:1 -> 10.0.0.2:2".
func (t Tuple) String() string { return fmt.Sprintf("%s %s -> %s", ProtoName(t.Proto), t.Src, t.Dst) }

// Reverse returns the tuple of a reply to t.
func (t Tuple) Reverse() Tuple { return Tuple{t.Proto, t.Dst, t.Src} }

// Conn is a connection tracking entry.
type Conn struct {
	Orig, Reply Tuple
	// Status holds the Status bits.
	Status uint32
	// Mark is the connection mark; Zone is the zone of the original direction, ReplyZone of the reply.
	Mark            uint32
	Zone, ReplyZone uint16
	// Labels are the connection labels, 16 bytes, nil when there are none.
	Labels []byte
	// Helper is the name of the helper, empty when none.
	Helper string
	// New is true when this packet created it.
	New bool
	// SourcePorts bounds the source port that a rule allows for the translation, both 0 when it gives no range.
	SourcePorts [2]uint16
	// TCPState is the state in conntrack's numbers (enum tcp_conntrack), 0 when not known or not TCP.
	TCPState uint8
	// TCPClosed is true when one side is known to have closed the connection (IP_CT_TCP_FLAG_CLOSE_INIT): a SYN reopens it.
	TCPClosed bool
	// SCTPTags are the verification tags that packets of each direction must have, the original's first; nil when not known.
	SCTPTags *[2]uint32
	// TimeoutSeconds is the time left when the entry was read.
	TimeoutSeconds uint32
	// OrigPackets … count what passed when accounting is on; Counted tells.
	OrigPackets, OrigBytes, ReplyPackets, ReplyBytes uint64
	Counted                                          bool
	// Started is when the entry was made; the zero time where the kernel did not note it.
	Started time.Time
}

// Clone returns a copy that shares nothing with c.
func (c *Conn) Clone() *Conn {
	d := *c
	d.Labels = slices.Clone(c.Labels)
	return &d
}

// NATDone reports whether the translation of the given direction has been decided. source is true for source NAT.
func (c *Conn) NATDone(source bool) bool {
	if source {
		return c.Status&StatusSrcNATDone != 0
	}
	return c.Status&StatusDstNATDone != 0
}

// ProtoName returns the name of a transport protocol as iptables prints it, or its number.
func ProtoName(proto uint8) string {
	switch proto {
	case ICMP:
		return "icmp"
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case DCCP:
		return "dccp"
	case ESP:
		return "esp"
	case AH:
		return "ah"
	case ICMPv6:
		return "icmpv6"
	case SCTP:
		return "sctp"
	case UDPLite:
		return "udplite"
	}
	return fmt.Sprint(proto)
}

// ParseProto reads a protocol name or number.
func ParseProto(s string) (uint8, error) {
	for _, p := range []uint8{ICMP, TCP, UDP, DCCP, ESP, AH, ICMPv6, SCTP, UDPLite} {
		if s == ProtoName(p) {
			return p, nil
		}
	}
	if s == "ipv6-icmp" || s == "icmp6" {
		return ICMPv6, nil
	}
	var n uint8
	if _, err := fmt.Sscanf(s, "%d", &n); err != nil || fmt.Sprint(n) != s {
		return 0, fmt.Errorf("unknown protocol %q", s)
	}
	return n, nil
}
