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
		there, v = x.ipv6(p)
	case exthdrIPv4:
		if p.Family != skb.IPv4 {
			return false, nil
		}
		there, v = x.option(p, 0, 20, ipv4HeaderLength)
	case exthdrTCP:
		later, _ := p.LaterFragment()
		if p.Proto() != skb.TCP || later {
			there = no
		}
		if x.Set || x.Reset {
			if there != no {
				p.Forget(p.TransportOffset()+20, tcpOptionRoom)
			}
			return there != no, nil
		}
		if there != no {
			there, v = x.option(p, p.TransportOffset(), 20, tcpHeaderLength)
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
	case there == maybe || v.b == nil:
		if there == maybe && p.Whole() && !st.depends(text+" is there") {
			return false, nil
		}
		v = unknown(int(x.Len))
	}
	st.regs.store(x.Register, v, from)
	return true, nil
}

// tcpOptionRoom is the most that TCP options take.
const tcpOptionRoom = 40

// ipv6 finds an IPv6 extension header (nft_exthdr_ipv6_eval), and what is loaded from it.
func (x *Exthdr) ipv6(p *skb.Packet) (truth, value) {
	if p.Family != skb.IPv6 {
		return no, value{}
	}
	chain, whole := p.Headers()
	for i, h := range chain {
		if later, _ := p.LaterFragment(); later && i == len(chain)-1 {
			break // what a later fragment holds has no header
		}
		if h.Type == x.Type {
			v, k, _ := p.Network(h.Offset+int(x.Offset), int(x.Len))
			return yes, value{v, k}
		}
	}
	if !whole {
		return maybe, value{}
	}
	return no, value{}
}

// Header lengths in bytes, from the byte that holds them; known is false when it does not.
func ipv4HeaderLength(p *skb.Packet) (n int, known bool) {
	b, k, ok := p.Network(0, 1)
	return int(b[0]&0x0f) * 4, ok && k[0]&0x0f == 0x0f
}

func tcpHeaderLength(p *skb.Packet) (n int, known bool) {
	b, k, ok := p.Transport(12, 1)
	return int(b[0]>>4) * 4, ok && k[0]&0xf0 == 0xf0
}

// option finds an option between the fixed part of a header at start and its end, and what is loaded from it
// (nft_exthdr_tcp_eval; for IPv4 ipv4_find_option, which knows few options: the others break the rule).
func (x *Exthdr) option(p *skb.Packet, start, fixed int, length func(*skb.Packet) (int, bool)) (truth, value) {
	n, known := length(p)
	if !known {
		return maybe, value{}
	}
	opts, k, _ := p.Network(start+fixed, max(n-fixed, 0))
	for i := 0; i < len(opts); {
		if k[i] != 0xff || i+1 < len(opts) && opts[i] > 1 && k[i+1] != 0xff {
			return maybe, value{}
		}
		size := 1
		if opts[i] > 1 && i+1 < len(opts) {
			size = max(int(opts[i+1]), 1)
		}
		switch {
		case opts[i] == x.Type && (i+size > len(opts) || int(x.Offset)+int(x.Len) > size):
			return no, value{}
		case opts[i] == x.Type:
			v, known, _ := p.Network(start+fixed+i+int(x.Offset), int(x.Len))
			return yes, value{v, known}
		case opts[i] == 0 && start == 0:
			return no, value{} // IPOPT_END
		}
		i += size
	}
	return no, value{}
}
