//go:build linux

package oracle

import (
	"fmt"
	"net/netip"
)

// kubeCase is a node with kube-proxy's rules in one of its forms, and packets for its Services.
func kubeCase(seed, n uint64) *Case {
	d := newDice(seed, n)
	p, tool := &pool4, "iptables"
	if d.one(3) {
		p, tool = &pool6, "ip6tables"
	}
	cfg := randomConfig(d)
	services := randomServices(d, p, 3+d.IntN(5))
	c := &Case{Decided: true}
	form := d.IntN(3)
	switch form {
	case 0:
		c.Steps = append(c.Steps, Step{tool + "-legacy", kubeIPTables(p, cfg, services)})
	case 1:
		all := services
		if d := newDice(seed^longSeed, n); d.one(2) {
			all = manyServices(d, p, services)
		}
		c.Steps = append(c.Steps, Step{tool + "-nft", kubeIPTables(p, cfg, all)})
	case 2:
		c.Steps = append(c.Steps, Step{"nft", kubeNFT(p, cfg, services)})
	}
	if p.v4 && cfg.localhostNodePorts {
		c.Steps = append([]Step{{"sysctl", "net/ipv4/conf/all/route_localnet=1\n"}}, c.Steps...)
	}
	c.Name = fmt.Sprintf("kube seed %d number %d: %s form %d", seed, n, tool, form)
	c.Shots = kubeShots(d, p, services)
	return c
}

// kubeShots sends packets to every address of every service, and near misses.
func kubeShots(d dice, p *pool, services []service) []Shot {
	var ports sourcePorts
	var shots []Shot
	add := func(s *service, dst netip.AddrPort, tries int) {
		from, src := p.origin(d, dst.Addr())
		then := pick(d, 0, 0, 1, 2)
		for range tries {
			shots = append(shots, Shot{From: from, Proto: protoNumber(s.proto), Src: netip.AddrPortFrom(src, ports.take()), Dst: dst, Then: then})
		}
	}
	heavy := d.one(8)
	for i := range services {
		s := &services[i]
		tries := 2
		if d.one(3) && len(s.endpoints) > 1 {
			tries = 12
		}
		if heavy && len(s.endpoints) > 1 {
			// Enough for an outcome of probability 1/8 to be missed less than once in 10^10.
			tries, heavy = 180, false
		}
		add(s, netip.AddrPortFrom(s.clusterIP, s.port), tries)
		add(s, netip.AddrPortFrom(s.clusterIP, s.port), 2)
		if s.nodePort != 0 {
			add(s, netip.AddrPortFrom(pick(d, p.nodes...), s.nodePort), 2)
			add(s, netip.AddrPortFrom(pick(d, p.nodes...), s.nodePort), 2)
		}
		for _, a := range s.external {
			add(s, netip.AddrPortFrom(a, s.port), 2)
		}
		for _, a := range s.loadBalancers {
			add(s, netip.AddrPortFrom(a, s.port), 2)
			add(s, netip.AddrPortFrom(a, s.port), 2)
		}
		for _, e := range s.endpoints {
			if d.one(4) {
				add(s, netip.AddrPortFrom(e.addr, e.port), 1)
			}
		}
		if d.one(3) {
			add(s, netip.AddrPortFrom(s.clusterIP, s.port+1), 1)
		}
	}
	return shots
}

func protoNumber(name string) uint8 {
	for n, s := range protoNames {
		if s == name {
			return n
		}
	}
	return 0
}
