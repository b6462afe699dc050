package nftables

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Kinds of an Exthdr (enum nft_exthdr_op).
const (
	exthdrIPv6 = iota
	exthdrTCP
	exthdrIPv4
	exthdrSCTP
	exthdrDCCP
)

// Exthdr loads from an IPv6 extension header, a TCP, IPv4 or DCCP option or an SCTP chunk, or changes a TCP option
// (net/netfilter/nft_exthdr.c).
type Exthdr struct {
	Kind        uint32
	Type        uint8
	Offset, Len uint32
	// Present asks only whether it is there.
	Present  bool
	Register register
	// Set writes the register to a TCP option; Reset removes the option.
	Set, Reset bool
}

func decodeExthdr(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(7)
	if err != nil {
		return nil, err
	}
	x := &Exthdr{Type: t.u8(2), Offset: t.u32(3), Len: t.u32(4), Present: t.u32(5)&1 != 0, Kind: t.u32(6), Set: t.has(7), Reset: !t.has(1) && !t.has(7)}
	at := 1
	if x.Set {
		at = 7
	}
	if x.Register, err = parseRegister(t.u32(at)); err != nil {
		return nil, err
	}
	if x.Len > maxKeyLength || x.Offset > 255 {
		return nil, fmt.Errorf("%w: %d bytes at %d", ErrMalformed, x.Len, x.Offset)
	}
	return x, nil
}

// Name returns exthdr.
func (x *Exthdr) Name() string { return "exthdr" }

// effect is false: options are not modelled, so nothing that is can see the change.
func (x *Exthdr) effect() bool { return false }

func (x *Exthdr) eval(st *state) (bool, error) {
	p := st.p
	var v value
	there := maybe
	switch x.Kind {
	case exthdrIPv6:
		there = extensionHeader(p, x.Type)
	case exthdrIPv4:
		if p.Family != skb.IPv4 {
			return false, nil
		}
		if b, k, ok := p.Network(0, 1); ok && k[0]&0x0f == 0x0f && b[0]&0x0f == 5 {
			there = no
		}
	case exthdrTCP:
		if p.Proto() != skb.TCP {
			there = no
		}
		if x.Set || x.Reset {
			return there != no, nil
		}
		if b, k, ok := p.Transport(12, 1); ok && k[0]&0xf0 == 0xf0 && b[0]>>4 == 5 {
			there = no
		}
	case exthdrSCTP:
		there = no
		if p.Proto() == skb.SCTP {
			b, k, ok := p.Transport(12, 1)
			there = maybe
			if ok && k[0] == 0xff && b[0] == x.Type {
				there = yes
				b, k, _ = p.Transport(12+int(x.Offset), int(x.Len))
				v = value{b, k}
			}
		}
	case exthdrDCCP:
		if p.Proto() != skb.DCCP {
			there = no
		}
	default:
		return st.unknown(fmt.Sprintf("options of kind %d", x.Kind)), nil
	}
	text, typ := x.text()
	from := source{label: text, typ: typ}
	switch {
	case x.Present && there == maybe:
		v = value{make([]byte, 4), []byte{0xfe, 0xff, 0xff, 0xff}}
		if !littleEndian {
			v.known = []byte{0xff, 0xff, 0xff, 0xfe}
		}
		if x.Kind == exthdrSCTP || x.Kind == exthdrDCCP {
			v.known = []byte{0xfe, 0xff, 0xff, 0xff}
		}
	case x.Present:
		v = knownU8(map[truth]uint8{yes: 1, no: 0}[there])
		if x.Kind != exthdrSCTP && x.Kind != exthdrDCCP {
			v = knownHost32(uint32(v.b[0]))
		}
	case there == no:
		return false, nil
	case v.b == nil:
		v = unknown(int(x.Len))
	}
	st.regs.store(x.Register, v, from)
	return true, nil
}

// extensionHeader tells whether an IPv6 packet has an extension header.
func extensionHeader(p *skb.Packet, typ uint8) truth {
	if p.Family != skb.IPv6 {
		return no
	}
	if b, k, ok := p.Network(6, 1); ok && k[0] == 0xff && b[0] == p.Proto() && p.TransportOffset() == 40 {
		return truthOf(typ == p.Proto())
	}
	return maybe
}
