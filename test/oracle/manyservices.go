//go:build linux

package oracle

import (
	"fmt"
	"net/netip"
	"slices"
)

// manyServices are some services, in order, at random places among many others: KUBE-SERVICES has a rule or more for each.
// Most of the others have addresses of their own, and some another port of the same address. In some clusters none of
// them has endpoints, so that the chain that refuses is the long one.
func manyServices(d dice, p *pool, services []service) []service {
	used := map[string]bool{}
	key := func(proto string, a netip.Addr, port uint16) string { return fmt.Sprint(proto, a, port) }
	for _, s := range services {
		for _, a := range append(append([]netip.Addr{s.clusterIP}, s.external...), s.loadBalancers...) {
			used[key(s.proto, a, s.port)] = true
		}
	}
	none := d.one(4)
	var out []service
	for i := range 70 + d.IntN(pick(d, 30, 100, 200)) {
		s := service{name: fmt.Sprintf("many/svc%d", i), proto: pick(d, "tcp", "tcp", "tcp", "udp"), clusterIP: p.spare(d.IntN(1 << 16)), port: pick[uint16](d, 53, 80, 443, 8080)}
		if d.one(16) {
			s.clusterIP = pick(d, p.cluster...)
		}
		if k := key(s.proto, s.clusterIP, s.port); used[k] {
			continue
		} else {
			used[k] = true
		}
		if a := pick(d, slices.Concat(p.external, p.loadBalancers)...); d.one(30) && !used[key(s.proto, a, s.port)] {
			used[key(s.proto, a, s.port)] = true
			s.external = append(s.external, a)
		}
		if !none && !d.one(10) {
			s.endpoints = []endpoint{{addr: pick(d, p.remote...), port: pick[uint16](d, 80, 8080)}}
		}
		out = append(out, s)
	}
	places := make([]int, len(services))
	for i := range places {
		places[i] = d.IntN(len(out) + 1)
	}
	slices.Sort(places)
	for i, s := range slices.Backward(services) {
		out = slices.Insert(out, places[i], s)
	}
	return out
}

// spare is an address of a Service that has no packets.
func (p *pool) spare(n int) netip.Addr {
	b := netip.MustParseAddr(map[bool]string{true: "10.97.0.0", false: "fd00:10:97::"}[p.v4]).AsSlice()
	b[len(b)-2], b[len(b)-1] = byte(n>>8), byte(n)
	a, _ := netip.AddrFromSlice(b)
	return a
}
