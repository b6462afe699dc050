package nftables

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/big"
	"strings"
)

// symbol is what a register holds, in terms of the rule's text.
type symbol struct {
	// text is the expression as nft prints it. For a payload it is made when it is used.
	text    string
	typ     *dataType
	len     int
	payload *Payload
	// data is a constant.
	data []byte
	// bigEndian tells that a number in host order has been turned.
	bigEndian bool
	// mask and xor are a bitwise operation on it, not printed yet.
	masked    bool
	mask, xor []byte
	// concat are the parts' types when a map's data holds several.
	concat []*dataType
	// meta is the expression that loaded it.
	meta *Meta
}

// order returns the symbol's type with the byte order that its data has now.
func (s *symbol) order() *dataType {
	t := s.typ
	if t == nil {
		t = typeInteger
	}
	if s.bigEndian {
		return t.network()
	}
	return t
}

// value prints data as the right side of a match on a type.
func (p *printer) value(t *dataType, b []byte) string {
	if t.name == typeIfindex.name {
		return p.quoteIndex(uint32(t.number(b).Uint64()))
	}
	if t == typeIfname && len(b) < 16 {
		return ifnamePrefix(b)
	}
	return t.text(b)
}

// left prints a symbol as the left side of a match, or as a value to set something to.
func (p *printer) left(s *symbol) string {
	if s == nil {
		return "?"
	}
	text := s.text
	if s.payload != nil {
		text = p.payloadText(s)
	}
	if s.data != nil {
		text = p.value(s.order(), s.data)
	}
	if s.masked {
		return p.binary(text, s)
	}
	return text
}

// payloadText names the field that a payload loads.
func (p *printer) payloadText(s *symbol) string {
	x := s.payload
	if h, f := p.field(x.Base, x.Offset*8, x.Len*8); f != nil {
		p.implied(h)
		s.typ = f.typ
		return h.name + " " + f.name
	}
	if first, n, ok := bitRun(s.mask); ok && s.masked && allZero(s.xor) {
		if h, f := p.field(x.Base, x.Offset*8+first, n); f != nil {
			p.implied(h)
			s.typ = f.typ.shifted(first, n, len(s.mask))
			s.masked = false
			return h.name + " " + f.name
		}
	}
	s.typ = typeRaw
	return rawText(x.Base, x.Offset*8, x.Len*8)
}

func rawText(base, offset, n uint32) string {
	return fmt.Sprintf("@%s,%d,%d", baseNames(base), offset, n)
}

// binary prints a bitwise operation. The kernel has one form, (x & mask) ^ xor; nft prints it as and, xor, or.
func (p *printer) binary(text string, s *symbol) string {
	t := s.order()
	m, x := t.number(s.mask), t.number(s.xor)
	or := new(big.Int).Xor(new(big.Int).And(m, x), x)
	x.And(x, m)
	m.Or(m, or)
	number := func(n *big.Int) string { return p.value(t, fromNumber(t, n, len(s.mask))) }
	if !allBits(m, len(s.mask)*8) {
		text += " & " + number(m)
	}
	if x.Sign() != 0 {
		text += " ^ " + number(x)
	}
	if or.Sign() != 0 {
		text += " | " + number(or)
	}
	return text
}

func allBits(n *big.Int, bits int) bool {
	return new(big.Int).Add(n, big.NewInt(1)).Cmp(new(big.Int).Lsh(big.NewInt(1), uint(bits))) == 0
}

// fromNumber turns a number into n bytes in a type's byte order.
func fromNumber(t *dataType, v *big.Int, n int) []byte {
	b := v.FillBytes(make([]byte, max(n, (v.BitLen()+7)/8)))
	if t.host && littleEndian {
		reverse(b)
	}
	return b
}

// expr takes one expression into the text.
func (p *printer) expr(x Expr) {
	lower := p.lower
	p.lower = nil
	switch x := x.(type) {
	case *Payload:
		if x.Set {
			p.payloadSet(x)
			return
		}
		p.set(x.Register, &symbol{payload: x, len: int(x.Len)})
	case *Meta:
		if x.Set {
			p.do("meta %s set %s", x.key().name, p.settable(x.Register, x.key().typ, x.key().len))
			return
		}
		p.set(x.Register, &symbol{text: x.key().text(), typ: x.key().typ, len: x.key().len, meta: x})
	case *Ct:
		p.ctExpr(x)
	case *Fib:
		p.set(x.Dest, fibSymbol(x))
	case *Rt:
		p.set(x.Dest, &symbol{text: x.text(), typ: x.typ(), len: [...]int{4, 4, 16, 2, 1}[x.Key]})
	case *Socket:
		p.set(x.Dest, &symbol{text: x.text(), typ: x.typ(), len: [...]int{1, 4, 1, 8}[x.Key]})
	case *Numgen:
		p.set(x.Dest, &symbol{text: x.text(), typ: typeHostInteger, len: 4})
	case *Hash:
		p.set(x.Dest, &symbol{text: p.hashText(x), typ: typeHostInteger, len: 4})
	case *Exthdr:
		p.exthdr(x)
	case *Immediate:
		if x.Verdict != nil {
			p.do("%s", x.Verdict)
			return
		}
		p.set(x.Register, &symbol{data: x.Data, len: len(x.Data)})
	case *Byteorder:
		if s := p.regs[x.Source]; s != nil {
			c := *s
			c.bigEndian = x.ToNetwork
			p.set(x.Dest, &c)
		}
	case *Bitwise:
		p.bitwise(x)
	case *Cmp:
		p.cmp(x, lower)
	case *Range:
		p.rangeMatch(x)
	case *Lookup:
		p.lookup(x)
	case *Osf:
		p.set(x.Dest, &symbol{text: osfText(x), typ: typeString, len: 16})
	case *Tunnel:
		p.set(x.Dest, &symbol{text: "tunnel " + [...]string{"path", "id"}[x.Key], typ: typeHostInteger, len: 4})
	case *Xfrm:
		p.set(x.Dest, xfrmSymbol(x))
	default:
		p.statement(x)
	}
}

func fibSymbol(x *Fib) *symbol {
	s := &symbol{text: x.text(), typ: typeFibAddr, len: 4}
	switch {
	case x.Flags&fibPresent != 0:
		s.typ = typeBoolean
	case x.Result == fibResultOif:
		s.typ = typeIfindex
	case x.Result == fibResultOifname:
		s.typ, s.len = typeIfname, 16
	}
	return s
}

func osfText(x *Osf) string {
	s := "osf "
	switch x.TTL {
	case 1:
		s += "ttl loose "
	case 2:
		s += "ttl skip "
	}
	if x.Flags&1 != 0 {
		return s + "version"
	}
	return s + "name"
}

func xfrmSymbol(x *Xfrm) *symbol {
	dir := map[uint8]string{0: "in", 1: "out"}[x.Direction]
	s := "ipsec " + dir
	if x.Number != 0 {
		s += fmt.Sprintf(" spnum %d", x.Number)
	}
	names := [...]string{"", "ip daddr", "ip6 daddr", "ip saddr", "ip6 saddr", "reqid", "spi"}
	types := [...]*dataType{nil, typeIPv4, typeIPv6, typeIPv4, typeIPv6, typeHostInteger, typeInteger}
	return &symbol{text: s + " " + names[x.Key], typ: types[x.Key], len: 4}
}

func (p *printer) set(at register, s *symbol) {
	if int(at) < len(p.regs) {
		p.regs[at] = s
	}
}

// settable prints the value of a register for a statement that sets something of a type.
func (p *printer) settable(at register, t *dataType, n int) string {
	s := p.regs[at]
	if s == nil {
		return "?"
	}
	if s.data != nil {
		return p.value(t, s.data[:min(n, len(s.data))])
	}
	if s.masked && s.typ == nil {
		s.typ = t
	}
	return p.left(s)
}

func (p *printer) ctExpr(x *Ct) {
	if x.Set {
		name := strings.TrimPrefix(x.text(), "ct ")
		p.do("ct %s set %s", name, p.settable(x.Register, x.key().typ, x.key().len))
		return
	}
	s := &symbol{text: x.text(), typ: x.key().typ, len: x.key().len}
	if x.Key == ctSrc || x.Key == ctDst {
		// The older keys, of the length of the table's family.
		s.typ, s.len = p.addrType(), p.addrType().size
		s.text = strings.Replace(s.text, x.key().name, map[bool]string{true: "ip ", false: "ip6 "}[s.len == 4]+x.key().name, 1)
	}
	p.set(x.Register, s)
}

func (p *printer) bitwise(x *Bitwise) {
	s := p.regs[x.Source]
	if s == nil {
		return
	}
	c := *s
	switch x.Op {
	case BitwiseMaskXor:
		if c.masked {
			c = symbol{text: p.left(s), typ: s.typ, len: s.len, bigEndian: s.bigEndian}
		}
		c.masked, c.mask, c.xor = true, x.Mask, x.Xor
	case BitwiseLeftShift, BitwiseRightShift:
		op := map[BitwiseOp]string{BitwiseLeftShift: "<<", BitwiseRightShift: ">>"}[x.Op]
		c = symbol{text: fmt.Sprintf("%s %s %d", p.left(s), op, x.Shift), typ: s.typ, len: s.len, bigEndian: s.bigEndian}
	default:
		op := map[BitwiseOp]string{BitwiseAnd: "&", BitwiseOr: "|", BitwiseXor: "^"}[x.Op]
		second := p.value(s.order(), x.Operand)
		if x.HasSecond {
			second = p.left(p.regs[x.Second])
		}
		c = symbol{text: fmt.Sprintf("%s %s %s", p.left(s), op, second), typ: s.typ, len: s.len, bigEndian: s.bigEndian}
	}
	p.set(x.Dest, &c)
}

func (p *printer) hashText(x *Hash) string {
	s := "symhash"
	if !x.Symmetric {
		s = "jhash " + p.concatenation(x.Source, x.Len)
	}
	s += fmt.Sprintf(" mod %d", x.Modulus)
	if x.HasSeed {
		s += fmt.Sprintf(" seed 0x%x", x.Seed)
	}
	if x.Offset != 0 {
		s += fmt.Sprintf(" offset %d", x.Offset)
	}
	return s
}

// concatenation prints the registers that a key of n bytes spans.
func (p *printer) concatenation(at register, n int) string {
	var out []string
	for _, s := range p.span(at, n) {
		out = append(out, p.left(s))
	}
	return strings.Join(out, " . ")
}

// span returns the symbols in the registers that n bytes span.
func (p *printer) span(at register, n int) []*symbol {
	var out []*symbol
	for w := int(at); n > 0 && w < regWords; {
		s := p.regs[w]
		if s == nil {
			return append(out, &symbol{text: "?"})
		}
		out = append(out, s)
		words := max(1, (s.len+3)/4)
		w += words
		n -= words * 4
	}
	return out
}

// number16 reads a 16-bit number in host order.
func number16(b []byte) uint16 {
	if len(b) < 2 {
		return 0
	}
	return binary.NativeEndian.Uint16(b)
}

func sameBytes(a, b []byte) bool { return bytes.Equal(a, b) }
