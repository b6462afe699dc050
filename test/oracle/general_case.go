//go:build linux

package oracle

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// generalShots sends packets of every protocol from everywhere to everywhere.
func generalShots(d dice, p *pool, n int) []Shot {
	var ports sourcePorts
	var shots []Shot
	destinations := slices.Concat(p.pods, p.pods, p.remote, p.nodes, p.nodes[:2], p.outside, p.cluster[:2])
	for range n {
		dst := pick(d, destinations...)
		from, src := p.origin(d, dst)
		s := Shot{From: from, Proto: pick[uint8](d, protoTCP, protoTCP, protoTCP, protoUDP, protoUDP, protoUDP, protoSCTP, protoICMP)}
		if s.Proto == protoICMP {
			if !p.v4 {
				s.Proto = protoICMPv6
			}
			s.Src, s.Dst = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0)
			s.vary(d, p)
			shots = append(shots, s)
			continue
		}
		s.Src, s.Dst = netip.AddrPortFrom(src, ports.take()), netip.AddrPortFrom(dst, pick[uint16](d, 80, 80, 443, 53, 8080, 30080))
		s.Then = pick(d, 0, 0, 1, 2)
		s.vary(d, p)
		for range pick(d, 1, 1, 1, 1, 4) {
			s.Src = netip.AddrPortFrom(src, ports.take())
			shots = append(shots, s)
		}
	}
	return shots
}

// vary gives the packet in full now and then, with what makes packets differ.
func (s *Shot) vary(d dice, p *pool) {
	if !d.one(3) {
		return
	}
	s.Exact = true
	s.Then = pick(d, 0, 0, 1, 2)
	if d.one(6) {
		s.tos = pick[byte](d, 0x10, 0x20, 2, 0xb8)
	}
	if d.one(12) {
		s.ttl = pick[byte](d, 1, 2, 10, 255)
	}
	if d.one(5) && s.Proto != protoSCTP {
		s.cut, s.Then = true, 0
		return
	}
	if d.one(4) && !p.v4 && s.From != "local" {
		s.headers = pick(d, []string{"hbh"}, []string{"dst"}, []string{"hbh", "dst"}, []string{"frag"}, []string{"rt"}, []string{"dst2", "rt"}, []string{"dst", "frag"})
	}
	if d.one(8) && p.v4 && s.From != "local" {
		s.headers = pick(d, []string{"nop"}, []string{"ra"})
	}
	if s.Proto != protoTCP {
		return
	}
	switch d.IntN(4) {
	case 0:
		s.Then = pick(d, 3, 4, 5, 6)
	case 1:
		s.flags = pick[byte](d, tcpACK, tcpFIN|tcpACK, tcpRST|tcpACK, tcpSYN|tcpACK, tcpSYN|tcpFIN, 0x40|tcpSYN)
		s.Then = 0
	case 2:
		s.mss = pick[uint16](d, 1460, 1300, 536)
	}
}

// randomNode changes the node's routes, policy rules, addresses and sysctls now and then.
func randomNode(d dice, p *pool) []Step {
	var steps []Step
	var ip, sysctl []string
	a, b := p.remote[0], p.outside[0]
	via1, via2, tool := "192.0.2.3", "198.51.100.3", "ip"
	if !p.v4 {
		via1, via2, tool = "2001:db8:1::3", "2001:db8:2::3", "ip6"
	}
	for range d.IntN(4) {
		ip = append(ip, pick(d,
			fmt.Sprintf("route add table 100 default via %s dev eth1", via2),
			"rule add fwmark 0x1 table 100 priority 100",
			fmt.Sprintf("rule add from %s table 100 priority 110", pick(d, p.pods...)),
			fmt.Sprintf("rule add to %s table 100 priority 120", b),
			"rule add iif p2 table 100 priority 130",
			fmt.Sprintf("route add %s/%d via %s dev eth1", b, b.BitLen(), via2),
			fmt.Sprintf("route add %s/%d via %s dev ext", a, a.BitLen(), via1),
			fmt.Sprintf("route add blackhole %s/%d", p.outside[1], b.BitLen()),
			fmt.Sprintf("route add unreachable %s/%d", p.outside[1], b.BitLen()),
			fmt.Sprintf("route add prohibit %s/%d", p.outside[1], b.BitLen()),
			fmt.Sprintf("rule add to %s priority 140 prohibit", p.outside[2]),
			fmt.Sprintf("route add local %s/%d dev lo", p.cluster[0], b.BitLen()),
			"link set dev p1 group 5",
			"link set dev ext group 7",
		))
	}
	slices.Sort(ip)
	ip = slices.Compact(ip)
	// Only one kind of route to a destination.
	seen := map[string]bool{}
	ip = slices.DeleteFunc(ip, func(l string) bool {
		f := strings.Fields(l)
		key := l
		if f[0] == "route" && f[2] != "table" {
			key = "to " + f[2]
			if !strings.ContainsAny(f[2], ".:") {
				key = "to " + f[3]
			}
		}
		was := seen[key]
		seen[key] = true
		return was
	})
	if len(ip) > 0 {
		text := strings.Join(ip, "\n") + "\n"
		steps = append(steps, Step{tool, text})
	}
	if p.v4 {
		for range d.IntN(3) {
			sysctl = append(sysctl, pick(d,
				"net/ipv4/conf/all/rp_filter=1",
				"net/ipv4/conf/ext/rp_filter=1",
				"net/ipv4/conf/p1/rp_filter=2",
				"net/ipv4/conf/all/rp_filter=2",
				"net/ipv4/conf/eth1/forwarding=0",
				"net/ipv4/conf/all/route_localnet=1",
				"net/ipv4/conf/p2/route_localnet=1",
				"net/ipv4/conf/all/src_valid_mark=1",
				"net/ipv4/conf/all/accept_local=1",
			))
		}
	}
	if len(sysctl) > 0 {
		steps = append(steps, Step{"sysctl", strings.Join(sysctl, "\n") + "\n"})
	}
	return steps
}
