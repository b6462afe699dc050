package nftables

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// The register file: word 0 to 3 are the verdict, words 4 to 19 data (include/net/netfilter/nf_tables.h, struct nft_regs).
const (
	regWords   = 20
	regBytes   = regWords * 4
	regVerdict = 0
)

// register is an index of a 32-bit word in the register file.
type register uint8

// parseRegister turns a number of enum nft_registers into a word (nft_parse_register): NFT_REG_VERDICT and NFT_REG_1 to 4
// name 16 bytes each, NFT_REG32_00 to 15 name 4 bytes each.
func parseRegister(n uint32) (register, error) {
	switch {
	case n <= 4:
		return register(n * 4), nil
	case n >= 8 && n <= 23:
		return register(n - 8 + 4), nil
	}
	return 0, fmt.Errorf("%w: register %d", ErrMalformed, n)
}

// source says where a register's value came from, so that a comparison that the known bits do not decide can say what it
// was about, and what the packet must hold when it is taken to be true.
type source struct {
	// label is the field in nft's words: "udp sport". typ is its data type, nil when the value is printed as a number.
	label string
	typ   *dataType
	// random tells a uniformly random 32-bit number (meta random).
	random bool
	// base and offset are the place in the packet, when the bytes stand there unchanged.
	inPacket     bool
	base, offset uint16
}

// registers is the register file with a mask of known bits.
type registers struct {
	b, known [regBytes]byte
	from     [regWords]source
}

// value is a run of bytes with a mask of known bits.
type value struct {
	b, known []byte
}

func (r *registers) load(at register, n int) value {
	i := int(at) * 4
	if i >= regBytes || n < 0 {
		return value{}
	}
	j := min(i+n, regBytes)
	return value{bytes.Clone(r.b[i:j]), bytes.Clone(r.known[i:j])}
}

// store writes v at a register. Bytes up to the end of the last 32-bit word become zero: 1-byte and 2-byte stores of the
// kernel clear the word, and so does a payload load.
func (r *registers) store(at register, v value, from source) {
	i := int(at) * 4
	n := min(len(v.b), regBytes-i)
	if n <= 0 {
		return
	}
	copy(r.b[i:], v.b[:n])
	copy(r.known[i:], v.known[:n])
	for j := i + n; j < (i+n+3)&^3; j++ {
		r.b[j], r.known[j] = 0, 0xff
	}
	for w := range (n + 3) / 4 {
		r.from[int(at)+w] = from
		if from.inPacket {
			r.from[int(at)+w].offset = from.offset + uint16(w)*4
		}
	}
}

// forget makes all registers unknown.
func (r *registers) forget(label string) {
	r.known = [regBytes]byte{}
	for i := range r.from {
		r.from[i] = source{label: label}
	}
}

func known(b []byte) value { return value{b, bytes.Repeat([]byte{0xff}, len(b))} }

func unknown(n int) value { return value{make([]byte, n), make([]byte, n)} }

// knownU8 to knownU64 are known numbers: u8 and u16 in the given order's low bytes, as the kernel's nft_reg_store
// functions leave them (the rest of the 32-bit word is zero).
func knownU8(v uint8) value { return known([]byte{v}) }

func knownHost16(v uint16) value { return known(binary.NativeEndian.AppendUint16(nil, v)) }

func knownBE16(v uint16) value { return known(binary.BigEndian.AppendUint16(nil, v)) }

func knownHost32(v uint32) value { return known(binary.NativeEndian.AppendUint32(nil, v)) }

func knownHost64(v uint64) value { return known(binary.NativeEndian.AppendUint64(nil, v)) }

// padded returns a string as an interface name is stored: 16 bytes, zero behind.
func padded(s string, n int) value {
	b := make([]byte, n)
	copy(b, s)
	return known(b)
}

func (v value) all() bool {
	for _, k := range v.known {
		if k != 0xff {
			return false
		}
	}
	return true
}

// bounds returns the least and the greatest value that the unknown bits allow, as big-endian numbers.
func (v value) bounds() (low, high []byte) {
	low, high = make([]byte, len(v.b)), make([]byte, len(v.b))
	for i := range v.b {
		low[i] = v.b[i] & v.known[i]
		high[i] = low[i] | ^v.known[i]
	}
	return low, high
}

// truth is the answer to a comparison.
type truth uint8

const (
	no truth = iota
	yes
	maybe
)

func (t truth) not() truth {
	switch t {
	case yes:
		return no
	case no:
		return yes
	}
	return maybe
}

// equals compares v with known bytes.
func (v value) equals(b []byte) truth {
	t := yes
	for i := range b {
		if i >= len(v.b) {
			return maybe
		}
		if (v.b[i]^b[i])&v.known[i] != 0 {
			return no
		}
		if v.known[i] != 0xff {
			t = maybe
		}
	}
	return t
}

// less tells whether v < b, as memcmp does.
func (v value) less(b []byte) truth {
	low, high := v.bounds()
	switch {
	case bytes.Compare(high, b) < 0:
		return yes
	case bytes.Compare(low, b) >= 0:
		return no
	}
	return maybe
}

// lessEqual tells whether v <= b.
func (v value) lessEqual(b []byte) truth {
	low, high := v.bounds()
	switch {
	case bytes.Compare(high, b) <= 0:
		return yes
	case bytes.Compare(low, b) > 0:
		return no
	}
	return maybe
}

// within tells whether from <= v <= to.
func (v value) within(from, to []byte) truth {
	low, high := v.bounds()
	switch {
	case bytes.Compare(low, from) >= 0 && bytes.Compare(high, to) <= 0:
		return yes
	case bytes.Compare(high, from) < 0 || bytes.Compare(low, to) > 0:
		return no
	}
	return maybe
}

// refine writes bytes that a fork took to be true back to the packet, so that later rules see them. Only bits that were
// unknown change.
func refine(p *skb.Packet, from source, b []byte) {
	if !from.inPacket {
		return
	}
	var v, k []byte
	var ok bool
	switch from.base {
	case baseNetwork:
		v, k, ok = p.Network(int(from.offset), len(b))
	case baseTransport:
		v, k, ok = p.Transport(int(from.offset), len(b))
	}
	if !ok {
		return
	}
	for i := range b {
		if (v[i]^b[i])&k[i] != 0 {
			return
		}
	}
	if from.base == baseNetwork {
		p.SetNetwork(int(from.offset), b)
	} else {
		p.SetTransport(int(from.offset), b)
	}
}
