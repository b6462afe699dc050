//go:build linux

package oracle

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
)

// pool are the addresses of one family that rules and packets are made of, so that rules often meet packets.
type pool struct {
	v4 bool
	// clients are the sources at each interface's far end.
	clients map[string][]netip.Addr
	// nodes are the node's own addresses, loopback last.
	nodes []netip.Addr
	// pods are the local pods' addresses, p1 first; remote are pods of other nodes.
	pods, remote []netip.Addr
	// outside are addresses beyond the default route.
	outside []netip.Addr
	// cluster, loadBalancers and external are for Services.
	cluster, loadBalancers, external []netip.Addr
	podCIDR, nodeCIDR                netip.Prefix
}

func addrs(s ...string) []netip.Addr {
	out := make([]netip.Addr, len(s))
	for i := range s {
		out[i] = netip.MustParseAddr(s[i])
	}
	return out
}

var pool4 = pool{
	v4: true,
	clients: map[string][]netip.Addr{
		"ext":  addrs("203.0.113.7", "203.0.113.99", "192.0.2.50", "10.244.2.21"),
		"eth1": addrs("198.51.100.50", "198.51.100.60", "10.244.3.9"),
		"p1":   addrs("10.244.1.11"), "p2": addrs("10.244.1.12"), "p3": addrs("10.244.1.13"),
	},
	nodes:   addrs("192.0.2.1", "198.51.100.1", "10.244.1.1", "127.0.0.1"),
	pods:    addrs("10.244.1.11", "10.244.1.12", "10.244.1.13"),
	remote:  addrs("10.244.2.21", "10.244.2.22", "10.244.3.31"),
	outside: addrs("203.0.113.200", "198.18.0.1", "192.0.2.77"),
	cluster: addrs("10.96.0.1", "10.96.0.10", "10.96.0.20", "10.96.12.34", "10.96.200.5"),

	loadBalancers: addrs("198.18.5.1", "198.18.5.2"),
	external:      addrs("198.18.6.1", "192.0.2.80"),
	podCIDR:       netip.MustParsePrefix("10.244.1.0/24"),
	nodeCIDR:      netip.MustParsePrefix("192.0.2.0/24"),
}

var pool6 = pool{
	clients: map[string][]netip.Addr{
		"ext":  addrs("2001:db8:f::7", "2001:db8:f::99", "2001:db8:1::50", "fd00:10:244:2::21"),
		"eth1": addrs("2001:db8:2::50", "2001:db8:2::60", "fd00:10:244:3::9"),
		"p1":   addrs("fd00:10:244:1::11"), "p2": addrs("fd00:10:244:1::12"), "p3": addrs("fd00:10:244:1::13"),
	},
	nodes:   addrs("2001:db8:1::1", "2001:db8:2::1", "fd00:10:244:1::1", "::1"),
	pods:    addrs("fd00:10:244:1::11", "fd00:10:244:1::12", "fd00:10:244:1::13"),
	remote:  addrs("fd00:10:244:2::21", "fd00:10:244:2::22", "fd00:10:244:3::31"),
	outside: addrs("2001:db8:f::200", "2001:db8:dead::1", "2001:db8:1::77"),
	cluster: addrs("fd00:10:96::1", "fd00:10:96::10", "fd00:10:96::20", "fd00:10:96::1234", "fd00:10:96::2005"),

	loadBalancers: addrs("2001:db8:5::1", "2001:db8:5::2"),
	external:      addrs("2001:db8:6::1", "2001:db8:1::80"),
	podCIDR:       netip.MustParsePrefix("fd00:10:244:1::/64"),
	nodeCIDR:      netip.MustParsePrefix("2001:db8:1::/64"),
}

// dice is a seeded source of choices.
type dice struct{ *rand.Rand }

func newDice(seed, n uint64) dice { return dice{rand.New(rand.NewPCG(seed, n))} }

// one in n.
func (d dice) one(n int) bool { return d.IntN(n) == 0 }

func pick[T any](d dice, from ...T) T { return from[d.IntN(len(from))] }

// weighted returns an index with a probability in proportion to its weight.
func (d dice) weighted(weights ...int) int {
	sum := 0
	for _, w := range weights {
		sum += w
	}
	n := d.IntN(sum)
	for i, w := range weights {
		if n < w {
			return i
		}
		n -= w
	}
	return 0
}

// sourcePorts hands out source ports, each once in a case, so that every packet opens a flow of its own.
type sourcePorts struct{ next uint16 }

func (s *sourcePorts) take() uint16 {
	if s.next < 20000 {
		s.next = 20000
	}
	s.next++
	return s.next
}

// origin chooses where a packet starts, and its source address. Packets for a loopback address start in the node.
func (p *pool) origin(d dice, dst netip.Addr) (from string, src netip.Addr) {
	from = pick(d, "ext", "ext", "eth1", "p1", "p1", "p2", "p3", "local", "local", "local")
	if dst.IsLoopback() && !d.one(20) {
		from = "local"
	}
	if from != "local" {
		return from, pick(d, p.clients[from]...)
	}
	if dst.IsLoopback() {
		return from, p.nodes[3]
	}
	return from, p.nodes[d.IntN(3)]
}

// end writes address and port as iptables and nft do.
func end(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }

func hostPrefix(a netip.Addr) string { return fmt.Sprintf("%s/%d", a, a.BitLen()) }
