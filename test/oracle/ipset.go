//go:build linux

package oracle

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// ipSet is a set that iptables rules can name.
type ipSet struct {
	name, kind string
	// dims is how many of src and dst a rule gives for it.
	dims    int
	v4      bool
	members []string
}

// randomSets makes sets of the kinds that Kubernetes' software uses.
func randomSets(d dice, p *pool) []ipSet {
	addresses := slices.Concat(p.pods, p.remote, p.nodes, p.clients["ext"], p.clients["eth1"], p.outside)
	network := func() string {
		a := pick(d, addresses...)
		return netip.PrefixFrom(a, pick(d, a.BitLen(), a.BitLen()-4, a.BitLen()-8)).Masked().String()
	}
	port := func() string {
		return pick(d, "tcp:80", "udp:53", "tcp:443", "udp:80", "sctp:80", "tcp:8080", "udp:8080", "tcp:30080")
	}
	kinds := []struct {
		kind string
		dims int
		make func() string
	}{
		{"hash:ip", 1, func() string { return pick(d, addresses...).String() }},
		{"hash:net", 1, func() string { return network() + pick(d, "", "", " nomatch") }},
		{"hash:ip,port", 2, func() string { return pick(d, addresses...).String() + "," + port() }},
		{"hash:net,port", 2, func() string { return network() + "," + port() }},
		{"hash:ip,port,ip", 3, func() string { return fmt.Sprintf("%s,%s,%s", pick(d, addresses...), port(), pick(d, addresses...)) }},
		{"hash:ip,port,net", 3, func() string { return fmt.Sprintf("%s,%s,%s", pick(d, addresses...), port(), network()) }},
		{"bitmap:port", 1, func() string { return pick(d, "80", "443", "8080", "20000-20010") }},
	}
	var out []ipSet
	for i := range 2 + d.IntN(3) {
		k := pick(d, kinds...)
		s := ipSet{name: fmt.Sprintf("set%d", i), kind: k.kind, dims: k.dims, v4: p.v4}
		for range 1 + d.IntN(6) {
			m := k.make()
			bare := strings.TrimSuffix(m, " nomatch")
			if !slices.ContainsFunc(s.members, func(x string) bool { return strings.TrimSuffix(x, " nomatch") == bare }) {
				s.members = append(s.members, m)
			}
		}
		out = append(out, s)
	}
	return out
}

// formatSets is the input of ipset restore.
func formatSets(sets []ipSet) string {
	var b strings.Builder
	for _, s := range sets {
		switch {
		case s.kind == "bitmap:port":
			fmt.Fprintf(&b, "create %s bitmap:port range 0-65535\n", s.name)
		case s.v4:
			fmt.Fprintf(&b, "create %s %s family inet\n", s.name, s.kind)
		default:
			fmt.Fprintf(&b, "create %s %s family inet6\n", s.name, s.kind)
		}
		for _, m := range s.members {
			fmt.Fprintf(&b, "add -exist %s %s\n", s.name, m)
		}
	}
	return b.String()
}

// setUse is a set with directions, "!!" when there is none.
func (g *xtGenerator) setUse() string {
	if len(g.sets) == 0 {
		return "!!"
	}
	s := pick(g.d, g.sets...)
	dirs := make([]string, s.dims)
	for i := range dirs {
		dirs[i] = pick(g.d, "src", "dst", "dst")
	}
	return s.name + " " + strings.Join(dirs, ",")
}
