package skb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// ErrTruncated is in the chain of errors about bytes that end within a header.
var ErrTruncated = errors.New("the packet ends within a header")

// Parse describes a packet whose bytes are known, from its network header on. Checksums count as unknown, since the
// kernel writes them anew as it changes a packet. The packet keeps a copy.
func Parse(b []byte) (*Packet, error) {
	if len(b) == 0 || len(b) > 1<<16 {
		return nil, fmt.Errorf("parsing a packet of %d bytes: %w", len(b), ErrTruncated)
	}
	p := &Packet{State: CtNone, whole: true, data: append([]byte(nil), b...)}
	switch b[0] >> 4 {
	case 4:
		p.Family = IPv4
		if len(b) < 20 || int(b[0]&15)*4 < 20 || int(b[0]&15)*4 > len(b) {
			return nil, fmt.Errorf("parsing an IPv4 header: %w", ErrTruncated)
		}
	case 6:
		p.Family = IPv6
		if len(b) < 40 {
			return nil, fmt.Errorf("parsing an IPv6 header: %w", ErrTruncated)
		}
	default:
		return nil, fmt.Errorf("parsing a packet: IP version %d", b[0]>>4)
	}
	p.known = make([]byte, len(b))
	for i := range p.known {
		p.known[i] = 0xff
	}
	if err := p.locate(); err != nil {
		return nil, err
	}
	p.forgetChecksums()
	return p, nil
}

// locate finds the transport header of a packet whose bytes are known.
func (p *Packet) locate() error {
	p.later = false
	if p.Family == IPv4 {
		p.l4, p.proto = int(p.data[0]&15)*4, p.data[9]
		p.later = binary.BigEndian.Uint16(p.data[6:])&0x1fff != 0
	} else {
		chain, whole := p.Headers()
		if !whole {
			return fmt.Errorf("parsing IPv6 extension headers: %w", ErrTruncated)
		}
		last := chain[len(chain)-1]
		p.proto, p.l4 = last.Type, last.Offset
		for _, h := range chain[:len(chain)-1] {
			if h.Type == HeaderFragment && binary.BigEndian.Uint16(p.data[h.Offset+2:])&^7 != 0 {
				p.later = true
			}
		}
	}
	if !p.later && p.l4+transportMinimum(p.proto) > len(p.data) {
		return fmt.Errorf("parsing a header of %s: %w", ProtoName(p.proto), ErrTruncated)
	}
	return nil
}

// transportMinimum is how much of a transport header must be there.
func transportMinimum(proto uint8) int {
	if proto == SCTP {
		return 12
	}
	return transportLength(proto)
}

// forgetChecksums makes checksums unknown.
func (p *Packet) forgetChecksums() {
	if p.Family == IPv4 {
		p.Forget(10, 2)
	}
	if p.later {
		return
	}
	switch p.proto {
	case TCP:
		p.Forget(p.l4+16, 2)
	case UDP, UDPLite, DCCP:
		p.Forget(p.l4+6, 2)
	case ICMP, ICMPv6:
		p.Forget(p.l4+2, 2)
	case SCTP:
		p.Forget(p.l4+8, 4)
	}
}

// Whole reports whether all bytes of the packet are known: it was not only described.
func (p *Packet) Whole() bool { return p.whole }

// LaterFragment reports whether the packet is a fragment other than the first; known is false when its bytes do not say.
func (p *Packet) LaterFragment() (later, known bool) {
	if p.Family == IPv6 {
		return p.later, true // a described packet never has a fragment header
	}
	v, k, _ := p.load(6, 2)
	if v[0]&k[0]&0x1f|v[1]&k[1] != 0 {
		return true, true
	}
	return false, k[0]&0x1f == 0x1f && k[1] == 0xff
}

// Fragment reports whether the packet is known to be a fragment, first or later, of one in several pieces.
func (p *Packet) Fragment() bool {
	if p.Family == IPv4 {
		v, k, _ := p.load(6, 2)
		return v[0]&k[0]&0x3f|v[1]&k[1] != 0
	}
	off, ok := p.fragmentHeader()
	return ok && binary.BigEndian.Uint16(p.data[off+2:])&^6 != 0
}

// Defragments reports whether defragmentation takes the packet: a fragment, and in IPv6 any packet with a fragment header.
func (p *Packet) Defragments() bool {
	_, ok := p.fragmentHeader()
	return ok || p.Fragment()
}

// fragmentHeader finds the fragment header of an IPv6 packet.
func (p *Packet) fragmentHeader() (off int, ok bool) {
	if p.Family != IPv6 || !p.whole {
		return 0, false
	}
	chain, _ := p.Headers()
	for _, h := range chain[:max(len(chain)-1, 0)] {
		if h.Type == HeaderFragment {
			return h.Offset, true
		}
	}
	return 0, false
}

// Defragment makes a fragment the whole packet that it is a part of (nf_ct_ipv4_gather_frags, nf_ct_frag6_gather): what the
// other fragments hold is unknown, for a later fragment the transport header too.
func (p *Packet) Defragment() {
	later := p.later
	if p.Fragment() {
		p.piece = p.Clone()
	}
	if p.Family == IPv4 {
		p.setMasked(6, []byte{0, 0}, []byte{0x3f, 0xff})
		p.Forget(2, 2)
	} else {
		chain, _ := p.Headers()
		for i, h := range chain[:max(len(chain)-1, 0)] {
			if h.Type != HeaderFragment {
				continue
			}
			next := 6
			if i > 0 {
				next = chain[i-1].Offset
			}
			p.behind = slices.ContainsFunc(chain[:i], func(h Header) bool { return h.Type != HeaderHopByHop })
			p.data[next], p.known[next] = p.data[h.Offset], 0xff
			alone := binary.BigEndian.Uint16(p.data[h.Offset+2:])&^6 == 0
			p.data = append(p.data[:h.Offset:h.Offset], p.data[h.Offset+8:]...)
			p.known = append(p.known[:h.Offset:h.Offset], p.known[h.Offset+8:]...)
			p.l4 = h.Offset
			if alone {
				binary.BigEndian.PutUint16(p.data[4:], uint16(len(p.data)-40))
				_ = p.locate() // its headers have been read before
				return
			}
			break
		}
		p.Forget(4, 2)
		if !later {
			_ = p.locate() // the headers behind the fragment header stand where they can be read
		}
	}
	if p.whole = false; !later {
		return
	}
	p.later = false
	p.data, p.known = p.data[:p.l4:p.l4], p.known[:p.l4:p.l4]
	n := transportLength(p.proto)
	p.data, p.known = append(p.data, make([]byte, n)...), append(p.known, make([]byte, n)...)
}

// Behind reports whether the packet was put together (Defragment) with extension headers, other than hop-by-hop options, in
// front of the fragment header.
func (p *Packet) Behind() bool { return p.behind }

// Refragment makes a packet that was put together the fragment again that it came from, with the addresses, ports and other
// fields of the IP header that it has now: the kernel sends it out in the pieces that it got (ip_fragment, ip6_fragment).
func (p *Packet) Refragment() {
	if p.piece == nil {
		return
	}
	src, dst, was := p.Source(), p.Destination(), *p
	q := p.piece.Clone()
	p.data, p.known, p.l4, p.proto, p.whole, p.later, p.piece, p.behind = q.data, q.known, q.l4, q.proto, q.whole, q.later, nil, false
	p.SetSource(src)
	p.SetDestination(dst)
	keep := []int{1, 8}
	if p.Family == IPv6 {
		keep = []int{0, 1, 7}
	}
	for _, i := range keep {
		p.data[i], p.known[i] = was.data[i], was.known[i]
	}
}

// ChecksumOfAll reports whether a protocol has a checksum over all of its packet, which the kernel verifies before it answers
// a rejected one (nf_reject_verify_csum in net/netfilter/nf_reject_ipv4.c and its IPv6 twin).
func ChecksumOfAll(proto uint8) bool {
	switch proto {
	case TCP, UDP, ICMP, ICMPv6, DCCP:
		return true
	}
	return false
}

// IPv6 next header values of extension headers.
const (
	HeaderHopByHop = 0
	HeaderRouting  = 43
	HeaderFragment = 44
	HeaderAuth     = 51
	HeaderNone     = 59
	HeaderOptions  = 60
)

// Header is a header behind the IPv6 header.
type Header struct {
	Type byte
	// Offset is where it begins, in bytes from the network header.
	Offset int
}

// Headers lists the headers behind the IPv6 header as ipv6_find_hdr walks them (net/ipv6/exthdrs_core.c): extension
// headers, and last the transport protocol, or what stands in a later fragment for it. whole is false when bytes that
// are not known, or not there, end the walk.
func (p *Packet) Headers() (chain []Header, whole bool) {
	if p.Family != IPv6 || p.known[6] != 0xff {
		return nil, false
	}
	h := Header{p.data[6], 40}
	for range 32 {
		chain = append(chain, h)
		switch h.Type {
		case HeaderHopByHop, HeaderRouting, HeaderFragment, HeaderAuth, HeaderOptions:
		default:
			return chain, true
		}
		if h.Offset+8 > len(p.data) {
			return chain, false
		}
		for _, k := range p.known[h.Offset : h.Offset+4] {
			if k != 0xff {
				return chain, false
			}
		}
		b, size := p.data[h.Offset:], 0
		switch h.Type {
		case HeaderFragment:
			size = 8
			if binary.BigEndian.Uint16(b[2:])&^7 != 0 {
				return append(chain, Header{b[0], h.Offset + size}), true
			}
		case HeaderAuth:
			size = (int(b[1]) + 2) * 4
		default:
			size = (int(b[1]) + 1) * 8
		}
		h = Header{b[0], h.Offset + size}
	}
	return chain, false
}

// StopAtAuth makes an authentication header between the IPv6 header and the transport header the transport header, as
// nftables sees it (nft_set_pktinfo_ipv6 asks ipv6_find_hdr with IP6_FH_F_AUTH; iptables does not). restore undoes it.
func (p *Packet) StopAtAuth() (restore func()) {
	if !p.whole || p.Family != IPv6 || p.later {
		return func() {}
	}
	chain, _ := p.Headers()
	for _, h := range chain[:max(len(chain)-1, 0)] {
		if h.Type == HeaderAuth {
			proto, l4 := p.proto, p.l4
			p.proto, p.l4 = h.Type, h.Offset
			return func() { p.proto, p.l4 = proto, l4 }
		}
	}
	return func() {}
}

// ICMPID returns the identifier of an ICMP echo; known is false for other packets and when it is not described.
func (p *Packet) ICMPID() (id uint16, known bool) {
	typ, _, ok := p.ICMPType()
	if !ok || p.Family == IPv4 && typ != 0 && typ != 8 || p.Family == IPv6 && typ != 128 && typ != 129 {
		return 0, false
	}
	v, k, _ := p.Transport(4, 2)
	return binary.BigEndian.Uint16(v), k[0] == 0xff && k[1] == 0xff
}
