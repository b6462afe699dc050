//go:build linux

package oracle

import (
	"fmt"
	"net/netip"
	"strings"
)

// nft sets what rules of nftables are like.
func (l *longChain) nft(ch chain) {
	d := l.d
	ip := map[bool]string{true: "ip", false: "ip6"}[l.p.v4]
	proto := func() string { return pick(d, "tcp", "udp") }
	l.write = func(chain, match, target string) string {
		return strings.Join(strings.Fields(fmt.Sprintf("add rule %s %s %s %s %s", ch.family, ch.table, chain, match, target)), " ")
	}
	saddr := func(op string, a netip.Addr) string { return fmt.Sprintf("%s saddr %s%s", ip, op, a) }
	daddr := func(op string, a netip.Addr) string { return fmt.Sprintf("%s daddr %s%s", ip, op, a) }
	if ch.family == "inet" && !d.one(4) {
		// Otherwise nft puts a comparison of the family in front.
		source, destination := "@nh,96,32", "@nh,128,32"
		if !l.p.v4 {
			source, destination = "@nh,64,128", "@nh,192,128"
		}
		saddr = func(op string, a netip.Addr) string { return fmt.Sprintf("%s %s0x%x", source, op, a.AsSlice()) }
		daddr = func(op string, a netip.Addr) string { return fmt.Sprintf("%s %s0x%x", destination, op, a.AsSlice()) }
	}
	l.forms = []func(src, dst netip.Addr) string{
		func(_, dst netip.Addr) string { return daddr("", dst) },
		func(src, _ netip.Addr) string { return saddr("", src) + " counter" },
		func(_, dst netip.Addr) string {
			return fmt.Sprintf("%s %s dport %s", daddr("", dst), proto(), pick(d, "80", "443", "53"))
		},
		func(src, dst netip.Addr) string { return saddr("", src) + " " + daddr("", dst) },
		func(src, dst netip.Addr) string {
			return saddr(l.not("!= "), src) + " meta l4proto " + proto() + " " + daddr("", dst)
		},
		func(src, dst netip.Addr) string { return saddr("!= ", src) + " " + daddr("", dst) },
		func(src, dst netip.Addr) string {
			return daddr("", dst) + " " + saddr(l.not("!= "), src)
		},
		func(_, dst netip.Addr) string { return daddr("", dst) + " meta l4proto " + l.not("!= ") + proto() },
		func(src, _ netip.Addr) string { return "meta l4proto " + l.not("!= ") + proto() + " " + saddr("", src) },
		func(_, dst netip.Addr) string {
			return daddr("", dst) + " meta mark " + l.not("!= ") + pick(d, "0x0", "0x7", "0x1")
		},
		func(_, dst netip.Addr) string {
			return daddr("", dst) + " th dport " + pick(d, "< 100", "> 443", ">= 53")
		},
		func(src, _ netip.Addr) string {
			if strings.HasPrefix(saddr("", src), "@") {
				return saddr("", src)
			}
			return fmt.Sprintf("%s saddr %s", ip, network(src))
		},
	}
	l.jump = pick(d, "jump ", "jump ", "goto ") + l.aside
	l.targets = []string{"return", "accept", "meta mark set 0x7", "drop", "drop"}
	l.asides = []string{"meta mark set 0x7", "accept", "return", "drop"}
	kind := ip
	if ch.family != "inet" {
		kind = ""
	}
	show := "drop"
	switch {
	case strings.Contains(ch.hook, "type nat hook prerouting"), strings.Contains(ch.hook, "type nat hook output"):
		to := fmt.Sprintf("dnat %s to %s", kind, pick(d, l.p.pods...))
		l.targets, l.asides = append(l.targets, to), append(l.asides, to, to)
		show = fmt.Sprintf("dnat %s to %s", kind, pick(d, l.p.remote...))
	case strings.Contains(ch.hook, "type nat hook postrouting"):
		l.targets, l.asides = append(l.targets, "masquerade"), append(l.asides, "masquerade")
		show = fmt.Sprintf("snat %s to %s", kind, l.p.nodes[1])
	}
	l.shows = []string{l.write(ch.name, "meta mark 0x7", show)}
}
