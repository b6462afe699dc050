package nat

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// pickAddr is find_best_ips_proto of net/netfilter/nf_nat_core.c: an address out of a range, by a hash over the source
// address, seeded by the destination and the zone unless the range is persistent.
func pickAddr(t skb.Tuple, r skb.NAT, zone uint16, f skb.Family) netip.Addr {
	words := 1
	if f == skb.IPv6 {
		words = 4
	}
	src, dst := addrWords(t.Src.Addr()), addrWords(t.Dst.Addr())
	var seed uint32
	if !r.Persistent {
		seed = dst[words-1] ^ uint32(zone)
	}
	j := jhash2(src[:], seed)
	low, high := r.Min.AsSlice(), r.Max.AsSlice()
	out := make([]byte, 4*words)
	full := false
	for i := range words {
		var minip, dist uint32 = 0, ^uint32(0)
		if !full {
			minip = binary.BigEndian.Uint32(low[4*i:])
			dist = binary.BigEndian.Uint32(high[4*i:]) - minip + 1
		}
		v := minip + uint32(uint64(j)*uint64(dist)>>32) // reciprocal_scale
		binary.BigEndian.PutUint32(out[4*i:], v)
		if v != binary.BigEndian.Uint32(high[4*i:]) {
			full = true
		}
		if !r.Persistent {
			if !r.Source {
				// The kernel writes into the tuple that it hashes: here stands the new destination already.
				dst[i] = binary.NativeEndian.Uint32(out[4*i:])
			}
			j ^= dst[i]
		}
	}
	a, _ := netip.AddrFromSlice(out)
	return a
}

// addrWords returns an address as union nf_inet_addr holds it: four words in the machine's order over network-order bytes.
func addrWords(a netip.Addr) (w [4]uint32) {
	b := a.AsSlice()
	for i := 0; i+4 <= len(b); i += 4 {
		w[i/4] = binary.NativeEndian.Uint32(b[i:])
	}
	return w
}

// jhash2 is the kernel's hash over 32-bit words (include/linux/jhash.h, lookup3).
func jhash2(k []uint32, seed uint32) uint32 {
	const initval = 0xdeadbeef
	n := uint32(len(k))
	a := initval + n<<2 + seed
	b, c := a, a
	for len(k) > 3 {
		a, b, c = a+k[0], b+k[1], c+k[2]
		a -= c
		a ^= bits.RotateLeft32(c, 4)
		c += b
		b -= a
		b ^= bits.RotateLeft32(a, 6)
		a += c
		c -= b
		c ^= bits.RotateLeft32(b, 8)
		b += a
		a -= c
		a ^= bits.RotateLeft32(c, 16)
		c += b
		b -= a
		b ^= bits.RotateLeft32(a, 19)
		a += c
		c -= b
		c ^= bits.RotateLeft32(b, 4)
		b += a
		k = k[3:]
	}
	switch len(k) {
	case 3:
		c += k[2]
		fallthrough
	case 2:
		b += k[1]
		fallthrough
	case 1:
		a += k[0]
		c ^= b
		c -= bits.RotateLeft32(b, 14)
		a ^= c
		a -= bits.RotateLeft32(c, 11)
		b ^= a
		b -= bits.RotateLeft32(a, 25)
		c ^= b
		c -= bits.RotateLeft32(b, 16)
		a ^= c
		a -= bits.RotateLeft32(c, 4)
		b ^= a
		b -= bits.RotateLeft32(a, 14)
		c ^= b
		c -= bits.RotateLeft32(b, 24)
	}
	return c
}
