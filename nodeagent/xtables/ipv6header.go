package xtables

import (
	"bytes"
)

// header finds an extension header as ipv6_find_hdr does with a target; off is where it begins. there is maybe when bytes
// that are not known end the search.
func (c *call) header(typ byte) (off int, there tri) {
	chain, whole := c.p.Headers()
	later, _ := c.p.LaterFragment()
	for i, h := range chain {
		if later && i == len(chain)-1 {
			break // a later fragment holds no further header
		}
		if h.Type == typ {
			return h.Offset, yes
		}
	}
	if !whole {
		return 0, maybe
	}
	return 0, no
}

// dependsOnHeader forks: the header, or what is asked of it, is not known.
func (c *call) dependsOnHeader(header byte, text func(*writer, []byte)) bool {
	w := &writer{family: c.family, rev: c.rev}
	text(w, c.info)
	return c.depends("extension header %d: %s %s", header, c.name, w.String())
}

// in tells whether a 32-bit number is in the range of two of the rule's words, or is not when inverted.
func (c *call) in(n uint32, low, high int, invert bool) bool {
	return (n >= u32(c.info, low) && n <= u32(c.info, high)) != invert
}

// matchFrag is frag_mt6. Its range of ids is compared in host byte order.
func matchFrag(c *call) (bool, error) {
	off, there := c.header(headerFragment)
	if there == no {
		return false, nil
	}
	b, k := c.network(off, 8)
	if there == maybe || bytes.Count(k, []byte{0xff}) != len(k) {
		return c.dependsOnHeader(headerFragment, textFrag), nil
	}
	flags, inv := c.info[12], c.info[13]
	offset, more := (uint16(b[2])<<8|uint16(b[3]))&^7, b[3]&1 != 0
	return c.in(be32(b[4:]), 0, 4, inv&1 != 0) &&
		(flags&4 == 0 || b[1] == 0 && b[3]&6 == 0) &&
		(flags&8 == 0 || offset == 0) && (flags&16 == 0 || more) && (flags&32 == 0 || !more), nil
}

// matchRouting is rt_mt6.
func matchRouting(c *call) (bool, error) {
	off, there := c.header(headerRouting)
	if there == no {
		return false, nil
	}
	b, k := c.network(off, 4)
	whole := there == yes && bytes.Count(k, []byte{0xff}) == len(k)
	size := (int(b[1]) + 1) * 8
	if whole {
		b, k = c.network(off, size)
		whole = bytes.Count(k, []byte{0xff}) == len(k)
	}
	if !whole {
		return c.dependsOnHeader(headerRouting, textRouting), nil
	}
	flags, inv := c.info[16], c.info[17]
	if !c.in(uint32(b[3]), 4, 8, inv&2 != 0) || flags&4 != 0 && (u32(c.info, 12) == uint32(size)) == (inv&4 != 0) ||
		flags&1 != 0 && (u32(c.info, 0) == uint32(b[2])) == (inv&1 != 0) || flags&8 != 0 && be32(b[4:]) != 0 {
		return false, nil
	}
	return flags&16 == 0 || c.routingAddresses(b[8:], flags&32 != 0), nil
}

// routingAddresses compares the addresses of a type 0 routing header with the rule's: in order and place, or with others
// between when not strict.
func (c *call) routingAddresses(list []byte, notStrict bool) bool {
	want := min(int(c.info[276]), 16)
	if want > len(list)/16 {
		return false
	}
	i := 0
	for at := 0; at+16 <= len(list) && i < want; at += 16 {
		switch same := bytes.Equal(list[at:at+16], c.info[20+16*i:36+16*i]); {
		case same:
			i++
		case !notStrict:
			return false
		}
	}
	return i == want && (notStrict || want == len(list)/16)
}

// matchOptions is hbh_mt6, for hop-by-hop and destination options.
func matchOptions(header byte, text func(*writer, []byte)) func(*call) (bool, error) {
	return func(c *call) (bool, error) {
		off, there := c.header(header)
		if there == no {
			return false, nil
		}
		b, k := c.network(off, 2)
		whole := there == yes && k[0] == 0xff && k[1] == 0xff
		size := (int(b[1]) + 1) * 8
		if whole {
			b, k = c.network(off, size)
			whole = bytes.Count(k, []byte{0xff}) == len(k)
		}
		if !whole {
			return c.dependsOnHeader(header, text), nil
		}
		flags, inv := c.info[4], c.info[5]
		if flags&1 != 0 && (u32(c.info, 0) == uint32(size)) == (inv&1 != 0) {
			return false, nil
		}
		return flags&2 == 0 || c.optionsInOrder(b[2:]), nil
	}
}

// optionsInOrder tells whether a header's options begin with those of the rule, each of the length that it asks for.
func (c *call) optionsInOrder(opts []byte) bool {
	count := int(c.info[38])
	if count > 16 {
		return false
	}
	for i := range count {
		if len(opts) < 1 {
			return false
		}
		want := u16(c.info, 6+2*i)
		if opts[0] != byte(want>>8) {
			return false
		}
		size := 1
		if opts[0] != 0 {
			if len(opts) < 2 {
				return false
			}
			size = int(opts[1]) + 2
			if want&0xff != 0xff && opts[1] != byte(want) {
				return false
			}
		}
		// More than the header holds ends the comparison, except behind the last.
		if len(opts) < size && i < count-1 {
			return false
		}
		opts = opts[min(size, len(opts)):]
	}
	return true
}

// matchAH6 is ah_mt6.
func matchAH6(c *call) (bool, error) {
	off, there := c.header(headerAuth)
	if there == no {
		return false, nil
	}
	b, k := c.network(off, 8)
	if there == maybe || bytes.Count(k, []byte{0xff}) != len(k) {
		return c.dependsOnHeader(headerAuth, textAH6), nil
	}
	inv, length := c.info[13], u32(c.info, 8)
	return c.in(be32(b[4:]), 0, 4, inv&1 != 0) &&
		(length == 0 || (length == (uint32(b[1])+2)*4) != (inv&2 != 0)) && (c.info[12] == 0 || b[2] == 0 && b[3] == 0), nil
}

// matchSRH is srh_mt6 and srh1_mt6.
func matchSRH(c *call) (bool, error) {
	off, there := c.header(headerRouting)
	if there == no {
		return false, nil
	}
	b, k := c.network(off, 8)
	whole := there == yes && bytes.Count(k, []byte{0xff}) == len(k)
	size := (int(b[1]) + 1) * 8
	if whole {
		b, k = c.network(off, size)
		whole = bytes.Count(k, []byte{0xff}) == len(k)
	}
	if !whole {
		return c.dependsOnHeader(headerRouting, textSRH), nil
	}
	if b[2] != 4 || int(b[3]) > int(b[4]) {
		return false, nil
	}
	at := 6
	if c.rev == 1 {
		at = 104
	}
	flags, inv := u16(c.info, at), u16(c.info, at+2)
	for i, ok := range []bool{
		b[0] == c.info[0], b[1] == c.info[1], b[1] > c.info[1], b[1] < c.info[1], b[3] == c.info[2], b[3] > c.info[2], b[3] < c.info[2],
		b[4] == c.info[3], b[4] > c.info[3], b[4] < c.info[3], u16(b, 6) == u16(c.info, 4),
	} {
		if bit := uint16(1) << i; flags&bit != 0 && ok == (inv&bit != 0) {
			return false, nil
		}
	}
	if c.rev == 0 {
		return true, nil
	}
	return c.segments(b, flags, inv)
}

// segments compares the previous, the next and the last segment of a segment routing header.
func (c *call) segments(b []byte, flags, inv uint16) (bool, error) {
	left, last := int(b[3]), int(b[4])
	for i, s := range []struct {
		there bool
		index int
	}{{left != last, left + 1}, {left != 0, left - 1}, {true, 0}} {
		bit := uint16(1) << (11 + i)
		if flags&bit == 0 {
			continue
		}
		at := 8 + 16*s.index
		if !s.there || at+16 > len(b) {
			return false, nil
		}
		addr, want, mask := b[at:at+16], c.info[8+16*i:24+16*i], c.info[56+16*i:72+16*i]
		if maskedEqual(addr, mask, want) == (inv&bit != 0) {
			return false, nil
		}
	}
	return true, nil
}

func be32(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}
