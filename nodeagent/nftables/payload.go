package nftables

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Bases of a payload offset (enum nft_payload_bases).
const (
	baseLink      = 0
	baseNetwork   = 1
	baseTransport = 2
	baseInner     = 3
	baseTunnel    = 4
)

// Payload loads bytes of the packet into a register, or writes them (net/netfilter/nft_payload.c).
type Payload struct {
	Base        uint32
	Offset, Len uint32
	// Register receives the bytes, or holds them when Set.
	Register register
	Set      bool
	// ChecksumType, ChecksumOffset and ChecksumFlags tell which checksums a write corrects.
	ChecksumType, ChecksumOffset, ChecksumFlags uint32
}

func decodePayload(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(8)
	if err != nil {
		return nil, err
	}
	x := &Payload{
		Base: t.u32(2), Offset: t.u32(3), Len: t.u32(4), Set: t.has(5),
		ChecksumType: t.u32(6), ChecksumOffset: t.u32(7), ChecksumFlags: t.u32(8),
	}
	at := 1
	if x.Set {
		at = 5
	}
	if x.Register, err = parseRegister(t.u32(at)); err != nil {
		return nil, err
	}
	if x.Len < 1 || x.Len > maxKeyLength || x.Offset > 1<<15 {
		return nil, fmt.Errorf("%w: %d bytes at %d", ErrMalformed, x.Len, x.Offset)
	}
	return x, nil
}

// Name returns payload.
func (x *Payload) Name() string { return "payload" }

func (x *Payload) effect() bool { return x.Set }

func (x *Payload) eval(st *state) (bool, error) {
	if x.Set {
		return x.write(st)
	}
	var v, k []byte
	ok := true
	from := x.source(st.p.Proto(), st.p.Family)
	switch x.Base {
	case baseLink:
		// Packets of this process have no link header yet; others had an Ethernet header, whose addresses are not known.
		if st.p.In == "" && (st.p.Hook == skb.Output || st.p.Hook == skb.Postrouting) {
			return false, nil
		}
		v, k = make([]byte, x.Len), make([]byte, x.Len)
	case baseNetwork:
		v, k, ok = st.p.Network(int(x.Offset), int(x.Len))
		from.inPacket, from.base, from.offset = true, uint16(x.Base), uint16(x.Offset)
	case baseTransport:
		if notFirst, decided := st.p.LaterFragment(); decided && notFirst {
			return x.ofLaterFragment(st, from), nil
		} else if !decided && st.depends("the packet is a later fragment") {
			return false, nil
		}
		if st.stopped {
			return false, nil
		}
		v, k, ok = st.p.Transport(int(x.Offset), int(x.Len))
		from.inPacket, from.base, from.offset = true, uint16(x.Base), uint16(x.Offset)
	case baseInner:
		if st.p.Proto() != skb.TCP && st.p.Proto() != skb.UDP {
			return false, nil
		}
		v, k = make([]byte, x.Len), make([]byte, x.Len)
	default:
		v, k = make([]byte, x.Len), make([]byte, x.Len)
	}
	if !ok {
		return false, nil
	}
	st.regs.store(x.Register, value{v, k}, from)
	return true, nil
}

// ofLaterFragment is a load from the transport header of a fragment that has none. nft_payload_eval breaks the rule (since Linux
// 5.16), but short aligned loads are done by nft_payload_fast_eval (net/netfilter/nf_tables_core.c), which does not look for
// fragments (seen on 6.18): in IPv4 it takes what stands there, in IPv6 it counts from the IP header.
func (x *Payload) ofLaterFragment(st *state, from source) bool {
	if x.Len > 4 || x.Len == 3 || x.Offset%x.Len != 0 {
		return false
	}
	load := st.p.Transport
	if st.p.Family == skb.IPv6 {
		load = st.p.Network
	}
	v, k, ok := load(int(x.Offset), int(x.Len))
	if ok {
		st.regs.store(x.Register, value{v, k}, from)
	}
	return ok
}

// write stores a register's bytes in the packet.
func (x *Payload) write(st *state) (bool, error) {
	v := st.regs.load(x.Register, int(x.Len))
	off := int(x.Offset)
	switch x.Base {
	case baseNetwork:
	case baseTransport:
		if notFirst, decided := st.p.LaterFragment(); decided && notFirst {
			return false, nil
		}
		off += st.p.TransportOffset()
	default:
		// Link and inner headers are not modelled: what was written cannot be seen by what is.
		st.act("%s set", x.label(st.p.Proto(), st.p.Family))
		return true, nil
	}
	if st.p.SetNetwork(off, v.b) {
		for i, k := range v.known {
			if k != 0xff {
				st.p.Forget(off+i, 1)
			}
		}
	}
	text := hexOrNumber(v.b)
	if _, field := findField(x.Base, x.Offset*8, x.Len*8, st.p.Proto(), st.p.Family); field != nil && field.typ != nil {
		text = field.typ.text(v.b)
	}
	st.act("%s set %s", x.label(st.p.Proto(), st.p.Family), text)
	return true, nil
}

// source names the field.
func (x *Payload) source(proto uint8, f skb.Family) source {
	if h, field := findField(x.Base, x.Offset*8, x.Len*8, proto, f); field != nil {
		return source{label: h.name + " " + field.name, typ: field.typ}
	}
	switch x.Base {
	case baseLink:
		return source{label: "the link layer header"}
	case baseInner, baseTunnel:
		return source{label: "the payload"}
	}
	return source{label: rawText(x.Base, x.Offset*8, x.Len*8)}
}

func (x *Payload) label(proto uint8, f skb.Family) string { return x.source(proto, f).label }

// baseNames is a base as nft prints it in a raw payload expression.
func baseNames(base uint32) string {
	switch base {
	case baseLink:
		return "ll"
	case baseNetwork:
		return "nh"
	case baseTransport:
		return "th"
	case baseInner:
		return "ih"
	}
	return fmt.Sprint(base)
}
