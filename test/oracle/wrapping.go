//go:build linux

package oracle

import (
	"encoding/binary"
	"slices"
)

// Protocols that are sent without a flow of their own.
const (
	protoDCCP   = 33
	protoESP    = 50
	protoAH     = 51
	protoIPComp = 108
	protoMH     = 135
)

// cutAt is where a packet is cut in two, in bytes from its transport header on.
const cutAt = 40

// more is the further payload of a packet that will be cut, behind its first n bytes; the later fragment begins with an id
// of its own.
func (s segment) more(n int) []byte {
	if !s.cut {
		return nil
	}
	b := make([]byte, 64)
	binary.BigEndian.PutUint32(b[cutAt-n:], magic)
	binary.BigEndian.PutUint32(b[cutAt-n+4:], s.rest)
	return b
}

// wrap puts the IP header and what stands behind it in front of a transport header.
func (s segment) wrap(l4 []byte) []byte {
	middle, next := s.middle()
	return append(s.network(append(middle, l4...), len(middle), next), append(middle, l4...)...)
}

// network is the IP header of a packet with what follows it; options is how much of that are IPv4 options, next is the first
// next header of IPv6.
func (s segment) network(rest []byte, options int, next uint8) []byte {
	ttl := s.ttl
	if ttl == 0 {
		ttl = 64
	}
	if s.src.Addr().Is4() {
		h := make([]byte, 20)
		h[0], h[1] = 0x40|byte(5+options/4), s.tos
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(rest)))
		binary.BigEndian.PutUint16(h[4:], uint16(s.id)|1)
		if !s.cut {
			h[6] = 0x40 // don't fragment
		}
		h[8], h[9] = ttl, s.proto
		copy(h[12:], s.src.Addr().AsSlice())
		copy(h[16:], s.dst.Addr().AsSlice())
		binary.BigEndian.PutUint16(h[10:], checksum(append(slices.Clone(h), rest[:options]...), 0))
		return h
	}
	h := make([]byte, 40)
	h[0], h[1] = 0x60|s.tos>>4, s.tos<<4
	binary.BigEndian.PutUint16(h[4:], uint16(len(rest)))
	h[6], h[7] = next, ttl
	copy(h[8:], s.src.Addr().AsSlice())
	copy(h[24:], s.dst.Addr().AsSlice())
	return h
}

// extensions are the IPv6 extension headers that packets have, by name: their number, and their bytes with the next header
// left out.
var extensions = map[string]struct {
	number uint8
	bytes  []byte
}{
	"hbh":  {0, []byte{0, 0, 1, 4, 0, 0, 0, 0}},                     // PadN
	"dst":  {60, []byte{0, 0, 1, 4, 0, 0, 0, 0}},                    // PadN
	"dst2": {60, append([]byte{0, 1, 30, 12}, make([]byte, 12)...)}, // an option that is skipped by who does not know it
	"rt":   {43, []byte{0, 0, 253, 0, 0, 0, 0, 0}},                  // of an experimental type, at its end
	"srh":  {43, append([]byte{0, 2, 4, 0, 0, 0, 0, 7}, make([]byte, 16)...)},
	"frag": {44, []byte{0, 0, 0, 0, 0, 0, 0, 9}}, // a packet in one fragment
	"ah":   {51, []byte{0, 1, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1}},
}

// ipOptions are the IPv4 options that packets have.
var ipOptions = map[string][]byte{"nop": {1, 1, 1, 1}, "ra": {148, 4, 0, 0}, "rr": {7, 7, 8, 0, 0, 0, 0, 0}}

// middle is what stands between the IP header and the transport header.
func (s segment) middle() (b []byte, next uint8) {
	if s.src.Addr().Is4() {
		for _, h := range s.headers {
			b = append(b, ipOptions[h]...)
		}
		return b, s.proto
	}
	next = s.proto
	for _, h := range slices.Backward(s.headers) {
		x := slices.Clone(extensions[h].bytes)
		x[0] = next
		if len(x)%8 != 0 && h != "ah" {
			x = append(x, make([]byte, 8-len(x)%8)...)
		}
		b, next = append(x, b...), extensions[h].number
	}
	return b, next
}

// fragments cuts the packet in two.
func (s segment) fragments() (first, later []byte) {
	whole := s.bytes()
	if s.src.Addr().Is4() {
		at := int(whole[0]&15) * 4
		first, later = slices.Clone(whole[:at+cutAt]), append(slices.Clone(whole[:at]), whole[at+cutAt:]...)
		first[6] = 0x20 // more fragments
		later[7] = cutAt / 8
		for _, h := range [][]byte{first, later} {
			binary.BigEndian.PutUint16(h[2:], uint16(len(h)))
			h[10], h[11] = 0, 0
			binary.BigEndian.PutUint16(h[10:], checksum(h[:at], 0))
		}
		return first, later
	}
	head := slices.Clone(whole[:40])
	next := head[6]
	head[6] = 44
	header := func(offset, more byte) []byte {
		h := []byte{next, 0, 0, offset<<3&0xf8 | more, 0, 0, 0, 0}
		binary.BigEndian.PutUint32(h[4:], s.id)
		return h
	}
	first = slices.Concat(head, header(0, 1), whole[40:40+cutAt])
	later = slices.Concat(head, header(cutAt/8, 0), whole[40+cutAt:])
	for _, h := range [][]byte{first, later} {
		binary.BigEndian.PutUint16(h[4:], uint16(len(h)-40))
	}
	return first, later
}

// otherProtocol is a packet of a protocol that only matches on its own header look into.
func (s segment) otherProtocol() []byte {
	switch s.proto {
	case protoESP:
		b := make([]byte, 24)
		binary.BigEndian.PutUint32(b, 5) // SPI
		s.putID(b[8:])
		return b
	case protoAH:
		b := make([]byte, 32)
		b[0], b[1] = 59, 1
		binary.BigEndian.PutUint32(b[4:], 5) // SPI
		s.putID(b[12:])
		return b
	case protoIPComp:
		b := make([]byte, 16)
		b[0] = 59
		binary.BigEndian.PutUint16(b[2:], 5) // CPI
		s.putID(b[4:])
		return b
	case protoDCCP:
		b := make([]byte, 28)
		s.putPorts(b)
		b[4] = 5        // data offset: 20 bytes
		b[8] = 0<<1 | 1 // a request, with a long sequence number
		s.putID(b[20:])
		s.putSum(b, 6)
		return b
	case protoMH:
		b := make([]byte, 16)
		b[0], b[1], b[2] = 59, 1, 5 // no next header, 16 bytes, a binding update
		s.putID(b[8:])
		s.putSum(b, 4)
		return b
	}
	b := make([]byte, 16)
	s.putID(b)
	return b
}

// otherID finds the id in a packet of such a protocol.
func otherID(proto uint8, b []byte) (uint32, bool) {
	at := map[uint8]int{protoESP: 8, protoAH: 12, protoIPComp: 4, protoDCCP: 20, protoMH: 8}[proto]
	if len(b) < at {
		return 0, false
	}
	return payloadID(b[at:])
}
