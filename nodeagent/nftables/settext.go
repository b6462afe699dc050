package nftables

import (
	"bytes"
	"math/big"
	"slices"
	"strings"
)

// lookup prints a set lookup, or keeps it for the statement that uses a map's value.
func (p *printer) lookup(x *Lookup) {
	set, elements := p.elements(x.Set)
	n := 4
	if set != nil {
		n = set.KeyLen
	}
	symbols := p.span(x.Source, n)
	key := p.concatenation(x.Source, n)
	var types []*dataType
	for _, s := range symbols {
		types = append(types, s.order())
	}
	right := "@" + x.Set
	if set != nil && set.Flags&SetAnonymous != 0 && elements != nil {
		right = p.setText(set, elements, types)
	}
	switch {
	case !x.HasDest:
		op := ""
		if x.Inverted {
			op = "!="
		}
		p.match("%s", words(key, op, right))
	case x.Dest == regVerdict:
		p.do("%s vmap %s", key, right)
	default:
		s := &symbol{text: key + " map " + right, len: 4}
		if set != nil {
			s.concat = set.dataTypes()
			s.len = set.DataLen
			if len(s.concat) > 0 {
				s.typ = s.concat[0]
			}
			for w := int(x.Dest) + 1; w < int(x.Dest)+(set.DataLen+3)/4 && w < regWords; w++ {
				p.regs[w] = s
			}
		}
		p.set(x.Dest, s)
	}
}

// elements returns a set of the rule's table and, for an anonymous one, its elements.
func (p *printer) elements(name string) (*Set, []*Element) {
	if p.names == nil {
		return nil, nil
	}
	s, list, err := p.names.Elements(p.r.Family, p.r.Table, name)
	if err != nil {
		return nil, nil
	}
	return s, list
}

// setText prints an anonymous set: { 80, 443 }. types are those of the key's parts.
func (p *printer) setText(s *Set, elements []*Element, types []*dataType) string {
	st := &setState{Set: s, elements: elements}
	if len(types) == 0 || len(types) != max(1, len(parts(s.KeyType))) {
		types = s.keyTypes()
	}
	type item struct {
		sort *big.Int
		text string
	}
	var items []item
	var catchAll string
	add := func(e *Element, text string) {
		if s.Flags&SetMap != 0 {
			text += " : " + p.mapValue(s, e)
		}
		if e.Comment != "" {
			text += ` comment "` + e.Comment + `"`
		}
		if e.CatchAll {
			catchAll = text
			return
		}
		items = append(items, item{sortValue(types, e.Key), text})
	}
	if s.Flags&SetInterval != 0 && !s.ranged() {
		for _, e := range elements {
			if e.CatchAll {
				add(e, "*")
			}
		}
		st.spans = makeSpans(slices.DeleteFunc(slices.Clone(elements), func(e *Element) bool { return e.CatchAll }))
		for _, sp := range st.spans {
			add(sp.element, p.interval(types[0].network(), types[0], sp.from, sp.to))
		}
	} else {
		for _, e := range elements {
			switch {
			case e.CatchAll:
				add(e, "*")
			case e.KeyEnd != nil:
				add(e, p.concatInterval(types, e))
			default:
				add(e, p.concatValue(types, e.Key))
			}
		}
	}
	slices.Reverse(items) // nft's merge takes equal elements from the second half first
	slices.SortStableFunc(items, func(a, b item) int { return a.sort.Cmp(b.sort) })
	var out []string
	for _, i := range items {
		out = append(out, i.text)
	}
	if catchAll != "" {
		out = append(out, catchAll)
	}
	return "{ " + strings.Join(out, ", ") + " }"
}

// sortValue is what nft sorts an anonymous set's elements by: the number, or for a concatenation its bytes as a
// little-endian number (nftables, src/mergesort.c).
func sortValue(types []*dataType, key []byte) *big.Int {
	if len(types) == 1 {
		t := types[0]
		if t == typeIfname {
			return new(big.Int).SetBytes(reversed(key))
		}
		n := t.number(key)
		if t.flags != nil && n.IsUint64() {
			return t.firstFlag(n)
		}
		return n
	}
	var b []byte
	for _, part := range split(types, key) {
		b = append(b, part...)
	}
	return new(big.Int).SetBytes(reversed(b))
}

// firstFlag is the flag that stands first in the text of n: nft sorts by it alone.
func (t *dataType) firstFlag(n *big.Int) *big.Int {
	for _, f := range t.flags {
		if n.Uint64()&f.bit != 0 {
			return new(big.Int).SetUint64(f.bit)
		}
	}
	return n
}

func reversed(b []byte) []byte {
	c := bytes.Clone(b)
	reverse(c)
	return c
}

// interval prints a span of keys. Keys of interval sets are in network order, whatever the type.
func (p *printer) interval(t, original *dataType, from, to []byte) string {
	if sameBytes(from, to) {
		return p.value(t, from)
	}
	if original == typeIfname {
		return ifnamePrefix(from)
	}
	if n, ok := prefixLength(from, to); ok && (original == typeIPv4 || original == typeIPv6) {
		return t.text(from) + "/" + itoa(uint32(n))
	}
	return p.rangeOf(t, from, to)
}

func (p *printer) concatInterval(types []*dataType, e *Element) string {
	from, to := split(types, e.Key), split(types, e.KeyEnd)
	var out []string
	for i := range from {
		out = append(out, p.interval(types[i], types[i], from[i], to[i]))
	}
	return strings.Join(out, " . ")
}

func (p *printer) concatValue(types []*dataType, b []byte) string {
	var out []string
	for i, part := range split(types, b) {
		s := p.value(types[i], part)
		if types[i].flags != nil {
			s = strings.ReplaceAll(s, ",", " | ")
		}
		out = append(out, s)
	}
	return strings.Join(out, " . ")
}

// mapValue prints a map's value.
func (p *printer) mapValue(s *Set, e *Element) string {
	types := s.dataTypes()
	if e.Data == nil || len(types) == 0 {
		return s.dataText(e)
	}
	if len(types) == 1 && types[0].size > 0 && len(e.Data) == 2*types[0].size {
		// A map to ranges: the value holds both ends.
		return p.interval(types[0], types[0], e.Data[:types[0].size], e.Data[types[0].size:])
	}
	return p.concatValue(types, e.Data)
}
