//go:build linux

package oracle

import (
	"fmt"
	"net/netip"
	"strings"
)

// network is a prefix, an address or a range.
func (g *nftGenerator) network() string {
	d, p := g.d, g.p
	from := append(append([]netip.Addr{}, p.pods...), p.remote...)
	from = append(append(from, p.nodes[:3]...), p.clients["ext"]...)
	a := pick(d, from...)
	switch d.IntN(4) {
	case 0:
		return a.String()
	case 1:
		return fmt.Sprintf("%s-%s", p.pods[0], pick(d, p.pods[1:]...))
	}
	return netip.PrefixFrom(a, pick(d, a.BitLen()-4, a.BitLen()-8, a.BitLen()-16)).Masked().String()
}

func (g *nftGenerator) op() string {
	if g.d.one(4) {
		return "!= "
	}
	return ""
}

// randomRule is matches, statements, and a verdict.
func (g *nftGenerator) randomRule(c nftPlace, users []string) string {
	d := g.d
	var parts []string
	ports := "" // what the transport header is known to be
	for range d.weighted(2, 6, 4, 1) {
		m, proto := g.match(c, ports)
		if m == "" {
			continue
		}
		if proto != "" {
			ports = proto
		}
		parts = append(parts, m)
	}
	for range d.weighted(3, 2, 1) {
		if s := g.statement(c, ports); s != "" {
			parts = append(parts, s)
		}
	}
	parts = append(parts, g.verdict(c, users, ports))
	text := strings.Join(parts, " ")
	if strings.TrimSpace(text) == "" {
		return "counter"
	}
	if d.one(6) {
		text += " comment \"c\""
	}
	return text
}

// match is a match, and the transport protocol that it makes certain. ports is the one certain already.
func (g *nftGenerator) match(c nftPlace, ports string) (text, proto string) {
	d, p := g.d, g.p
	ip := g.ip()
	switch d.IntN(14) {
	case 0, 1:
		return fmt.Sprintf("%s saddr %s%s", ip, g.op(), g.network()), ""
	case 2, 3:
		return fmt.Sprintf("%s daddr %s%s", ip, g.op(), g.network()), ""
	case 4:
		return fmt.Sprintf("%s daddr %s{ %s, %s }", ip, g.op(), pick(d, p.pods...), pick(d, p.nodes...)), ""
	case 5, 6, 7:
		if ports != "" {
			return fmt.Sprintf("th dport %s%s", g.op(), pick(d, "80", "{ 80, 443 }", "1-1023")), ""
		}
		t := pick(d, "tcp", "tcp", "udp", "udp", "sctp")
		return fmt.Sprintf("%s %s %s%s", t, pick(d, "dport", "dport", "dport", "sport"), g.op(), pick(d, "80", "443", "{ 80, 53 }", "1-1023", "20000-20020", "{ 1-100, 443, 8000-9000 }")), t
	case 8:
		if len(g.sets) > 0 {
			s := pick(d, g.sets...)
			if s.proto == "" || ports != "" {
				if strings.HasPrefix(s.key, "iifname") && c.only("output", "postrouting") {
					return "", ""
				}
				return fmt.Sprintf("%s %s@%s", s.key, g.op(), s.name), ""
			}
			return fmt.Sprintf("meta l4proto { tcp, udp, sctp } %s %s@%s", s.key, g.op(), s.name), "any"
		}
	case 9, 10:
		return g.metaMatch(c), ""
	case 11:
		return g.ctMatch(), ""
	case 12:
		return g.fibMatch(c), ""
	}
	return g.oddMatch(ports)
}

func (g *nftGenerator) metaMatch(c nftPlace) string {
	d := g.d
	in := func(s string) string {
		if c.only("output", "postrouting") {
			return ""
		}
		return s
	}
	out := func(s string) string {
		if !c.only("output", "postrouting", "forward") {
			return ""
		}
		return s
	}
	return pick(d,
		in("iifname "+g.op()+pick(d, "\"ext\"", "\"p*\"", "{ \"p1\", \"ext\" }", "\"lo\"")), in("iifname "+g.op()+"\"eth1\""),
		out("oifname "+g.op()+pick(d, "\"ext\"", "\"p*\"", "{ \"p1\", \"p2\" }", "\"lo\"")),
		in("iif "+g.op()+pick(d, "\"ext\"", "\"p2\"")), out("oif "+g.op()+pick(d, "\"ext\"", "\"p2\"")),
		in("iifgroup "+g.op()+pick(d, "0", "5", "7")), out("oifgroup "+g.op()+pick(d, "0", "7")),
		in("iiftype "+g.op()+pick(d, "ether", "loopback")), in("meta iifkind "+g.op()+"\"veth\""),
		"meta mark "+g.op()+pick(d, "0x1", "0x0", "0x1-0x10", "{ 0x1, 0x2 }"),
		"meta mark & "+pick(d, "0xff == 0x1", "0x4000 == 0x4000", "0x3 != 0x0"),
		"meta l4proto "+g.op()+pick(d, "tcp", "udp", "{ tcp, udp }", "sctp", "icmp"),
		"meta pkttype "+g.op()+pick(d, "host", "broadcast", "multicast"),
		g.onlyInet("meta nfproto "+pick(d, "ipv4", "ipv6")),
		"meta protocol "+pick(d, "ip", "ip6"),
		"meta priority "+g.op()+"0:0",
		"meta length "+pick(d, "< 100", "> 40"),
		"meta cpu 0",
		"meta skuid 0",
	)
}

func (g *nftGenerator) onlyInet(s string) string {
	if g.family != "inet" {
		return ""
	}
	return s
}

func (g *nftGenerator) ctMatch() string {
	d, p := g.d, g.p
	return pick(d,
		"ct state "+g.op()+pick(d, "new", "established", "invalid", "untracked", "{ new, established }"),
		"ct state "+pick(d, "new", "established,related", "new,untracked", "invalid"),
		"ct status "+pick(d, "dnat", "snat", "confirmed", "seen-reply", "assured"), "ct status & (dnat | snat) != 0",
		"ct direction "+g.op()+pick(d, "original", "reply"),
		"ct mark "+g.op()+pick(d, "0x1", "0x0", "0x10"), "ct mark & 0xf == 0x1",
		fmt.Sprintf("ct original %s daddr %s%s", g.ip(), g.op(), pick(d, g.destinations()...)),
		fmt.Sprintf("ct original %s saddr %s%s", g.ip(), g.op(), pick(d, p.clients["ext"]...)),
		fmt.Sprintf("ct reply %s saddr %s%s", g.ip(), g.op(), pick(d, p.pods...)),
		"meta l4proto tcp ct original proto-dst "+g.op()+pick(d, "80", "443", "1-1023"),
		"meta l4proto udp ct original proto-src "+pick(d, "20000-20020", "> 20010"),
		"meta l4proto tcp ct reply proto-src "+g.op()+"8080",
		"ct original l3proto "+pick(d, "ipv4", "ipv6"),
		"ct original protocol "+g.op()+pick(d, "tcp", "udp"),
		"ct zone "+pick(d, "0", "7"),
		"ct packets > 100", "ct bytes < 100000", "ct avgpkt > 1000", "ct expiration > 1s", "ct helper \"ftp\"",
	)
}

func (g *nftGenerator) destinations() []netip.Addr {
	p := g.p
	return append(append(append([]netip.Addr{}, p.pods...), p.nodes...), p.cluster[:2]...)
}

func (g *nftGenerator) fibMatch(c nftPlace) string {
	d := g.d
	in := c.only("prerouting", "input", "forward")
	list := []string{
		"fib daddr type " + g.op() + pick(d, "local", "unicast", "broadcast", "{ local, unicast }"),
		"fib saddr type " + g.op() + pick(d, "local", "unicast"),
		"fib daddr type local",
	}
	if in {
		list = append(list, "fib daddr . iif type "+g.op()+pick(d, "local", "unicast"), "fib saddr . iif oif "+pick(d, "exists", "missing"),
			"fib saddr oif "+pick(d, "exists", "missing", "\"ext\""), "fib saddr . mark . iif oif exists", "fib saddr oifname "+pick(d, "\"p1\"", "\"ext\""))
	}
	return pick(d, list...)
}

// oddMatch are payload, extension header, hash, number and limit expressions.
func (g *nftGenerator) oddMatch(ports string) (text, proto string) {
	d := g.d
	ip := g.ip()
	list := []string{
		fmt.Sprintf("numgen random mod %d %s", pick(d, 2, 3, 4), pick(d, "== 0", "< 1", "!= 1", "1")),
		"numgen inc mod 2 == 0",
		fmt.Sprintf("jhash %s saddr mod %d seed 0x%x == 0", ip, pick(d, 2, 3), d.IntN(1<<30)+1),
		fmt.Sprintf("jhash %s saddr . %s daddr mod %d seed 0x%x < 2", ip, ip, pick(d, 3, 4), d.IntN(1<<30)+1),
		"symhash mod 2 == 0",
		"limit rate 10000/second burst 1000 packets", "limit rate over 10000/second burst 1000 packets", "quota over 1000 mbytes",
		"meta rtclassid 0",
		fmt.Sprintf("%s dscp %s%s", ip, g.op(), pick(d, "cs0", "cs1", "{ cs0, cs1 }")),
		fmt.Sprintf("%s ecn %s%s", ip, g.op(), pick(d, "not-ect", "ect0")),
		"@nh,0,4 " + pick(d, "4", "6"),
		"@th,16,16 " + pick(d, "80", "53", "1-1023"),
		"meta hour \"00:00\"-\"23:59\"", "meta day { \"Monday\", \"Tuesday\" }",
		"icmp type " + pick(d, "echo-request", "echo-reply", "{ echo-request, destination-unreachable }"),
		"icmpv6 type " + pick(d, "echo-request", "echo-reply"),
		"icmp code " + g.op() + "0",
	}
	if g.p.v4 {
		list = append(list, "ip ttl "+pick(d, "64", "> 10"), "ip protocol "+g.op()+pick(d, "tcp", "{ tcp, udp }"), "ip version 4", "ip hdrlength "+pick(d, "5", "> 5"),
			"ip frag-off & 0x1fff == 0", "ip frag-off & 0x1fff != 0", "ip frag-off & 0x2000 != 0", "ip option ra exists", "ip hdrlength > 5", "ip id 1", "ip length < 100", "ip saddr & 255.255.255.0 == 10.244.1.0", "ip option rr exists",
			"rt ip nexthop 192.0.2.254")
	} else {
		list = append(list, "ip6 hoplimit > 10", "ip6 nexthdr "+g.op()+pick(d, "tcp", "udp"), "ip6 length < 100", "exthdr frag exists", "frag more-fragments 1", "frag frag-off 5", "exthdr hbh exists", "dst hdrlength 0", "rt type 253", "exthdr dst missing", "ip6 flowlabel 0",
			"ip6 saddr & ffff:ffff:: == fd00:10::")
	}
	if ports == "" {
		if d.one(3) {
			return pick(d, "tcp flags syn", "tcp flags & (syn|ack) == syn", "tcp flags != syn", "tcp flags & (fin|syn|rst|ack) == syn", "tcp option maxseg exists", "tcp flags syn / syn,ack"), "tcp"
		}
	}
	return pick(d, list...), ""
}

// statement changes something and lets the packet go on.
func (g *nftGenerator) statement(c nftPlace, ports string) string {
	d, p := g.d, g.p
	list := []string{
		"counter", "counter", "log prefix \"x\"", "log group 5",
		"meta mark set " + pick(d, "0x1", "0x2", "meta mark | 0x10", "meta mark & 0xff", "meta mark ^ 0x1", "ct mark"),
		"meta mark set " + pick(d, "0x1", "mark and 0xffffff0f or 0x10"),
		"ct mark set " + pick(d, "0x1", "meta mark", "ct mark | 0x10"),
		"meta priority set 1:2", "meta nftrace set 1",
		fmt.Sprintf("meta mark set jhash %s saddr mod 3 seed 0xbeef offset 1", g.ip()),
		"meta mark set numgen random mod 2",
		fmt.Sprintf("meta mark set %s saddr map { %s : 0x1, %s : 0x2 }", g.ip(), p.pods[0], p.clients["ext"][0]),
	}
	if g.dynamic != "" {
		list = append(list, fmt.Sprintf("add @dyn { %s saddr }", g.ip()), fmt.Sprintf("update @dyn { %s saddr }", g.ip()), fmt.Sprintf("%s saddr @dyn", g.ip()), fmt.Sprintf("%s saddr != @dyn", g.ip()))
	}
	if c.kind == "filter" && c.only("prerouting", "output") {
		list = append(list, "notrack")
	}
	if c.kind == "filter" {
		list = append(list, g.ip()+" dscp set cs1")
		if g.p.v4 {
			list = append(list, "ip ttl set 63")
		}
		// On a bridge the new destination may have no neighbour, which no rule shows.
		if d.one(3) && c.only("prerouting", "forward") && !g.bridged {
			list = append(list, fmt.Sprintf("%s daddr set %s", g.ip(), pick(d, p.pods...)))
			if ports == "tcp" || ports == "udp" {
				list = append(list, ports+" dport set 8080")
			}
		}
	}
	return pick(d, list...)
}

// verdict ends the rule.
func (g *nftGenerator) verdict(c nftPlace, users []string, ports string) string {
	d, p := g.d, g.p
	if len(users) > 0 && d.one(3) {
		if d.one(4) {
			ip := g.ip()
			return pick(d,
				fmt.Sprintf("%s daddr vmap { %s : jump %s, %s : drop, %s : accept }", ip, p.pods[0], users[0], p.pods[1], p.pods[2]),
				fmt.Sprintf("%s saddr vmap { %s : goto %s, %s : return }", ip, g.p.clients["ext"][0], users[0], p.pods[0]),
				fmt.Sprintf("numgen random mod 3 vmap { 0 : jump %s, 1 : continue, 2 : accept }", users[0]),
				fmt.Sprintf("ct state vmap { new : jump %s, established : accept, invalid : drop }", users[0]),
				fmt.Sprintf("meta l4proto vmap { tcp : goto %s, udp : continue }", users[0]),
			)
		}
		return pick(d, "jump ", "jump ", "goto ") + pick(d, users...)
	}
	if c.kind == "nat" {
		return g.nat(c, ports)
	}
	switch d.IntN(9) {
	case 0, 1:
		return "drop"
	case 2, 3, 4:
		return pick(d, "accept", "accept", "return", "continue")
	case 5, 6:
		if c.only("input", "forward", "output", "prerouting") {
			return g.reject(ports)
		}
		return "drop"
	}
	return ""
}

func (g *nftGenerator) reject(ports string) string {
	d := g.d
	if ports == "tcp" && d.one(2) {
		return "reject with tcp reset"
	}
	if g.family == "inet" && d.one(2) {
		return "reject with icmpx type " + pick(d, "port-unreachable", "no-route", "host-unreachable", "admin-prohibited")
	}
	if g.p.v4 {
		return pick(d, "reject", "reject with icmp type "+pick(d, "port-unreachable", "net-unreachable", "host-unreachable", "prot-unreachable", "net-prohibited", "host-prohibited", "admin-prohibited"))
	}
	return pick(d, "reject", "reject with icmpv6 type "+pick(d, "no-route", "admin-prohibited", "addr-unreachable", "port-unreachable"))
}

func (g *nftGenerator) nat(c nftPlace, ports string) string {
	d, p := g.d, g.p
	ip := g.ip()
	if d.one(6) {
		return pick(d, "accept", "return")
	}
	kind := func(w string) string {
		if g.family == "inet" {
			return w + " " + ip + " to "
		}
		return w + " to "
	}
	to := pick(d, append(append([]netip.Addr{}, p.pods...), p.remote...)...)
	if c.only("postrouting", "input") {
		if c.only("postrouting") && d.one(2) {
			if ports != "" && ports != "any" && ports != "sctp" && d.one(3) {
				return "masquerade to :40000-41000"
			}
			return "masquerade" + pick(d, "", "", " random", " fully-random", " persistent")
		}
		flag := pick(d, "", "", "", " random", " persistent", " fully-random")
		return kind("snat") + pick(d, p.nodes[0].String(), p.nodes[1].String(), fmt.Sprintf("%s-%s", p.outside[0], p.outside[0].Next().Next())) + flag
	}
	switch d.IntN(6) {
	case 0:
		if ports != "" {
			return "redirect to :8080"
		}
		return "redirect"
	case 1:
		return kind("dnat") + fmt.Sprintf("%s-%s", p.pods[0], p.pods[2]) + pick(d, "", "", " persistent", " random")
	case 2:
		return kind("dnat") + fmt.Sprintf("%s saddr map { %s : %s, %s : %s }", ip, p.clients["ext"][0], p.pods[0], p.pods[1], p.pods[2])
	case 3:
		return kind("dnat") + fmt.Sprintf("numgen random mod 2 map { 0 : %s, 1 : %s }", p.pods[0], p.pods[2])
	case 4:
		if ports != "" {
			return fmt.Sprintf("dnat %s addr . port to %s saddr map { %s : %s . 8080, %s : %s . 80 }", ip, ip, p.clients["ext"][0], p.pods[0], p.pods[1], p.remote[0])
		}
		return fmt.Sprintf("%sjhash %s saddr mod 2 seed 0xabc map { 0 : %s, 1 : %s }", kind("dnat"), ip, p.pods[0], p.pods[1])
	}
	if ports != "" {
		return kind("dnat") + end(to, 8080)
	}
	return kind("dnat") + to.String()
}
