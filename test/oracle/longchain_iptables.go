//go:build linux

package oracle

import (
	"fmt"
	"net/netip"
	"strings"
)

// iptables sets what rules of iptables are like.
func (l *longChain) iptables(ch chain) {
	d := l.d
	proto := func() string { return pick(d, "tcp", "udp") }
	port := func() string { return pick(d, "80", "443", "53", "8080", "1:1023") }
	l.write = func(chain, match, target string) string {
		return strings.TrimSpace("-A "+chain+" "+match) + " " + target
	}
	l.forms = []func(src, dst netip.Addr) string{
		func(_, dst netip.Addr) string {
			p := proto()
			return fmt.Sprintf("-d %s -p %s -m comment --comment \"number %d\" -m %s --dport %s", hostPrefix(dst), p, d.IntN(1000), p, port())
		},
		func(_, dst netip.Addr) string {
			return fmt.Sprintf("-d %s -m comment --comment \"number %d\"", hostPrefix(dst), d.IntN(1000))
		},
		func(src, _ netip.Addr) string { return "-s " + hostPrefix(src) },
		func(src, _ netip.Addr) string {
			return fmt.Sprintf("-s %s %s-p %s", network(src), l.not("! "), proto())
		},
		func(src, dst netip.Addr) string {
			return fmt.Sprintf("%s-s %s -d %s", l.not("! "), hostPrefix(src), hostPrefix(dst))
		},
		func(src, dst netip.Addr) string {
			return fmt.Sprintf("%s-s %s -d %s -p %s", l.not("! "), hostPrefix(src), hostPrefix(dst), proto())
		},
		func(src, dst netip.Addr) string {
			return fmt.Sprintf("-s %s %s-d %s", hostPrefix(src), l.not("! "), network(dst))
		},
		func(_, dst netip.Addr) string {
			return fmt.Sprintf("-d %s -m mark %s--mark %s", hostPrefix(dst), l.not("! "), pick(d, "0x1", "0x7", "0x0"))
		},
		func(src, _ netip.Addr) string {
			return fmt.Sprintf("-s %s -p %s -m multiport --dports 53,%s", hostPrefix(src), proto(), port())
		},
	}
	l.jump = pick(d, "-j ", "-j ", "-g ") + l.aside
	l.targets = []string{"-j RETURN", "-j ACCEPT", "-j MARK --set-mark 0x7"}
	l.asides = []string{"-j MARK --set-mark 0x7", "-j ACCEPT", "-j RETURN"}
	to := "-j DNAT --to-destination " + pick(d, l.p.pods...).String()
	switch {
	case ch.table != "nat":
		l.targets, l.asides = append(l.targets, "-j DROP", "-j DROP"), append(l.asides, "-j DROP")
		l.shows = []string{l.write(ch.name, "-m mark --mark 0x7", "-j DROP")}
	case ch.name == "PREROUTING" || ch.name == "OUTPUT":
		l.targets, l.asides = append(l.targets, to), append(l.asides, to, to)
		l.shows = []string{l.write(ch.name, "-m mark --mark 0x7", "-j DNAT --to-destination "+pick(d, l.p.remote...).String())}
	case ch.name == "POSTROUTING":
		l.targets, l.asides = append(l.targets, "-j MASQUERADE"), append(l.asides, "-j MASQUERADE")
		l.shows = []string{l.write(ch.name, "-m mark --mark 0x7", "-j SNAT --to-source "+l.p.nodes[1].String())}
	}
}
