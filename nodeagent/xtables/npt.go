package xtables

import (
	"encoding/binary"
	"net/netip"
	"strconv"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
)

// targetNPT is ip6t_snpt_tg and ip6t_dnpt_tg (net/ipv6/netfilter/ip6t_NPT.c, RFC 6296): a prefix is replaced, and one
// 16-bit word adjusted so that checksums stay right. Connections are not involved.
func targetNPT(source bool) func(*call) (rule.Result, error) {
	return func(c *call) (rule.Result, error) {
		from, to := c.info[0:16], c.info[16:32]
		fromLen, toLen := min(int(c.info[32]), 128), min(int(c.info[33]), 128)
		a := c.p.Dst().As16()
		if source {
			a = c.p.Src().As16()
		}
		if !mapPrefix(&a, from, to, max(fromLen, toLen)) {
			// The kernel answers with a parameter problem.
			return rule.Result{Code: rule.Drop, Action: "drop: the address cannot be mapped to another prefix"}, nil
		}
		addr := netip.AddrFrom16(a)
		port := c.p.Destination().Port()
		if source {
			port = c.p.Source().Port()
			c.p.SetSource(netip.AddrPortFrom(addr, port))
			return rule.Result{Action: "source prefix translated to " + addr.String()}, nil
		}
		c.p.SetDestination(netip.AddrPortFrom(addr, port))
		return rule.Result{Action: "destination prefix translated to " + addr.String()}, nil
	}
}

// mapPrefix is ip6t_npt_map_pfx.
func mapPrefix(a *[16]byte, from, to []byte, length int) bool {
	var before, after uint32
	for i := 0; i < 16; i += 2 {
		before += uint32(binary.BigEndian.Uint16(prefixWord(from, i, length)))
		after += uint32(binary.BigEndian.Uint16(prefixWord(to, i, length)))
	}
	adjust := foldSum(before + uint32(^uint16(foldSum(after))))
	for i := range a {
		mask := byteMask(length, i)
		a[i] = a[i]&^mask | to[i]&mask
	}
	word := 3
	if length > 48 {
		word = 4
		for ; word < 8; word++ {
			if binary.BigEndian.Uint16(a[2*word:]) != 0xffff {
				break
			}
		}
		if word == 8 {
			return false
		}
	}
	sum := foldSum(uint32(binary.BigEndian.Uint16(a[2*word:])) + uint32(adjust))
	if sum == 0xffff {
		sum = 0
	}
	binary.BigEndian.PutUint16(a[2*word:], sum)
	return true
}

func prefixWord(b []byte, i, length int) []byte {
	return []byte{b[i] & byteMask(length, i), b[i+1] & byteMask(length, i+1)}
}

// byteMask is the part of byte i that a prefix covers.
func byteMask(length, i int) byte {
	n := min(max(length-8*i, 0), 8)
	return ^byte(0xff >> n)
}

// foldSum is csum_fold without the complement.
func foldSum(v uint32) uint16 {
	v = v&0xffff + v>>16
	return uint16(v&0xffff + v>>16)
}

func textNPT(w *writer, info []byte) {
	w.word("--src-pfx", addrText(info[0:16])+"/"+strconv.Itoa(int(info[32])))
	w.word("--dst-pfx", addrText(info[16:32])+"/"+strconv.Itoa(int(info[33])))
}
