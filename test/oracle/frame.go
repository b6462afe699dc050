//go:build linux

package oracle

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

// Transport protocol numbers.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoSCTP   = 132
)

// stage is a packet's place in its flow.
type stage int

const (
	// opening is the first packet of a flow.
	opening stage = iota
	// answer is the reply to it, further the packet in the first direction that follows.
	answer
	further
	// A TCP connection closes then: one side's FIN, the other's, and the last ACK. reopening is a SYN that opens it anew.
	closing
	closed
	lastACK
	reopening
)

// back reports whether the stage's packet goes from the flow's far side to its opener.
func (s stage) back() bool { return s == answer || s == closed }

// segment is a packet to send.
type segment struct {
	proto    uint8
	src, dst netip.AddrPort
	stage    stage
	// id is recognised when the packet is seen; peer is the id of the packet that this one answers.
	id, peer uint32
	// echo is the identifier of an ICMP echo.
	echo uint16
	// shape is how the packet differs from the plainest of its kind.
	shape
	// rest is the id of the later fragment, when the packet is cut.
	rest uint32
}

// shape is how a packet differs from the plainest of its kind.
type shape struct {
	// headers stand between the IP header and the transport header: IPv6 extension headers, or IPv4 options.
	headers []string
	// flags are the TCP flags of the opening packet, 0 for SYN; mss is its MSS option, 0 for none.
	flags byte
	mss   uint16
	// tos is the type of service byte or traffic class; ttl is the TTL or hop limit, 0 for 64.
	tos, ttl byte
	// cut makes the packet two fragments.
	cut bool
}

// The id travels in what no rule translates: a TCP sequence number (in its upper 24 bits), an SCTP initiate tag or
// cookie, the payload of UDP and ICMP echo.

const magic = 0x53564354

// resetMark is in the urgent pointer of a reset that was sent, to tell it from those that the node sends.
const resetMark = 0x5356

const (
	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpACK = 0x10
)

// bytes returns the packet from the network header on, with correct checksums.
func (s segment) bytes() []byte {
	var l4 []byte
	switch s.proto {
	case protoTCP:
		l4 = make([]byte, 20)
		s.putPorts(l4)
		seq, ack, flags := s.id<<8, uint32(0), byte(tcpSYN)
		switch s.stage {
		case answer:
			ack, flags = s.peer<<8+1, tcpSYN|tcpACK
		case further:
			seq, ack, flags = s.id<<8+1, s.peer<<8+1, tcpACK
		case closing:
			seq, ack, flags = s.id<<8+1, s.peer<<8+1, tcpFIN|tcpACK
		case closed:
			seq, ack, flags = s.id<<8+1, s.peer<<8+2, tcpFIN|tcpACK
		case lastACK:
			seq, ack, flags = s.id<<8+2, s.peer<<8+2, tcpACK
		case reopening:
			seq = s.id<<8 + 200
		}
		if s.flags != 0 {
			flags = s.flags
			if flags&tcpACK != 0 {
				ack = s.id << 8 // the sequence number of a reset that answers
			}
		}
		if s.mss != 0 {
			l4 = binary.BigEndian.AppendUint16(append(l4, 2, 4), s.mss)
			l4 = append(l4, 1, 1, 4, 2) // no operation, and selective acknowledgements permitted
		}
		binary.BigEndian.PutUint32(l4[4:], seq)
		binary.BigEndian.PutUint32(l4[8:], ack)
		l4[12], l4[13] = byte(len(l4)/4)<<4, flags
		l4 = append(l4, s.more(len(l4))...)
		binary.BigEndian.PutUint16(l4[14:], 65535)
		if flags&tcpRST != 0 {
			binary.BigEndian.PutUint16(l4[18:], resetMark)
		}
		s.putSum(l4, 16)
	case protoUDP:
		l4 = append(make([]byte, 16), s.more(16)...)
		s.putPorts(l4)
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
		s.putID(l4[8:])
		s.putSum(l4, 6)
	case protoSCTP:
		l4 = s.sctp()
	case protoICMP, protoICMPv6:
		l4 = append(make([]byte, 16), s.more(16)...)
		l4[0] = 8
		if s.proto == protoICMPv6 {
			l4[0] = 128
		}
		if s.stage.back() {
			l4[0] = map[uint8]byte{protoICMP: 0, protoICMPv6: 129}[s.proto]
		}
		binary.BigEndian.PutUint16(l4[4:], s.echo)
		binary.BigEndian.PutUint16(l4[6:], 1)
		s.putID(l4[8:])
		s.putSum(l4, 2)
	default:
		l4 = s.otherProtocol()
	}
	return s.wrap(l4)
}

func (s segment) putPorts(l4 []byte) {
	binary.BigEndian.PutUint16(l4, s.src.Port())
	binary.BigEndian.PutUint16(l4[2:], s.dst.Port())
}

func (s segment) putID(b []byte) {
	binary.BigEndian.PutUint32(b, magic)
	binary.BigEndian.PutUint32(b[4:], s.id)
}

// putSum writes the transport checksum at off.
func (s segment) putSum(l4 []byte, off int) {
	var pseudo uint32
	if s.proto != protoICMP {
		for _, a := range []netip.Addr{s.src.Addr(), s.dst.Addr()} {
			pseudo += sum16(a.AsSlice())
		}
		pseudo += uint32(s.proto) + uint32(len(l4))
	}
	c := checksum(l4, pseudo)
	if c == 0 && s.proto == protoUDP {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(l4[off:], c)
}

func sum16(b []byte) uint32 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if len(b)%2 == 1 {
		s += uint32(b[len(b)-1]) << 8
	}
	return s
}

// checksum is the internet checksum (RFC 1071) of b, on top of a sum.
func checksum(b []byte, s uint32) uint16 {
	s += sum16(b)
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}

// SCTP chunk types (RFC 9260).
const (
	sctpINIT    = 1
	sctpINITACK = 2
	sctpCOOKIE  = 10
)

// sctp returns an INIT, INIT ACK or COOKIE ECHO packet.
func (s segment) sctp() []byte {
	var tag uint32
	var chunk []byte
	switch s.stage {
	case further:
		tag = s.peer
		chunk = make([]byte, 12)
		chunk[0] = sctpCOOKIE
		s.putID(chunk[4:])
	default:
		chunk = make([]byte, 20)
		chunk[0] = sctpINIT
		if s.stage == answer {
			tag, chunk[0] = s.peer, sctpINITACK
		}
		binary.BigEndian.PutUint32(chunk[4:], s.id)
		binary.BigEndian.PutUint32(chunk[8:], 65535)
		binary.BigEndian.PutUint16(chunk[12:], 1)
		binary.BigEndian.PutUint16(chunk[14:], 1)
		binary.BigEndian.PutUint32(chunk[16:], s.id)
	}
	binary.BigEndian.PutUint16(chunk[2:], uint16(len(chunk)))
	l4 := make([]byte, 12, 12+len(chunk))
	s.putPorts(l4)
	binary.BigEndian.PutUint32(l4[4:], tag)
	l4 = append(l4, chunk...)
	binary.LittleEndian.PutUint32(l4[8:], crc32.Checksum(l4, crc32.MakeTable(crc32.Castagnoli)))
	return l4
}
