package nftables

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Hash scales a hash of a value, or of the packet's flow, to a number below Modulus (net/netfilter/nft_hash.c).
type Hash struct {
	// Symmetric hashes the flow, both directions alike; else the hash is over Len bytes at Source.
	Symmetric    bool
	Source, Dest register
	Len          int
	Modulus      uint32
	Seed         uint32
	HasSeed      bool
	Offset       uint32
}

func decodeHash(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(7)
	if err != nil {
		return nil, err
	}
	x := &Hash{Len: int(t.u32(3)), Modulus: t.u32(4), Seed: t.u32(5), HasSeed: t.has(5), Offset: t.u32(6), Symmetric: t.u32(7) == 1}
	if x.Dest, err = parseRegister(t.u32(2)); err != nil {
		return nil, err
	}
	if x.Source, err = parseRegister(t.u32(1)); err != nil {
		return nil, err
	}
	if x.Modulus == 0 || !x.Symmetric && (x.Len < 1 || x.Len > maxKeyLength) {
		return nil, fmt.Errorf("%w: a hash of %d bytes modulo %d", ErrMalformed, x.Len, x.Modulus)
	}
	return x, nil
}

// Name returns hash.
func (x *Hash) Name() string { return "hash" }

func (x *Hash) effect() bool { return false }

func (x *Hash) eval(st *state) (bool, error) {
	from := source{label: "a hash of the flow", typ: typeHostInteger}
	out := unknown(4)
	if !x.Symmetric {
		v := st.regs.load(x.Source, x.Len)
		from.label = "a hash of " + st.regs.from[x.Source].label
		// Without a seed of its own the kernel draws one and does not tell it.
		if v.all() && x.HasSeed {
			out = knownHost32(x.scale(jhash(v.b, x.Seed)))
		}
	}
	if !out.all() {
		if st.quiet() {
			return false, nil
		}
		out = st.pick(fmt.Sprintf("%s mod %d", from.label, x.Modulus), x.Modulus, x.Offset)
	}
	st.regs.store(x.Dest, out, from)
	return true, nil
}

func (x *Hash) scale(h uint32) uint32 { return uint32(uint64(h)*uint64(x.Modulus)>>32) + x.Offset }

// jhash is Bob Jenkins' lookup3 hash as the kernel uses it (include/linux/jhash.h), on numbers in host order.
func jhash(key []byte, seed uint32) uint32 {
	const start = 0xdeadbeef
	a := start + uint32(len(key)) + seed
	b, c := a, a
	word := binary.NativeEndian.Uint32
	for len(key) > 12 {
		a, b, c = a+word(key), b+word(key[4:]), c+word(key[8:])
		a, b, c = jhashMix(a, b, c)
		key = key[12:]
	}
	if len(key) == 0 {
		return c
	}
	for i, v := range key {
		w := uint32(v) << (8 * (i % 4))
		switch i / 4 {
		case 0:
			a += w
		case 1:
			b += w
		case 2:
			c += w
		}
	}
	return jhashFinal(a, b, c)
}

func jhashMix(a, b, c uint32) (uint32, uint32, uint32) {
	rol := bits.RotateLeft32
	a -= c
	a ^= rol(c, 4)
	c += b
	b -= a
	b ^= rol(a, 6)
	a += c
	c -= b
	c ^= rol(b, 8)
	b += a
	a -= c
	a ^= rol(c, 16)
	c += b
	b -= a
	b ^= rol(a, 19)
	a += c
	c -= b
	c ^= rol(b, 4)
	b += a
	return a, b, c
}

func jhashFinal(a, b, c uint32) uint32 {
	rol := bits.RotateLeft32
	c ^= b
	c -= rol(b, 14)
	a ^= c
	a -= rol(c, 11)
	b ^= a
	b -= rol(a, 25)
	c ^= b
	c -= rol(b, 16)
	a ^= c
	a -= rol(c, 4)
	b ^= a
	b -= rol(a, 14)
	c ^= b
	c -= rol(b, 24)
	return c
}
