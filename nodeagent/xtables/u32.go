package xtables

import (
	"fmt"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Layout of struct xt_u32 (include/uapi/linux/netfilter/xt_u32.h) and of its tests.
const (
	u32Max      = 10
	u32Location = 8                          // sizeof(struct xt_u32_location_element)
	u32Values   = u32Location * (u32Max + 1) // offset of the values in a test
	u32Nnums    = u32Values + 8*(u32Max+1)   // offset of nnums
	u32Test     = u32Nnums + 4               // sizeof(struct xt_u32_test)
	u32Ntests   = u32Test * (u32Max + 1)     // offset of ntests in struct xt_u32
	u32InfoSize = u32Ntests + 2              // up to invert
	u32And      = 0
	u32Left     = 1
	u32Right    = 2
	u32At       = 3
)

// matchU32 is u32_match_it over what is known of the packet.
func matchU32(c *call) (bool, error) {
	answer := yes
	for i := range min(int(c.info[u32Ntests]), u32Max+1) {
		answer = both(answer, c.u32Test(c.info[u32Test*i:u32Test*(i+1)]))
	}
	return c.decide(answer, "u32 "+u32Text(c.info)) != (c.info[u32Ntests+1] != 0), nil
}

// described is the number of bytes from the network header on that a packet of its protocol has at least.
func described(p *skb.Packet) int {
	n := p.TransportOffset()
	switch p.Proto() {
	case skb.TCP:
		n += 20
	case skb.UDP, skb.UDPLite, skb.ICMP, skb.ICMPv6:
		n += 8
	case skb.SCTP, skb.DCCP:
		n += 12
	}
	return n
}

// loaded tells whether n bytes at off lie inside the packet.
func (c *call) loaded(off, n uint64) tri {
	if off+n <= uint64(described(c.p)) {
		return yes
	}
	if l := c.length(); l.certain() {
		return triOf(off+n <= l.value&l.width)
	}
	if off+n > 0xffff+40 {
		return no
	}
	return maybe
}

func (c *call) u32Test(t []byte) tri {
	load := func(pos uint64) (v, k uint32, in tri) {
		if in = c.loaded(pos, 4); in != yes {
			return 0, 0, in
		}
		n := numberOf(c.network(int(pos), 4))
		return uint32(n.value), uint32(n.known), yes
	}
	at := uint64(0)
	v, k, in := load(uint64(u32(t, 0)))
	if in != yes {
		return in
	}
	for i := 1; i < min(int(t[u32Nnums]), u32Max+1); i++ {
		number := u32(t, u32Location*i)
		switch t[u32Location*i+4] {
		case u32And:
			v, k = v&number, k|^number
		case u32Left:
			v, k = v<<number, k<<number|(1<<number-1)
		case u32Right:
			v, k = v>>number, k>>number|^(^uint32(0)>>number)
		case u32At:
			if k != ^uint32(0) {
				return maybe
			}
			if at += uint64(v); at > 1<<32-1 {
				return no
			}
			if v, k, in = load(at + uint64(number)); in != yes {
				return in
			}
		}
	}
	n := number{value: uint64(v), known: uint64(k), width: 1<<32 - 1}
	answer := no
	for i := range min(int(t[u32Nnums+1]), u32Max+1) {
		answer = either(answer, n.within(uint64(u32(t, u32Values+8*i)), uint64(u32(t, u32Values+8*i+4))))
	}
	return answer
}

func u32Text(info []byte) string {
	var tests []string
	for i := range min(int(info[u32Ntests]), u32Max+1) {
		t := info[u32Test*i : u32Test*(i+1)]
		s := fmt.Sprintf("0x%x", u32(t, 0))
		for j := 1; j < min(int(t[u32Nnums]), u32Max+1); j++ {
			op := ""
			if code := t[u32Location*j+4]; code <= u32At {
				op = []string{"&", "<<", ">>", "@"}[code]
			}
			s += fmt.Sprintf("%s0x%x", op, u32(t, u32Location*j))
		}
		var values []string
		for j := range min(int(t[u32Nnums+1]), u32Max+1) {
			low, high := u32(t, u32Values+8*j), u32(t, u32Values+8*j+4)
			if low == high {
				values = append(values, fmt.Sprintf("0x%x", low))
			} else {
				values = append(values, fmt.Sprintf("0x%x:0x%x", low, high))
			}
		}
		tests = append(tests, s+"="+strings.Join(values, ","))
	}
	return strings.Join(tests, "&&")
}

func textU32(w *writer, info []byte) {
	w.inv(info[u32Ntests+1] != 0, "--u32", `"`+u32Text(info)+`"`)
}
