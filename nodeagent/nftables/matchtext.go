package nftables

import (
	"math/big"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// cmp prints a comparison. Two in a row, at least and at most, are a range.
func (p *printer) cmp(x *Cmp, lower *statement) {
	s := p.regs[x.Register]
	if s == nil {
		p.match("? %s 0x%x", x.Op, x.Data)
		return
	}
	if lower != nil && p.lowerFrom == s && x.Op == CmpLessEqual {
		t := s.order()
		lower.text = p.left(s) + " " + p.rangeOf(t, p.lowerData, x.Data)
		return
	}
	if s.payload != nil && p.payloadMatch(s, x) {
		return
	}
	if s.masked && p.maskMatch(p.plain(s), s.order(), s, x) {
		return
	}
	left := p.left(s)
	t := s.order()
	op := x.Op.String()
	if x.Op == CmpEqual && (s.masked || t.flags != nil && s.meta == nil) {
		op = "=="
	}
	st := p.match("%s", words(left, op, p.value(t, x.Data)))
	if x.Op == CmpGreaterEqual {
		p.lower, p.lowerFrom, p.lowerData = st, s, x.Data
	}
	if x.Op == CmpEqual && s.meta != nil && !s.masked {
		p.settle(s.meta, x.Data, st)
	}
}

// plain prints a symbol without its bitwise operation.
func (p *printer) plain(s *symbol) string {
	c := *s
	c.masked = false
	text := p.left(&c)
	s.typ = c.typ
	return text
}

func words(parts ...string) string {
	var out []string
	for _, s := range parts {
		if s != "" {
			out = append(out, s)
		}
	}
	return strings.Join(out, " ")
}

// rangeOf prints from-to, a prefix for addresses.
func (p *printer) rangeOf(t *dataType, from, to []byte) string {
	return p.value(t, from) + "-" + p.value(t, to)
}

// settle notes what a match on meta says about the packet's protocols.
func (p *printer) settle(m *Meta, data []byte, st *statement) {
	switch m.Key {
	case metaNfproto:
		if len(data) > 0 && (data[0] == 2 || data[0] == 10) {
			p.family = skb.Family(data[0])
			p.networkDep = st
		}
	case metaProtocol:
		if len(data) == 2 && data[0] == 0x08 && data[1] == 0 {
			p.family, p.networkDep = skb.IPv4, st
		} else if len(data) == 2 && data[0] == 0x86 && data[1] == 0xdd {
			p.family, p.networkDep = skb.IPv6, st
		}
		if !p.inet() {
			// It says nothing in a table of one family.
			st.gone = true
		}
	case metaIiftype:
		if len(data) == 2 && number16(data) == 1 {
			p.ether, p.linkDep = true, st
		}
	case metaL4proto:
		if len(data) > 0 {
			p.proto, p.transportDep, p.transportByPayload = data[0], st, false
		}
	}
}

// payloadMatch prints a comparison of packet bytes; it returns false when it has no better form than the plain one.
func (p *printer) payloadMatch(s *symbol, x *Cmp) bool {
	pl := s.payload
	bit, n := pl.Offset*8, uint32(len(x.Data))*8
	if s.masked {
		return p.payloadMask(s, x)
	}
	if h, f := p.field(pl.Base, bit, n); f != nil {
		p.implied(h)
		s.typ = f.typ
		op := x.Op.String()
		if f.typ.flags != nil && x.Op == CmpEqual {
			op = "=="
		}
		st := p.match("%s", words(h.name+" "+f.name, op, p.value(f.typ, x.Data)))
		if x.Op == CmpGreaterEqual {
			p.lower, p.lowerFrom, p.lowerData = st, s, x.Data
		}
		if x.Op == CmpEqual {
			p.settleField(h, f, x.Data, st)
		}
		return true
	}
	if x.Op != CmpEqual && x.Op != CmpNotEqual {
		return false
	}
	if h, f := p.fieldAt(pl.Base, bit); f != nil && f.len > n && (f.typ == typeIPv4 || f.typ == typeIPv6) {
		// A prefix of whole bytes is a match of the address's first bytes.
		p.implied(h)
		full := make([]byte, f.len/8)
		copy(full, x.Data)
		p.match("%s", words(h.name+" "+f.name, x.Op.String(), f.typ.text(full)+"/"+itoa(n)))
		return true
	}
	if x.Op == CmpEqual {
		return p.expand(pl, x.Data)
	}
	return false
}

func itoa(n uint32) string { return new(big.Int).SetUint64(uint64(n)).String() }

// settleField notes what a match on a header field says about the protocols above it.
func (p *printer) settleField(h *header, f *field, data []byte, st *statement) {
	switch {
	case h.name == "ip" && f.name == "protocol", h.name == "ip6" && f.name == "nexthdr":
		p.proto, p.transportDep, p.transportByPayload = data[0], st, true
	case h.name == "ether" && f.name == "type" && len(data) == 2:
		switch {
		case data[0] == 0x08 && data[1] == 0:
			p.family, p.networkDep = skb.IPv4, st
		case data[0] == 0x86 && data[1] == 0xdd:
			p.family, p.networkDep = skb.IPv6, st
		}
	}
}

// fieldAt returns the field that begins at a bit.
func (p *printer) fieldAt(base, bit uint32) (*header, *field) {
	for _, h := range headers {
		if !p.applies(h, base) {
			continue
		}
		for i := range h.fields {
			if h.fields[i].offset == bit {
				return h, &h.fields[i]
			}
		}
	}
	return nil, nil
}

// expand prints a match of several fields at once, which nft merges when they lie behind each other.
func (p *printer) expand(pl *Payload, data []byte) bool {
	type part struct {
		h *header
		f *field
		b []byte
	}
	var found []part
	for bit, rest := pl.Offset*8, data; len(rest) > 0; {
		h, f := p.fieldAt(pl.Base, bit)
		if f == nil || f.len%8 != 0 || int(f.len/8) > len(rest) {
			return false
		}
		found = append(found, part{h, f, rest[:f.len/8]})
		bit, rest = bit+f.len, rest[f.len/8:]
	}
	for _, x := range found {
		p.implied(x.h)
		st := p.match("%s %s %s", x.h.name, x.f.name, p.value(x.f.typ, x.b))
		p.settleField(x.h, x.f, x.b, st)
	}
	return true
}

// payloadMask prints a comparison of masked packet bytes: a field of some bits, a prefix, flags.
func (p *printer) payloadMask(s *symbol, x *Cmp) bool {
	pl := s.payload
	base := pl.Offset * 8
	first, n, ok := bitRun(s.mask)
	if ok && allZero(s.xor) {
		if h, f := p.field(pl.Base, base+first, n); f != nil && n != uint32(len(s.mask))*8 {
			p.implied(h)
			shift := uint(len(s.mask)*8) - uint(first+n)
			v := new(big.Int).Rsh(new(big.Int).SetBytes(x.Data), shift)
			p.match("%s", words(h.name+" "+f.name, x.Op.String(), p.value(f.typ, v.FillBytes(make([]byte, (n+7)/8)))))
			return true
		}
	}
	h, f := findField(pl.Base, base, uint32(len(s.mask))*8, p.proto, p.family)
	if f == nil {
		if op := x.Op.String(); x.Op <= CmpNotEqual {
			if op == "" {
				op = "=="
			}
			p.match("%s & 0x%s %s 0x%s", rawText(pl.Base, base, uint32(len(s.mask))*8), hexOf(s.mask), op, hexOf(x.Data))
			return true
		}
		return false
	}
	p.implied(h)
	if f.typ == typeIPv4 || f.typ == typeIPv6 {
		if allZero(s.mask) && allZero(s.xor) {
			n, ok, first = 0, true, 0
		}
		if ok && first == 0 && allZero(s.xor) && x.Op <= CmpNotEqual {
			p.match("%s", words(h.name+" "+f.name, x.Op.String(), f.typ.text(x.Data)+"/"+itoa(n)))
			return true
		}
	}
	s.typ = f.typ
	return p.maskMatch(h.name+" "+f.name, f.typ, s, x)
}

func hexOf(b []byte) string { return new(big.Int).SetBytes(b).Text(16) }

// maskMatch prints a comparison of masked flags.
func (p *printer) maskMatch(left string, t *dataType, s *symbol, x *Cmp) bool {
	if t.flags == nil || !allZero(s.xor) {
		return false
	}
	switch {
	case x.Op == CmpNotEqual && allZero(x.Data):
		p.match("%s %s", left, t.text(s.mask))
	case x.Op == CmpEqual && allZero(x.Data):
		p.match("%s ! %s", left, t.text(s.mask))
	case x.Op <= CmpNotEqual:
		p.match("%s", words(left, x.Op.String(), t.text(x.Data), "/", t.text(s.mask)))
	default:
		return false
	}
	return true
}

// bitRun returns the place of the set bits of a mask, when they are one run.
func bitRun(mask []byte) (first, n uint32, ok bool) {
	state := 0
	for i := range uint32(len(mask) * 8) {
		set := mask[i/8]&(0x80>>(i%8)) != 0
		switch {
		case set && state == 0:
			first, n, state = i, 1, 1
		case set && state == 1:
			n++
		case !set && state == 1:
			state = 2
		case set && state == 2:
			return 0, 0, false
		}
	}
	return first, n, state != 0
}

func (p *printer) rangeMatch(x *Range) {
	s := p.regs[x.Register]
	if s == nil {
		p.match("? 0x%x-0x%x", x.From, x.To)
		return
	}
	left := p.left(s)
	op := map[bool]string{true: "!=", false: ""}[x.Inverted]
	p.match("%s", words(left, op, p.rangeOf(s.order(), x.From, x.To)))
}
