//go:build linux

package oracle

import (
	"net/netip"
)

// headerMatches are matches on headers that few packets have, with such packets.
func headerMatches(p *pool) []focusMatch {
	list := []focusMatch{
		{text: "-m esp --espspi 5", proto: "esp"}, {text: "-m esp ! --espspi 6:9", proto: "esp"},
		{text: "-m ipcomp --ipcompspi 5", proto: "ipcomp"},
		{text: "-m dccp --dport 80", proto: "dccp"}, {text: "-m dccp --dccp-types REQUEST", proto: "dccp"},
		{text: "-m rateest --rateest re --rateest-lt --rateest-bps 1000000000", hooks: "FORWARD",
			before: []Step{{tool(p), "*mangle\n-A PREROUTING -j RATEEST --rateest-name re --rateest-interval 1s --rateest-ewma 2s\nCOMMIT\n"}}},
		{text: "-m cgroup ! --cgroup 5", hooks: "OUTPUT", send: fromProcesses},
		{text: "-m nfacct --nfacct-name a", before: []Step{{"nfacct", "a\n"}}},
	}
	if p.v4 {
		return append(list,
			focusMatch{text: "-m ah --ahspi 5", proto: "ah", family: 4}, focusMatch{text: "-m ah ! --ahspi 5:7", proto: "ah", family: 4},
			focusMatch{text: "-f", family: 4, send: cutShots, bare: true}, focusMatch{text: "! -f", family: 4, send: cutShots, bare: true})
	}
	with := withHeaders
	return append(list,
		focusMatch{text: "-m ah --ahspi 5", family: 6, send: with("ah")}, focusMatch{text: "-m ah ! --ahspi 5:7 --ahlen 12", family: 6, send: with("ah")},
		focusMatch{text: "-m ah --ahspi 1:9", family: 6, send: with("dst", "ah")},
		focusMatch{text: "-m hbh --hbh-len 8", family: 6, send: with("hbh")}, focusMatch{text: "-m hbh --hbh-opts 1:4", family: 6, send: with("hbh")},
		focusMatch{text: "-m dst --dst-len 8", family: 6, send: with("dst")}, focusMatch{text: "-m dst --dst-opts 30:12", family: 6, send: with("dst2")},
		focusMatch{text: "-m dst ! --dst-len 16", family: 6, send: with("hbh", "dst")},
		focusMatch{text: "-m rt --rt-type 253", family: 6, send: with("rt")}, focusMatch{text: "-m rt ! --rt-type 0 --rt-segsleft 0:0", family: 6, send: with("rt")},
		focusMatch{text: "-m rt --rt-len 8", family: 6, send: with("rt", "dst")},
		focusMatch{text: "-m srh --srh-next-hdr 17", family: 6, send: with("srh")}, focusMatch{text: "-m srh --srh-segs-left-eq 0 --srh-tag 7", family: 6, send: with("srh")},
		focusMatch{text: "-m srh ! --srh-last-entry-eq 1", family: 6, send: with("srh")},
		focusMatch{text: "-m frag --fragid 0:100", family: 6, send: with("frag")}, focusMatch{text: "-m frag --fragfirst", family: 6, send: cutShots, bare: true},
		focusMatch{text: "-m frag --fraglast", family: 6, send: cutShots, bare: true}, focusMatch{text: "-m frag --fragmore --fragres", family: 6, send: cutShots, bare: true},
		focusMatch{text: "-m ipv6header --header hop --soft", family: 6, send: with("hbh")}, focusMatch{text: "-m ipv6header --header dst,prot", family: 6, send: with("dst")},
		focusMatch{text: "-m ipv6header ! --header route --soft", family: 6, send: with("rt")},
		focusMatch{text: "-m mh --mh-type 5", proto: "mh", family: 6}, focusMatch{text: "-m mh ! --mh-type 1:4", proto: "mh", family: 6},
		focusMatch{text: "-m eui64", hooks: "PREROUTING FORWARD INPUT", family: 6, send: eui64Shots},
	)
}

// tool is the one that loads rules for a family.
func tool(p *pool) string {
	if p.v4 {
		return "iptables-legacy"
	}
	return "ip6tables-legacy"
}

// headerShots are packets with extension headers, from beyond the node to pods.
func headerShots(d dice, p *pool, headers []string) []Shot {
	var ports sourcePorts
	ports.next = 41000
	var shots []Shot
	for range 6 {
		dst := pick(d, append(p.pods, p.remote...)...)
		from := pick(d, "ext", "eth1", "p1", "p2")
		s := Shot{From: from, Proto: pick[uint8](d, protoTCP, protoUDP, protoUDP, protoSCTP, protoICMPv6), Exact: true, Src: netip.AddrPortFrom(pick(d, p.clients[from]...), ports.take()), Dst: netip.AddrPortFrom(dst, pick[uint16](d, 80, 53))}
		if s.Proto == protoICMPv6 {
			s.Src, s.Dst = netip.AddrPortFrom(s.Src.Addr(), 0), netip.AddrPortFrom(dst, 0)
		}
		s.headers = headers
		shots = append(shots, s)
	}
	return shots
}

func withHeaders(headers ...string) func(dice, *pool) []Shot {
	return func(d dice, p *pool) []Shot { return headerShots(d, p, headers) }
}

// withOptions are packets with IPv4 options.
func withOptions(options ...string) func(dice, *pool) []Shot {
	return func(d dice, p *pool) []Shot {
		shots := headerShots(d, p, options)
		for i, s := range shots {
			if s.Proto == protoICMPv6 {
				shots[i].Proto = protoICMP
			}
		}
		return shots
	}
}

// optionShots are segments with TCP options.
func optionShots(d dice, p *pool) []Shot {
	var shots []Shot
	for _, s := range headerShots(d, p, nil) {
		if s.Proto == protoTCP || s.Proto == protoUDP {
			s.Proto, s.mss, s.Then = protoTCP, pick[uint16](d, 1460, 1460, 1300), pick(d, 0, 2)
			shots = append(shots, s)
		}
	}
	return shots
}

// cutShots are packets in two fragments.
func cutShots(d dice, p *pool) []Shot {
	var ports sourcePorts
	ports.next = 42000
	var shots []Shot
	for range 4 {
		dst := pick(d, append(append(p.pods, p.remote...), p.nodes[:2]...)...)
		from, src := p.origin(d, dst)
		s := Shot{From: from, Proto: pick[uint8](d, protoTCP, protoUDP, protoUDP, protoICMP), Exact: true, Src: netip.AddrPortFrom(src, ports.take()), Dst: netip.AddrPortFrom(dst, pick[uint16](d, 80, 53))}
		if s.Proto == protoICMP {
			if !p.v4 {
				s.Proto = protoICMPv6
			}
			s.Src, s.Dst = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0)
		}
		s.cut = true
		shots = append(shots, s)
	}
	return shots
}

// fromProcesses are packets of the node's own processes.
func fromProcesses(d dice, p *pool) []Shot {
	var ports sourcePorts
	ports.next = 43000
	var shots []Shot
	for range 6 {
		shots = append(shots, Shot{From: "local", Proto: pick[uint8](d, protoTCP, protoUDP), Src: netip.AddrPortFrom(p.nodes[d.IntN(3)], ports.take()), Dst: netip.AddrPortFrom(pick(d, append(p.pods, p.remote...)...), 80)})
	}
	return shots
}

// eui64Shots are packets from an address made of the sender's hardware address, and others.
func eui64Shots(d dice, p *pool) []Shot {
	var ports sourcePorts
	ports.next = 44000
	own := netip.MustParseAddr("2001:db8:1::ff:fe00:100") // of 02:00:00:00:01:01, with the last byte set below
	b := own.As16()
	m := mac(0, true)
	copy(b[8:], []byte{m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
	var shots []Shot
	for range 12 {
		shots = append(shots, Shot{From: "ext", Proto: protoUDP, Src: netip.AddrPortFrom(pick(d, netip.AddrFrom16(b), p.clients["ext"][0]), ports.take()), Dst: netip.AddrPortFrom(pick(d, p.pods...), 53)})
	}
	return shots
}

// listeners are sockets of the node, one of them transparent.
var listeners = []Step{{"listen", "tcp 8080\nudp 8080\ntcp 15001 transparent\nudp 15001 transparent\n"}}

// toListeners are packets for the node's sockets and beside them.
func toListeners(d dice, p *pool) []Shot {
	var ports sourcePorts
	ports.next = 45000
	var shots []Shot
	for range 8 {
		from := pick(d, "ext", "eth1", "p1", "local")
		s := Shot{From: from, Proto: pick[uint8](d, protoTCP, protoUDP), Dst: netip.AddrPortFrom(p.nodes[d.IntN(2)], pick[uint16](d, 8080, 8080, 15001, 80))}
		src := p.nodes[2]
		if from != "local" {
			src = pick(d, p.clients[from]...)
		}
		s.Src = netip.AddrPortFrom(src, ports.take())
		shots = append(shots, s)
	}
	return shots
}
