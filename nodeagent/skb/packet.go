// Package skb models a packet in flight through one network namespace: what the kernel keeps in a struct sk_buff and in
// the connection tracking entry it points to. Mechanisms (xtables, nftables, ipvs) read and change it; the walker moves
// it from hook to hook.
//
// A packet's bytes are held from the network header on, with a mask of which bits are known. A packet that is only
// described by its addresses and ports has an unknown TTL, length, payload and so on; whoever reads such bits gets told,
// and must fork instead of guessing.
package skb

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// Family is an address family, in the kernel's numbers (AF_INET, AF_INET6).
type Family uint8

// The families.
const (
	IPv4 Family = 2
	IPv6 Family = 10
)

// String returns ipv4 or ipv6.
func (f Family) String() string {
	switch f {
	case IPv4:
		return "ipv4"
	case IPv6:
		return "ipv6"
	}
	return fmt.Sprintf("family %d", uint8(f))
}

// Hook is a netfilter hook in the kernel's numbers (enum nf_inet_hooks).
type Hook uint8

// The hooks of the IP families.
const (
	Prerouting Hook = iota
	Input
	Forward
	Output
	Postrouting
	Ingress
	// Egress is the hook of a network device behind POSTROUTING; in the kernel's numbers it is 1 of enum nf_dev_hooks.
	Egress
)

// String returns the hook's name as nft prints it.
func (h Hook) String() string {
	names := [...]string{"prerouting", "input", "forward", "output", "postrouting", "ingress", "egress"}
	if int(h) < len(names) {
		return names[h]
	}
	return fmt.Sprintf("hook %d", uint8(h))
}

// Protocol numbers that the engine knows by name.
const (
	ICMP    = 1
	TCP     = 6
	UDP     = 17
	DCCP    = 33
	ESP     = 50
	AH      = 51
	ICMPv6  = 58
	SCTP    = 132
	UDPLite = 136
)

// Packet is a packet in flight, of one address family.
type Packet struct {
	Family Family
	// Hook is where it is now.
	Hook Hook
	// In and Out are the interface names at this hook; empty when there is none (In at OUTPUT, Out at PREROUTING).
	In, Out string
	// PhysIn and PhysOut are the bridge ports of a frame that br_netfilter passes through the IP hooks; else empty.
	PhysIn, PhysOut string
	// Bridge is the bridge whose hooks the frame passes (family bridge); In and Out are then ports. Else it is empty.
	Bridge string
	// Mark is skb->mark; Priority is skb->priority (tc class). PriorityUnknown is true where the sender's socket or a type of
	// service that is not known decides it.
	Mark            uint32
	Priority        uint32
	PriorityUnknown bool
	// PktType is the kernel's packet type: PacketHost and so on.
	PktType uint8
	// Owner is the sending process's socket owner, nil when the packet did not start here or the owner is not known.
	Owner *Owner
	// Local is true when the packet started in this namespace.
	Local bool
	// Ct is the connection the packet belongs to, nil when there is none (then State tells Untracked from Invalid).
	Ct *Conn
	// State is the packet's relation to Ct (enum ip_conntrack_info).
	State CtState
	// TProxy is the local address that a TPROXY rule assigned the packet to, invalid when none did.
	TProxy netip.AddrPort
	// Traced is true once a rule has set the trace flag.
	Traced bool
	// Template is what a CT target attached before connection tracking, nil when none did. It is never changed in place.
	Template *Template
	// Recent and Sets are what rules did on the packet's way to lists that other rules read. They are never changed in
	// place, so that clones may share them.
	Recent []RecentTouch
	Sets   []SetTouch

	data  []byte // from the network header
	known []byte // one bit for each bit of data
	l4    int    // offset of the transport header in data
	proto uint8
	whole bool    // data is all of the packet, and was given, not described
	later bool    // a fragment other than the first: there is no transport header
	piece *Packet // the fragment that this packet was put together from, nil when it was not; never changed in place
	// behind is true when it was put together with headers in front of the fragment header.
	behind bool
}

// Owner is the owner of the sending socket.
type Owner struct {
	UID, GID uint32
	// GIDUnknown is true when only the user is known.
	GIDUnknown bool
	// Groups are the supplementary groups; nil when they are not known.
	Groups []uint32
}

// Packet types (skb->pkt_type).
const (
	PacketHost      = 0
	PacketBroadcast = 1
	PacketMulticast = 2
	PacketOtherHost = 3
	PacketLoopback  = 5
	// PacketUnknown is no type of the kernel's: to whom a frame was sent is not known.
	PacketUnknown = 0xff
)

// New describes the first packet of a new flow: a TCP segment with only SYN set, a UDP datagram, an SCTP INIT, an ICMP
// echo request, or a packet of another protocol with nothing known behind the IP header. A source port of 0 is unknown.
// The addresses must be of one family.
func New(proto uint8, src, dst netip.AddrPort) (*Packet, error) {
	s, d := src.Addr().Unmap(), dst.Addr().Unmap()
	if !s.IsValid() || !d.IsValid() || s.Is4() != d.Is4() {
		return nil, fmt.Errorf("source %s and destination %s are not of one address family", s, d)
	}
	p := &Packet{proto: proto, State: CtNone}
	if s.Is4() {
		p.Family, p.l4 = IPv4, 20
	} else {
		p.Family, p.l4 = IPv6, 40
	}
	p.data, p.known = make([]byte, p.l4+transportLength(proto)), make([]byte, p.l4+transportLength(proto))
	if s.Is4() {
		p.set(0, []byte{0x45})
		p.setMasked(6, []byte{0, 0}, []byte{0xbf, 0xff}) // not a fragment; DF is not known
		p.set(9, []byte{proto})
		p.set(12, s.AsSlice())
		p.set(16, d.AsSlice())
	} else {
		p.setMasked(0, []byte{0x60}, []byte{0xf0})
		p.set(6, []byte{proto})
		p.set(8, s.AsSlice())
		p.set(24, d.AsSlice())
	}
	switch proto {
	case TCP, UDP, SCTP, DCCP, UDPLite:
		if src.Port() != 0 {
			p.set(p.l4, binary.BigEndian.AppendUint16(nil, src.Port()))
		}
		p.set(p.l4+2, binary.BigEndian.AppendUint16(nil, dst.Port()))
		if proto == TCP {
			p.SetTCPFlags(0x02, 0xff)
			p.setMasked(p.l4+12, []byte{0}, []byte{0x0f}) // reserved bits and the AccECN bit
		}
		if proto == SCTP {
			p.set(p.l4+12, []byte{1}) // the first chunk is INIT
		}
	case ICMP:
		p.set(p.l4, []byte{8, 0})
	case ICMPv6:
		p.set(p.l4, []byte{128, 0})
	}
	return p, nil
}

func transportLength(proto uint8) int {
	switch proto {
	case TCP:
		return 20
	case SCTP:
		return 12 + 20 // common header and an INIT chunk
	case DCCP:
		return 12
	case UDP, UDPLite, ICMP, ICMPv6:
		return 8
	}
	return 0
}

// Clone returns a copy that shares nothing with p.
func (p *Packet) Clone() *Packet {
	q := *p
	q.data, q.known = slices.Clone(p.data), slices.Clone(p.known)
	if p.Ct != nil {
		q.Ct = p.Ct.Clone()
	}
	return &q
}

// SameBytes tells whether as much is known of the bytes of p as of those of q, and they are the same.
func (p *Packet) SameBytes(q *Packet) bool {
	return p.Family == q.Family && p.proto == q.proto && p.whole == q.whole && bytes.Equal(p.data, q.data) && bytes.Equal(p.known, q.known)
}

func (p *Packet) set(off int, b []byte) {
	for i := range b {
		p.data[off+i], p.known[off+i] = b[i], 0xff
	}
}

func (p *Packet) setMasked(off int, b, mask []byte) {
	for i := range b {
		p.data[off+i] = p.data[off+i]&^mask[i] | b[i]&mask[i]
		p.known[off+i] |= mask[i]
	}
}

// Proto returns the transport protocol number.
func (p *Packet) Proto() uint8 { return p.proto }

// Src and Dst return the addresses in the IP header as they are now.
func (p *Packet) Src() netip.Addr {
	if p.Family == IPv4 {
		return netip.AddrFrom4([4]byte(p.data[12:16]))
	}
	return netip.AddrFrom16([16]byte(p.data[8:24]))
}

// Dst returns the destination address in the IP header as it is now.
func (p *Packet) Dst() netip.Addr {
	if p.Family == IPv4 {
		return netip.AddrFrom4([4]byte(p.data[16:20]))
	}
	return netip.AddrFrom16([16]byte(p.data[24:40]))
}

// HasPorts reports whether the protocol has ports in the first four bytes of its header, and the packet has that header.
func (p *Packet) HasPorts() bool {
	if p.later {
		return false
	}
	switch p.proto {
	case TCP, UDP, SCTP, DCCP, UDPLite:
		return true
	}
	return false
}

// SrcPort returns the source port; known is false when it is not known (the kernel or the client will choose it).
func (p *Packet) SrcPort() (port uint16, known bool) {
	if !p.HasPorts() {
		return 0, true
	}
	return binary.BigEndian.Uint16(p.data[p.l4:]), p.known[p.l4] == 0xff && p.known[p.l4+1] == 0xff
}

// DstPort returns the destination port.
func (p *Packet) DstPort() (port uint16, known bool) {
	if !p.HasPorts() {
		return 0, true
	}
	return binary.BigEndian.Uint16(p.data[p.l4+2:]), p.known[p.l4+2] == 0xff && p.known[p.l4+3] == 0xff
}

// Source returns the source address and port; an unknown port is 0.
func (p *Packet) Source() netip.AddrPort {
	port, known := p.SrcPort()
	if !known {
		port = 0
	}
	return netip.AddrPortFrom(p.Src(), port)
}

// Destination returns the destination address and port; an unknown port is 0.
func (p *Packet) Destination() netip.AddrPort {
	port, known := p.DstPort()
	if !known {
		port = 0
	}
	return netip.AddrPortFrom(p.Dst(), port)
}

// SetSource rewrites source address and port. For protocols with ports a port of 0 makes it unknown.
func (p *Packet) SetSource(a netip.AddrPort) { p.setEnd(a, 12, 8, 0) }

// SetDestination rewrites destination address and port, likewise.
func (p *Packet) SetDestination(a netip.AddrPort) { p.setEnd(a, 16, 24, 2) }

func (p *Packet) setEnd(a netip.AddrPort, off4, off6, portOff int) {
	if p.Family == IPv4 {
		p.set(off4, a.Addr().Unmap().AsSlice())
	} else {
		b := a.Addr().As16()
		p.set(off6, b[:])
	}
	if !p.HasPorts() {
		return
	}
	at := p.l4 + portOff
	p.set(at, binary.BigEndian.AppendUint16(nil, a.Port()))
	if a.Port() == 0 {
		p.known[at], p.known[at+1] = 0, 0
	}
}

// TCPFlags returns the TCP flags byte and which of its bits are known (FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64,
// CWR 128). It returns 0, 0 for other protocols.
func (p *Packet) TCPFlags() (flags, known uint8) {
	if p.proto != TCP || p.later {
		return 0, 0
	}
	return p.data[p.l4+13], p.known[p.l4+13]
}

// SetTCPFlags sets the bits of mask, which become known; the other bits become unknown.
func (p *Packet) SetTCPFlags(flags, mask uint8) {
	if p.proto == TCP && !p.later {
		p.data[p.l4+13], p.known[p.l4+13] = flags&mask, mask
	}
}

// ICMPType returns type and code; known is false for other protocols.
func (p *Packet) ICMPType() (typ, code uint8, known bool) {
	if p.later || p.proto != ICMP && p.proto != ICMPv6 {
		return 0, 0, false
	}
	return p.data[p.l4], p.data[p.l4+1], p.known[p.l4] == 0xff && p.known[p.l4+1] == 0xff
}

// Network returns n bytes at off from the network header with the mask of known bits. Bytes behind what is described
// are unknown. Negative offsets, and bytes behind the end of a packet that is known whole, are not in the packet: ok is
// false.
func (p *Packet) Network(off, n int) (value, known []byte, ok bool) { return p.load(off, n) }

// KnownNetwork copies len(b) bytes at off from the network header to b. It returns false when one of them is not known.
func (p *Packet) KnownNetwork(off int, b []byte) bool {
	if off < 0 || off+len(b) > len(p.data) {
		return false
	}
	for _, k := range p.known[off : off+len(b)] {
		if k != 0xff {
			return false
		}
	}
	copy(b, p.data[off:])
	return true
}

// Transport returns n bytes at off from the transport header, likewise.
func (p *Packet) Transport(off, n int) (value, known []byte, ok bool) { return p.load(p.l4+off, n) }

func (p *Packet) load(off, n int) (value, known []byte, ok bool) {
	if off < 0 || n < 0 || n > 1<<16 {
		return nil, nil, false
	}
	value, known = make([]byte, n), make([]byte, n)
	if off < len(p.data) {
		copy(value, p.data[off:])
		copy(known, p.known[off:])
	}
	return value, known, !p.whole || off+n <= len(p.data)
}

// SetNetwork writes known bytes at off from the network header (a rule that mangles the packet). It returns false when
// they lie outside the headers that are described; the addresses and ports follow at once.
func (p *Packet) SetNetwork(off int, b []byte) bool {
	if off < 0 || off+len(b) > len(p.data) {
		return false
	}
	p.set(off, b)
	return true
}

// SetTransport writes known bytes at off from the transport header, likewise.
func (p *Packet) SetTransport(off int, b []byte) bool { return p.SetNetwork(p.l4+off, b) }

// TransportOffset returns the offset of the transport header from the network header, in bytes.
func (p *Packet) TransportOffset() int { return p.l4 }

// Forget makes n bytes at off from the network header unknown.
func (p *Packet) Forget(off, n int) {
	for i := max(off, 0); i < off+n && i < len(p.known); i++ {
		p.known[i] = 0
	}
}
