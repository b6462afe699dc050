//go:build linux

package oracle

import (
	"fmt"
	"slices"
	"strings"
)

// match is a random match that is allowed in the chain.
func (g *xtGenerator) match(c chainPlace, proto string) string {
	d := g.d
	all := g.matches(c, proto)
	return all[d.IntN(len(all))]()
}

// matches lists what match chooses from; what stands more than once is chosen more often.
func (g *xtGenerator) matches(c chainPlace, proto string) []func() string {
	d, p := g.d, g.p
	src := func() string { return g.not() + "-s " + g.prefix(g.sources()...) }
	dst := func() string { return g.not() + "-d " + g.prefix(g.destinations()...) }
	in := func() string {
		if !c.only("PREROUTING", "INPUT", "FORWARD") {
			return ""
		}
		return g.not() + "-i " + pick(d, g.interfaces()...)
	}
	out := func() string {
		if !c.only("FORWARD", "OUTPUT", "POSTROUTING") {
			return ""
		}
		return g.not() + "-o " + pick(d, g.interfaces()...)
	}
	m := func(format string, a ...any) func() string {
		return func() string { return "-m " + fmt.Sprintf(format, a...) }
	}
	list := []func() string{
		src, src, dst, dst, dst, in, in, out, out,
		m("addrtype %s--dst-type %s", g.not(), pick(d, "LOCAL", "LOCAL", "UNICAST", "LOCAL,UNICAST", "BROADCAST", "MULTICAST", "UNREACHABLE")),
		m("addrtype %s--src-type %s", g.not(), pick(d, "LOCAL", "UNICAST", "LOCAL", "BLACKHOLE")),
		m("mark %s--mark %s", g.not(), pick(d, "0x1", "0x1/0x1", "0x4000/0x4000", "0x0/0xff", "0x2", "0")),
		m("comment --comment \"%s\"", pick(d, "a comment", "x", "it's \\\"quoted\\\"")),
		m("pkttype %s--pkt-type %s", g.not(), pick(d, "unicast", "broadcast", "multicast")),
		m("statistic --mode random %s--probability %s", g.not(), pick(d, "0.5", "0.25", "0.33333333349", "0.9")),
		m("iprange %s--src-range %s-%s", g.not(), p.pods[0], p.pods[1]),
		m("iprange %s--dst-range %s-%s", g.not(), p.pods[0], p.pods[2]),
		m("dscp %s--dscp %s", g.not(), pick(d, "0x00", "0x08", "46")),
		m("ecn %s--ecn-ip-ect %s", g.not(), pick(d, "0", "1", "2")),
		m("length %s--length %s", g.not(), pick(d, "0:100", "40", "200:", "52:60")),
		m("limit --limit 1000/second --limit-burst 1000"),
		m("hashlimit --hashlimit-upto 1000/second --hashlimit-burst 1000 --hashlimit-mode srcip --hashlimit-name h%d", d.IntN(100)),
		m("u32 --u32 \"%s\"", pick(d, "0&0xF0000000=0x40000000", "0>>28=6", "6&0xFF=6,17", "16=0:0xffffffff")),
		m("string --string \"SVCT\" --algo bm"),
		m("cpu --cpu 0"),
		m("time --timestart 00:00 --timestop 23:59:59"),
		m("quota --quota 100000000"),
		m("recent --name r%d --%s", d.IntN(2), pick(d, "set", "rcheck", "update", "rcheck --seconds 60", "rcheck --hitcount 2", "remove")),
		m("set %s--match-set %s", g.not(), g.setUse()),
		m("set %s--match-set %s", g.not(), g.setUse()),
		m("connlabel --label 1"),
	}
	if g.bridged {
		list = append(list, m("physdev %s--physdev-in %s", g.not(), pick(d, "p2", "p3", "p+")))
		if c.only("FORWARD") {
			list = append(list, m("physdev %s--physdev-out %s", g.not(), pick(d, "p2", "p3")), m("physdev %s--physdev-is-bridged", g.not()), m("physdev %s--physdev-is-bridged", g.not()))
		}
	}
	if c.table != "raw" {
		list = append(list, g.conntrackMatches()...)
	}
	if p.v4 {
		list = append(list, func() string { return g.not() + "-f" })
	} else {
		list = append(list, m("frag --frag%s", pick(d, "first", "last", "more")), m("hbh --hbh-len 8"), m("dst --dst-len %s", pick(d, "8", "16")), m("rt --rt-type 253"),
			m("ipv6header --header %s --soft", pick(d, "hop", "dst", "frag", "route")))
	}
	if p.v4 {
		list = append(list, m("ttl --ttl-%s 64", pick(d, "eq", "lt", "gt")), m("tos %s--tos %s", g.not(), pick(d, "0x00/0xff", "0x10/0x3f")))
	} else {
		list = append(list, m("hl --hl-%s 64", pick(d, "eq", "lt", "gt")))
	}
	if p.v4 {
		list = append(list, m("realm %s--realm %s", g.not(), pick(d, "0", "1")))
	}
	if c.only("OUTPUT", "POSTROUTING") {
		list = append(list, m("owner %s--uid-owner 0", g.not()), m("owner --socket-exists"))
	}
	if c.only("PREROUTING", "INPUT") {
		list = append(list, m("socket --nowildcard"))
	}
	if group := groupSide(d, c); group != "" {
		list = append(list, m("devgroup %s--%s-group %s", g.not(), group, pick(d, "0", "0x5/0xff", "7")))
		list = append(list, m("policy --pol none --dir %s", map[string]string{"src": "in", "dst": "out"}[group]))
	}
	if c.only("PREROUTING") {
		list = append(list, m("rpfilter%s", pick(d, "", " --invert", " --loose", " --validmark")))
	}
	if c.only("PREROUTING", "INPUT", "FORWARD") {
		list = append(list, m("mac %s--mac-source %s", g.not(), pick(d, macText(mac(0, true)), macText(mac(2, true)))))
	}
	return slices.DeleteFunc(list, func(f func() string) bool { return strings.Contains(f(), "!!") })
}

// groupSide is src or dst where the interface of that side is known at all hooks, else empty.
func groupSide(d dice, c chainPlace) string {
	in, out := c.only("PREROUTING", "INPUT", "FORWARD"), c.only("OUTPUT", "POSTROUTING", "FORWARD")
	switch {
	case in && (!out || d.one(2)):
		return "src"
	case out:
		return "dst"
	}
	return ""
}

// conntrackMatches make the kernel track connections.
func (g *xtGenerator) conntrackMatches() []func() string {
	d, p := g.d, g.p
	m := func(format string, a ...any) func() string {
		return func() string { return "-m " + fmt.Sprintf(format, a...) }
	}
	dst := hostPrefix(pick(d, g.destinations()...))
	return []func() string{
		m("conntrack %s--ctstate %s", g.not(), pick(d, "NEW", "RELATED,ESTABLISHED", "DNAT", "SNAT", "INVALID", "UNTRACKED", "NEW,ESTABLISHED", "NEW,DNAT")),
		m("conntrack %s--ctstate %s", g.not(), pick(d, "NEW", "ESTABLISHED", "DNAT", "INVALID,UNTRACKED")),
		m("state %s--state %s", g.not(), pick(d, "NEW", "ESTABLISHED", "INVALID", "UNTRACKED")),
		m("conntrack %s--ctorigdst %s", g.not(), dst),
		m("conntrack %s--ctorigsrc %s", g.not(), g.prefix(g.sources()...)),
		m("conntrack %s--ctreplsrc %s", g.not(), g.prefix(g.destinations()...)),
		m("conntrack %s--ctrepldst %s", g.not(), g.prefix(g.sources()...)),
		m("conntrack --ctproto tcp %s--ctorigdstport %s", g.not(), pick(d, "80", "443", "1:1023")),
		m("conntrack --ctproto %s", pick(d, "tcp", "udp", "17")),
		m("conntrack %s--ctstatus %s", g.not(), pick(d, "NONE", "EXPECTED", "SEEN_REPLY", "ASSURED", "CONFIRMED")),
		m("conntrack --ctdir %s", pick(d, "ORIGINAL", "REPLY")),
		m("connmark %s--mark %s", g.not(), pick(d, "0x1", "0/0xf", "0x10/0x10")),
		m("connlimit --connlimit-above %d", pick(d, 0, 1000)),
		m("connbytes --connbytes 0:10000000 --connbytes-dir original --connbytes-mode bytes"),
		m("helper --helper %s", pick(d, "ftp", "sip")),
		m("conntrack --ctstate NEW"),
		m("iprange --src-range %s-%s", p.clients["ext"][0], p.clients["ext"][1]),
	}
}

// interfaces are names that rules ask for.
func (g *xtGenerator) interfaces() []string {
	if g.bridged {
		return []string{"ext", "br0", "br0", "p1", "p+"}
	}
	return []string{"ext", "eth1", "p+", "p1", "lo", "e+"}
}
