//go:build linux

package oracle

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// sighting is a packet that was seen, as far as it belongs to one that was sent.
type sighting struct {
	id       uint32
	src, dst netip.AddrPort
	proto    uint8
	// refusal is how the packet tells its receiver that the packet with id was refused: "tcp-reset",
	// "icmp-port-unreachable" …; empty for the packet itself.
	refusal string
	// echoReply is true for an ICMP echo reply.
	echoReply bool
	// size is how much of the transport header and what is behind it was there.
	size int
}

// sightingOf reads a packet from its network header on; ok is false when it belongs to no packet that was sent.
func sightingOf(b []byte) (s sighting, ok bool) {
	if len(b) < 20 {
		return s, false
	}
	switch b[0] >> 4 {
	case 4:
		n := int(b[0]&0xf) * 4
		if n < 20 || len(b) < n {
			return s, false
		}
		src, _ := netip.AddrFromSlice(b[12:16])
		dst, _ := netip.AddrFromSlice(b[16:20])
		if binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
			return laterSighting(b[9], src, dst, b[n:])
		}
		return transportSighting(b[9], src, dst, b[n:])
	case 6:
		if len(b) < 40 {
			return s, false
		}
		src, _ := netip.AddrFromSlice(b[8:24])
		dst, _ := netip.AddrFromSlice(b[24:40])
		proto, at, later := behindExtensions(b)
		if at > len(b) {
			return s, false
		}
		if later {
			return laterSighting(proto, src, dst, b[at:])
		}
		return transportSighting(proto, src, dst, b[at:])
	}
	return s, false
}

// behindExtensions finds the transport header of an IPv6 packet, or the content of a later fragment.
func behindExtensions(b []byte) (proto uint8, at int, later bool) {
	proto, at = b[6], 40
	for at+8 <= len(b) {
		switch proto {
		case 0, 43, 60:
			proto, at = b[at], at+(int(b[at+1])+1)*8
		case 44:
			later = binary.BigEndian.Uint16(b[at+2:])&^7 != 0
			proto, at = b[at], at+8
			if later {
				return proto, at, true
			}
		case 51:
			if b[at] == 59 {
				return proto, at, false // the packet is one of AH
			}
			proto, at = b[at], at+(int(b[at+1])+2)*4
		default:
			return proto, at, false
		}
	}
	return proto, at, false
}

// laterSighting is a fragment other than the first, by its content.
func laterSighting(proto uint8, src, dst netip.Addr, b []byte) (s sighting, ok bool) {
	s = sighting{proto: proto, src: netip.AddrPortFrom(src, 0), dst: netip.AddrPortFrom(dst, 0)}
	s.id, ok = payloadID(b)
	return s, ok
}

// transportSighting reads a packet from its transport header on.
func transportSighting(proto uint8, src, dst netip.Addr, b []byte) (s sighting, ok bool) {
	if len(b) < 8 {
		return s, false
	}
	s.proto, s.size = proto, len(b)
	sport, dport := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	s.src, s.dst = netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)
	switch proto {
	case protoTCP:
		if len(b) < 20 {
			return sighting{id: binary.BigEndian.Uint32(b[4:]) >> 8, src: s.src, dst: s.dst, proto: proto}, true // quoted in an ICMP error
		}
		seq, ack, flags := binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:]), b[13]
		s.id = seq >> 8
		if flags&tcpRST != 0 && binary.BigEndian.Uint16(b[18:]) != resetMark {
			s.refusal = "tcp-reset"
			if flags&tcpACK != 0 {
				s.id = (ack - 1) >> 8
			}
		}
		return s, true
	case protoUDP:
		s.id, ok = payloadID(b[8:])
		return s, ok
	case protoSCTP:
		switch {
		case len(b) >= 20 && (b[12] == sctpINIT || b[12] == sctpINITACK):
			s.id = binary.BigEndian.Uint32(b[16:])
			return s, true
		case len(b) >= 24 && b[12] == sctpCOOKIE:
			s.id, ok = payloadID(b[16:])
			return s, ok
		}
		return s, false
	case protoICMP, protoICMPv6:
		s.src, s.dst = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0)
		if proto == protoICMP && (b[0] == 8 || b[0] == 0) || proto == protoICMPv6 && (b[0] == 128 || b[0] == 129) {
			s.id, ok = payloadID(b[8:])
			s.echoReply = b[0] == 0 || b[0] == 129
			return s, ok
		}
		inner, ok := sightingOf(b[8:])
		if !ok || inner.refusal != "" {
			return s, false
		}
		s.id, s.refusal = inner.id, refusalName(proto, b[0], b[1])
		return s, s.refusal != ""
	default:
		if proto != protoDCCP {
			s.src, s.dst = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0)
		}
		s.id, ok = otherID(proto, b)
		return s, ok
	}
}

func payloadID(b []byte) (uint32, bool) {
	if len(b) < 8 || binary.BigEndian.Uint32(b) != magic {
		return 0, false
	}
	return binary.BigEndian.Uint32(b[4:]), true
}

// refusalName names an ICMP error as iptables' and ip6tables' REJECT --reject-with do; redirects are none.
func refusalName(proto, typ, code uint8) string {
	switch {
	case proto == protoICMP && typ == 5, proto == protoICMPv6 && typ == 137:
		return ""
	case proto == protoICMP && typ == 11 && code == 0:
		return "icmp-ttl-exceeded"
	case proto == protoICMPv6 && typ == 3 && code == 0:
		return "icmp6-hop-limit-exceeded"
	case proto == protoICMP && typ == 3:
		switch code {
		case 0:
			return "icmp-net-unreachable"
		case 1:
			return "icmp-host-unreachable"
		case 2:
			return "icmp-proto-unreachable"
		case 3:
			return "icmp-port-unreachable"
		case 9:
			return "icmp-net-prohibited"
		case 10:
			return "icmp-host-prohibited"
		case 13:
			return "icmp-admin-prohibited"
		}
	case proto == protoICMPv6 && typ == 1:
		switch code {
		case 0:
			return "icmp6-no-route"
		case 1:
			return "icmp6-adm-prohibited"
		case 3:
			return "icmp6-addr-unreachable"
		case 4:
			return "icmp6-port-unreachable"
		case 5:
			return "icmp6-policy-fail"
		case 6:
			return "icmp6-reject-route"
		}
	}
	if proto == protoICMPv6 {
		return fmt.Sprintf("icmp6 type %d code %d", typ, code)
	}
	return fmt.Sprintf("icmp type %d code %d", typ, code)
}
