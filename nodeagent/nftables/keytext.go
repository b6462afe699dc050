package nftables

import (
	"bytes"
	"fmt"
	"strings"
)

// split cuts a key or value at its parts: each starts at a 32-bit word.
func split(types []*dataType, b []byte) [][]byte {
	if len(types) == 1 {
		return [][]byte{b}
	}
	var out [][]byte
	for _, t := range types {
		n := t.size
		if n == 0 {
			n = 4
		}
		n = min(n, len(b))
		out = append(out, b[:n])
		b = b[min((n+3)&^3, len(b)):]
	}
	return out
}

// keyText prints a key of the set: "10.96.0.25 . tcp . 80".
func (s *Set) keyText(b []byte) string { return concatText(s.keyTypes(), b) }

// keyTypes are the types of the key's parts; a set that does not tell them has one part of plain bytes.
func (s *Set) keyTypes() []*dataType {
	types := parts(s.KeyType)
	if len(types) == 0 {
		return []*dataType{typeRaw}
	}
	return orderTypes(types, s.keyHostOrder)
}

func (s *Set) dataTypes() []*dataType { return orderTypes(parts(s.DataType), s.dataHostOrder) }

// byteOrderHost is nft's number of host byte order in a set's user data (enum byteorder).
const byteOrderHost = 1

// orderTypes gives a plain integer the byte order that the set's user data tells.
func orderTypes(types []*dataType, host bool) []*dataType {
	if host && len(types) == 1 && types[0] == typeInteger {
		return []*dataType{typeHostInteger}
	}
	return types
}

func concatText(types []*dataType, b []byte) string {
	if len(types) == 0 {
		return fmt.Sprintf("0x%x", b)
	}
	var out []string
	for i, part := range split(types, b) {
		out = append(out, types[i].text(part))
	}
	return strings.Join(out, " . ")
}

// elementKeyText prints an element's key: a value, a prefix or a range, for each part.
func (s *setState) elementKeyText(e *Element) string {
	if e.CatchAll {
		return "*"
	}
	types := s.keyTypes()
	if e.KeyEnd != nil {
		from, to := split(types, e.Key), split(types, e.KeyEnd)
		var out []string
		for i := range from {
			out = append(out, rangeText(types[i], from[i], to[i]))
		}
		return strings.Join(out, " . ")
	}
	for _, sp := range s.spans {
		if sp.element == e && len(types) == 1 {
			return rangeText(types[0], sp.from, sp.to)
		}
	}
	return s.keyText(e.Key)
}

// rangeText prints a range: a single value, an address prefix, or from-to.
func rangeText(t *dataType, from, to []byte) string {
	if bytes.Equal(from, to) {
		return t.text(from)
	}
	if t == typeIfname {
		return ifnamePrefix(from)
	}
	if n, ok := prefixLength(from, to); ok && (t == typeIPv4 || t == typeIPv6 || t == typeEther) {
		return fmt.Sprintf("%s/%d", t.text(from), n)
	}
	return t.text(from) + "-" + t.text(to)
}

func ifnamePrefix(b []byte) string { return `"` + cString(b) + `*"` }

// prefixLength returns the length of the prefix that from and to bound, when they do.
func prefixLength(from, to []byte) (int, bool) {
	n, host := 0, false
	for i := range from {
		for bit := 7; bit >= 0; bit-- {
			a, b := from[i]>>bit&1, to[i]>>bit&1
			switch {
			case a == b && !host:
				n++
			case a == 0 && b == 1:
				host = true
			default:
				return 0, false
			}
		}
	}
	return n, true
}

// dataText prints a map's value.
func (s *Set) dataText(e *Element) string {
	switch {
	case e.Verdict != nil:
		return e.Verdict.String()
	case e.Object != "":
		return `"` + e.Object + `"`
	}
	return concatText(s.dataTypes(), e.Data)
}
