package xtables

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// hashMatches and hashTargets choose by a hash of the flow, which can be computed: xt_cluster.c, xt_HMARK.c.
var hashMatches = []module{
	{name: "cluster", modelled: Yes, effect: inert, tracks: true, note: "a flow that a helper expected: depends", revisions: []revision{{size: 16, match: matchCluster, text: textCluster}}},
}

var hashTargets = []module{
	{name: "HMARK", modelled: Yes, note: "ports that are not known: depends", revisions: []revision{{size: 60, target: targetHMARK, text: textHMARK}}},
}

const jhashInitial = 0xdeadbeef // JHASH_INITVAL

func jhashFinal(a, b, c uint32) uint32 {
	c = (c ^ b) - bits.RotateLeft32(b, 14)
	a = (a ^ c) - bits.RotateLeft32(c, 11)
	b = (b ^ a) - bits.RotateLeft32(a, 25)
	c = (c ^ b) - bits.RotateLeft32(b, 16)
	a = (a ^ c) - bits.RotateLeft32(c, 4)
	b = (b ^ a) - bits.RotateLeft32(a, 14)
	return (c ^ b) - bits.RotateLeft32(b, 24)
}

// jhashWords is jhash_1word and jhash_3words (include/linux/jhash.h, Bob Jenkins' lookup3): n words, the missing ones zero.
func jhashWords(n uint32, a, b, c, initial uint32) uint32 {
	initial += jhashInitial + n<<2
	return jhashFinal(a+initial, b+initial, c+initial)
}

// scale is reciprocal_scale: it maps a hash onto [0, n).
func scale(hash, n uint32) uint32 { return uint32(uint64(hash) * uint64(n) >> 32) }

// matchCluster is xt_cluster_mt: it hashes the original source address, in the byte order of the machine.
func matchCluster(c *call) (bool, error) {
	nodes, mask, seed, invert := u32(c.info, 0), u32(c.info, 4), u32(c.info, 8), u32(c.info, 12)&1 != 0
	if !c.p.Dst().IsMulticast() && c.p.PktType == skb.PacketMulticast {
		c.p.PktType = skb.PacketHost
	}
	ct := c.p.Ct
	if ct == nil {
		return false, nil
	}
	if ct.Status&skb.StatusExpected != 0 {
		return c.depends("the flow that expected this one hashes to nodes %#x", mask) != invert, nil
	}
	// Of an IPv6 address the kernel hashes only the first word: it divides the number of words by their size.
	node := scale(jhashWords(1, u32(ct.Orig.Src.Addr().Unmap().AsSlice(), 0), 0, 0, seed), nodes)
	c.explain("%s belongs to cluster node %d of %d", ct.Orig.Src.Addr(), node+1, nodes)
	return (mask&(1<<node) != 0) != invert, nil
}

func textCluster(w *writer, info []byte) {
	w.inv(u32(info, 12)&1 != 0, "--cluster-local-nodemask", fmt.Sprintf("0x%08x", u32(info, 4)))
	w.word("--cluster-total-nodes", fmt.Sprint(u32(info, 0)), "--cluster-hash-seed", fmt.Sprintf("0x%08x", u32(info, 8)))
}

// Bits of the flags in struct xt_hmark_info (XT_HMARK_…), and where its fields lie.
const (
	hmarkSrcMask, hmarkDstMask                         = 0, 1
	hmarkSPI, hmarkSPIMask, hmarkSport, hmarkDport     = 2, 3, 4, 5
	hmarkSportMask, hmarkDportMask, hmarkProtoMask     = 6, 7, 8
	hmarkRnd, hmarkModulus, hmarkOffset, hmarkCT       = 9, 10, 11, 12
	hmarkL3                                            = 13
	hmarkPortMaskAt, hmarkPortSetAt                    = 32, 36
	hmarkFlagsAt, hmarkProtoAt, hmarkRndAt, hmarkModAt = 40, 44, 48, 52
	hmarkOffsetAt                                      = 56
)

// hmarkFewMarks is the number of marks that are told apart when a hash cannot be computed.
const hmarkFewMarks = 16

// targetHMARK is hmark_tg_v4 and hmark_tg_v6.
func targetHMARK(c *call) (rule.Result, error) {
	flags, modulus, offset := u32(c.info, hmarkFlagsAt), u32(c.info, hmarkModAt), u32(c.info, hmarkOffsetAt)
	hash, t := c.hmarkHash(flags)
	var n uint32
	switch {
	case t == no:
		return rule.Result{}, nil
	case t == yes:
		n = scale(hash, modulus)
	case modulus <= hmarkFewMarks:
		var options []rule.Option
		for i := range modulus {
			options = append(options, rule.Option{Condition: fmt.Sprintf("the packet hashes to mark %#x", i+offset)})
		}
		n = uint32(c.ch.Choose(options...))
	default:
		return unknownTarget(c, "HMARK of a packet whose ports are not known"), nil
	}
	before := c.p.Mark
	c.p.Mark = n + offset
	return rule.Result{Action: markAction("mark", before, c.p.Mark)}, nil
}

// hmarkHash computes the hash; no means that the kernel finds nothing to hash, maybe that a port is not known.
func (c *call) hmarkHash(flags uint32) (uint32, tri) {
	src, dst := c.p.Src().AsSlice(), c.p.Dst().AsSlice()
	proto := c.p.Proto()
	ports := c.p.TransportOffset()
	value, known, _ := c.p.Network(ports, 4)
	if flags&(1<<hmarkCT) != 0 {
		ct := c.p.Ct
		if ct == nil {
			return 0, no
		}
		src, dst = ct.Orig.Src.Addr().Unmap().AsSlice(), ct.Reply.Src.Addr().Unmap().AsSlice()
		proto = ct.Orig.Proto
		value = binary.BigEndian.AppendUint16(nil, ct.Orig.Src.Port())
		value = binary.BigEndian.AppendUint16(value, ct.Reply.Src.Port())
		known = []byte{255, 255, 255, 255}
		if !tuplePort(proto, ct.Orig.Src).certain() {
			known[0], known[1] = 0, 0
		}
		if !tuplePort(proto, ct.Reply.Src).certain() {
			known[2], known[3] = 0, 0
		}
	} else if typ, _, ok := c.p.ICMPType(); ok && icmpError(c.family, typ) {
		return 0, maybe // the packet inside counts
	}
	a, b := fold(src, c.info[0:16]), fold(dst, c.info[16:32])
	if b < a {
		a, b = b, a
	}
	var v uint32
	protoHash := uint32(0)
	if flags&(1<<hmarkL3) == 0 {
		protoHash = uint32(proto)
		if hmarkHasPorts(proto, flags&(1<<hmarkCT) != 0) {
			mask, set := c.info[hmarkPortMaskAt:hmarkPortMaskAt+4], c.info[hmarkPortSetAt:hmarkPortSetAt+4]
			for i := range value {
				if mask[i]&^known[i]&^set[i] != 0 {
					return 0, maybe
				}
				value[i] = value[i]&mask[i] | set[i]
			}
			s, d := uint32(be16(value, 0)), uint32(be16(value, 2))
			v = max(s, d)<<16 | min(s, d)
		}
	}
	return jhashWords(3, a, b, v, u32(c.info, hmarkRndAt)) ^ protoHash&uint32(u16(c.info, hmarkProtoAt)), yes
}

// hmarkHasPorts is proto_ports_offset: what has ports or an SPI in its first four bytes. With --hmark-tuple ct all but
// ICMP have.
func hmarkHasPorts(proto uint8, ct bool) bool {
	switch proto {
	case skb.TCP, skb.UDP, skb.DCCP, skb.ESP, skb.SCTP, skb.UDPLite:
		return true
	}
	return ct && proto != skb.ICMP
}

// fold masks an address and adds its words without carry.
func fold(a, mask []byte) uint32 {
	var v uint32
	for i := 0; i+4 <= len(a); i += 4 {
		v ^= binary.BigEndian.Uint32(a[i:]) & binary.BigEndian.Uint32(mask[i:])
	}
	return v
}

func textHMARK(w *writer, info []byte) {
	flags := u32(info, hmarkFlagsAt)
	on := func(bit int) bool { return flags&(1<<bit) != 0 }
	prefix := func(off int) string {
		n, _ := prefixLength(w.addrBytes(info[off : off+16]))
		return fmt.Sprint(n)
	}
	w.flag(on(hmarkSrcMask), "--hmark-src-prefix", prefix(0))
	w.flag(on(hmarkDstMask), "--hmark-dst-prefix", prefix(16))
	w.flag(on(hmarkSportMask), "--hmark-sport-mask", fmt.Sprintf("0x%04x", be16(info, hmarkPortMaskAt)))
	w.flag(on(hmarkDportMask), "--hmark-dport-mask", fmt.Sprintf("0x%04x", be16(info, hmarkPortMaskAt+2)))
	w.flag(on(hmarkSPIMask), "--hmark-spi-mask", fmt.Sprintf("0x%08x", binary.BigEndian.Uint32(info[hmarkPortMaskAt:])))
	w.flag(on(hmarkSport), "--hmark-sport", fmt.Sprintf("0x%04x", be16(info, hmarkPortSetAt)))
	w.flag(on(hmarkDport), "--hmark-dport", fmt.Sprintf("0x%04x", be16(info, hmarkPortSetAt+2)))
	w.flag(on(hmarkSPI), "--hmark-spi", fmt.Sprintf("0x%08x", binary.BigEndian.Uint32(info[hmarkPortSetAt:])))
	w.flag(on(hmarkProtoMask), "--hmark-proto-mask", fmt.Sprintf("0x%02x", u16(info, hmarkProtoAt)))
	w.flag(on(hmarkRnd), "--hmark-rnd", fmt.Sprintf("0x%08x", u32(info, hmarkRndAt)))
	w.flag(on(hmarkModulus), "--hmark-mod", fmt.Sprint(u32(info, hmarkModAt)))
	w.flag(on(hmarkOffset), "--hmark-offset", fmt.Sprint(u32(info, hmarkOffsetAt)))
	w.flag(on(hmarkCT), "--hmark-tuple", "ct")
}
