//go:build linux

package rtnl

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// scene is a random network namespace: sysctls to write, then commands for ip -4 and ip -6.
type scene struct {
	*rand.Rand
	before, after [][2]string
	ip4, ip6      []string
	lo            bool // bare lookups can be compared
	last6         string
}

func (g *scene) yes(percent int) bool            { return g.IntN(100) < percent }
func (g *scene) one(list ...string) string       { return list[g.IntN(len(list))] }
func (g *scene) four(format string, args ...any) { g.ip4 = append(g.ip4, fmt.Sprintf(format, args...)) }
func (g *scene) six(format string, args ...any)  { g.ip6 = append(g.ip6, fmt.Sprintf(format, args...)) }
func (g *scene) dev() string                     { return g.one("e0", "e0", "e1", "e1", "e2", "p0", "p1", "p2", "lo") }
func (g *scene) table() string {
	return g.one("main", "main", "main", "100", "100", "101", "102", "300", "local", "default")
}
func (g *scene) metric() string {
	if g.yes(40) {
		return fmt.Sprintf(" metric %d", 1+g.IntN(3))
	}
	return ""
}

// make invents the scene.
func (g *scene) make() {
	g.before = [][2]string{{"ipv6/conf/default/addr_gen_mode", "1"}, {"ipv6/conf/all/addr_gen_mode", "1"}}
	g.four("link set lo up")
	for i := range 3 {
		g.four("link add e%d type veth peer name p%d", i, i)
		if g.yes(30) {
			g.four("link set e%d group %d", i, 1+g.IntN(2))
		}
		if g.yes(80) {
			g.four("link set p%d up", i)
		}
		if g.yes(92) {
			g.four("link set e%d up", i)
		}
	}
	g.sysctls()
	g.addresses()
	for range 2 + g.IntN(12) {
		g.route4()
		g.route6()
	}
	if g.yes(70) {
		for range 1 + g.IntN(5) {
			g.rule(g.four, false)
			g.rule(g.six, true)
		}
	}
	if g.yes(15) {
		i := g.IntN(3)
		g.four("link set p%d down", i)
	}
}

func (g *scene) sysctls() {
	set := func(name string, percent int, values ...string) {
		if g.yes(percent) {
			g.after = append(g.after, [2]string{name, g.one(values...)})
		}
	}
	set("ipv4/ip_forward", 60, "1")
	set("ipv6/conf/all/forwarding", 50, "1")
	set("ipv4/conf/all/rp_filter", 30, "1", "2")
	set("ipv4/conf/all/accept_local", 10, "1")
	set("ipv4/conf/all/route_localnet", 10, "1")
	set("ipv4/conf/all/src_valid_mark", 15, "1")
	set("ipv4/conf/all/bc_forwarding", 20, "1")
	set("ipv4/conf/all/ignore_routes_with_linkdown", 15, "1")
	set("ipv4/conf/all/send_redirects", 50, "0")
	set("ipv4/fib_multipath_hash_policy", 20, "0", "1", "2", "3")
	for _, dev := range []string{"e0", "e1", "e2", "p0"} {
		set("ipv4/conf/"+dev+"/forwarding", 25, "0", "1")
		set("ipv4/conf/"+dev+"/rp_filter", 30, "0", "1", "2")
		set("ipv4/conf/"+dev+"/send_redirects", 30, "0")
		set("ipv4/conf/"+dev+"/accept_local", 15, "1")
		set("ipv4/conf/"+dev+"/route_localnet", 15, "1")
		set("ipv4/conf/"+dev+"/src_valid_mark", 10, "1")
		set("ipv4/conf/"+dev+"/bc_forwarding", 20, "1")
		set("ipv4/conf/"+dev+"/ignore_routes_with_linkdown", 15, "1")
		set("ipv6/conf/"+dev+"/ignore_routes_with_linkdown", 20, "1")
		set("ipv6/conf/"+dev+"/use_oif_addrs_only", 10, "1")
		set("ipv6/conf/"+dev+"/use_tempaddr", 10, "2")
	}
	if g.lo = g.yes(50); g.lo {
		g.after = append(g.after, [2]string{"ipv4/conf/all/rp_filter", "0"}, [2]string{"ipv4/conf/lo/rp_filter", "0"},
			[2]string{"ipv4/conf/lo/forwarding", "1"}, [2]string{"ipv4/conf/lo/accept_local", "1"},
			[2]string{"ipv4/conf/all/send_redirects", "0"}, [2]string{"ipv4/conf/lo/send_redirects", "0"})
		// A bare lookup does not look at links; the question that it is compared with does.
		for _, dev := range []string{"all", "e0", "e1", "e2", "p0"} {
			g.after = append(g.after, [2]string{"ipv4/conf/" + dev + "/ignore_routes_with_linkdown", "0"})
		}
	}
}

func (g *scene) addresses() {
	for _, a := range []string{
		"10.0.0.1/24 dev e0", "10.0.0.2/24 dev e0", "10.0.0.9/25 dev e1", "10.0.1.1/24 dev e1", "10.1.0.1/16 dev e2", "10.77.0.1/32 dev lo",
		"10.2.0.1 peer 10.2.0.2 dev p0", "10.3.0.1/24 dev p1 scope link", "10.4.0.1/31 dev p2", "10.0.0.1/32 dev e2",
	} {
		if g.yes(55) {
			if g.yes(70) {
				a += " brd +"
			}
			g.four("addr add %s", a)
		}
	}
	for _, a := range []string{
		"fd00:0:0:1::1/64 dev e0", "fd00:0:0:1::2/64 dev e0", "fd00:0:0:2::1/64 dev e1", "2001:db8::1/48 dev e2", "fd00:77::1/128 dev lo",
		"fe80::1/64 dev e0", "fe80::2/64 dev e1", "2001:10::5/64 dev p0", "fd00:0:0:1::7/64 dev p1", "2002:a00::1/64 dev p2",
		"fec0::1/64 dev e1", "fd00:0:0:1::6/48 dev e0", "2001:db8::6/112 dev e2",
	} {
		if g.yes(55) {
			if g.yes(15) {
				a += " preferred_lft 0"
			}
			g.six("addr add %s nodad", a)
		}
	}
}

func (g *scene) prefix4() string {
	if g.yes(25) {
		return "default"
	}
	bits := []int{8, 12, 16, 17, 24, 25, 30, 32}[g.IntN(8)]
	a := netip.AddrFrom4([4]byte{10, byte(g.IntN(5)), byte(g.IntN(2)), byte(g.IntN(12))})
	p, _ := a.Prefix(bits)
	return p.String()
}

func (g *scene) gateway4() string {
	return g.one("10.0.0.3", "10.0.0.4", "10.0.1.3", "10.1.0.3", "10.1.2.3", "10.2.0.2", "10.4.0.0", "10.0.0.130")
}

func (g *scene) route4() {
	to, rest := g.prefix4(), g.metric()
	if g.yes(15) {
		rest += " tos " + g.one("0x04", "0x08", "0x10", "0x1c")
	}
	if g.yes(10) {
		rest += " mtu 1300"
	}
	table := " table " + g.table()
	switch n := g.IntN(100); {
	case n < 14:
		g.four("route add %s %s%s%s", g.one("blackhole", "unreachable", "prohibit", "throw"), to, rest, table)
	case n < 22:
		g.four("route add local %s dev %s%s%s", strings.Replace(to, "default", "10.3.3.3/32", 1), g.dev(), rest, g.one("", table))
	case n < 25:
		g.four("route add broadcast 10.3.3.255/32 dev %s%s", g.dev(), table)
	case n < 45:
		hops := ""
		for range 2 + g.IntN(2) {
			hops += g.one(" nexthop via "+g.gateway4(), fmt.Sprintf(" nexthop dev %s", g.dev()),
				fmt.Sprintf(" nexthop via %s dev %s onlink", g.gateway4(), g.one("e0", "e1", "e2"))) + fmt.Sprintf(" weight %d", 1+g.IntN(3))
		}
		g.four("route add %s%s%s%s", to, rest, table, hops)
	case n < 65:
		g.four("route add %s via %s%s%s", to, g.gateway4(), rest, table)
	case n < 72:
		g.four("route add %s via inet6 fe80::9 dev %s%s%s", to, g.one("e0", "e1"), rest, table)
	case n < 82:
		g.four("route add %s dev %s src %s%s%s", to, g.dev(), g.one("10.0.0.2", "10.1.0.1", "10.77.0.1", "10.0.1.1"), rest, table)
	default:
		g.four("route %s %s dev %s%s%s", g.one("add", "append", "prepend"), to, g.dev(), rest, table)
	}
}

// prefix6 repeats the last prefix at times: several routes of one metric are chosen among by preference.
func (g *scene) prefix6() string {
	if g.last6 == "" || g.yes(65) {
		g.last6 = g.newPrefix6()
	}
	return g.last6
}

func (g *scene) newPrefix6() string {
	if g.yes(25) {
		return "default"
	}
	bits := []int{16, 32, 48, 63, 64, 112, 127, 128}[g.IntN(8)]
	b := [16]byte{0xfd, 0, 0, 0, 0, 0, 0, byte(g.IntN(3)), 15: byte(g.IntN(8))}
	if g.yes(30) {
		b = [16]byte{0x20, 0x01, 0x0d, 0xb8, 7: byte(g.IntN(2)), 15: byte(g.IntN(4))}
	}
	p, _ := netip.AddrFrom16(b).Prefix(bits)
	return p.String()
}

func (g *scene) route6() {
	to, rest := g.prefix6(), g.metric()
	if g.yes(10) {
		rest += " mtu 1400"
	}
	if g.yes(30) {
		rest += " pref " + g.one("low", "high", "medium")
	}
	table := " table " + g.table()
	from := ""
	if g.yes(15) {
		from = " from " + g.one("fd00:0:0:1::/64", "fd00::/16", "2001:db8::/32", "fd00:0:0:1::2/128")
	}
	gateway := g.one("fd00:0:0:1::9", "fd00:0:0:2::9", "2001:db8::9", "fd00:0:0:1::8")
	switch n := g.IntN(100); {
	case n < 14:
		g.six("route add %s %s%s%s", g.one("blackhole", "unreachable", "prohibit", "throw"), to, rest, table)
	case n < 20:
		g.six("route add local %s dev %s%s table local", strings.Replace(to, "default", "fd00:3::/64", 1), g.dev(), rest)
	case n < 23:
		g.six("route add anycast fd00:0:0:1::%d/128 dev %s table local", g.IntN(9), g.one("e0", "e1"))
	case n < 40:
		hops := ""
		for range 2 + g.IntN(2) {
			hops += " nexthop via " + g.one("fd00:0:0:1::9", "fd00:0:0:2::9", "2001:db8::9", "fe80::9 dev e0", "fe80::9 dev e1") +
				fmt.Sprintf(" weight %d", 1+g.IntN(3))
		}
		g.six("route add %s%s%s%s%s", to, from, rest, table, hops)
	case n < 60:
		g.six("route %s %s%s via %s%s%s", g.one("add", "append"), to, from, gateway, rest, table)
	case n < 72:
		g.six("route add %s%s dev %s src %s%s%s", to, from, g.dev(), g.one("fd00:0:0:1::2", "fd00:77::1", "2001:db8::1"), rest, table)
	default:
		g.six("route %s %s%s dev %s%s%s", g.one("add", "append"), to, from, g.dev(), rest, table)
	}
}

func (g *scene) rule(add func(string, ...any), six bool) {
	pick := func(a, b string) string {
		if six {
			return b
		}
		return a
	}
	var w []string
	word := func(percent int, s ...string) {
		if g.yes(percent) {
			w = append(w, g.one(s...))
		}
	}
	word(10, "not")
	word(30, "from "+pick("10.0.0.0/24", "fd00:0:0:1::/64"), "from "+pick("10.0.0.2", "fd00:0:0:1::2"), "from "+pick("10.0.0.0/8", "fd00::/16"), "from "+pick("1.2.3.0/24", "2001:db8:5::/48"))
	word(25, "to "+pick("10.0.0.0/16", "fd00::/16"), "to "+pick("10.1.0.0/16", "2001:db8::/32"), "to "+pick("10.0.1.7", "fd00:0:0:2::7"))
	word(25, "fwmark 1", "fwmark 2/3", "fwmark 0/2")
	word(25, "iif "+g.dev(), "iif lo", "iif nothere")
	word(12, "oif "+g.dev())
	word(15, "ipproto tcp", "ipproto udp", "ipproto "+pick("icmp", "ipv6-icmp"))
	word(12, "sport 1000-2000", "sport 1500")
	word(12, "dport 80", "dport 53-443")
	word(15, "uidrange 0-0", "uidrange 1000-2000")
	word(12, "tos 0x10", "tos 0x08")
	w = append(w, fmt.Sprintf("pref %d", 1+g.IntN(20)*100))
	switch n := g.IntN(100); {
	case n < 55:
		w = append(w, "lookup "+g.table())
		word(15, "suppress_prefixlength 0", "suppress_prefixlength 16", "suppress_prefixlength 64")
		word(8, "suppress_ifgroup 1")
	case n < 65:
		w = append(w, "goto "+g.one("32766", "32767", "1500", "1900"))
	case n < 70:
		w = append(w, "nop")
	default:
		w = append(w, g.one("blackhole", "unreachable", "prohibit"))
	}
	add("rule add %s", strings.Join(w, " "))
	if g.yes(4) {
		add("rule del pref 0")
		add("rule add pref %d lookup local", 5+g.IntN(3000))
	}
	if g.yes(2) {
		add("rule add pref 40000 lookup %s suppress_prefixlength 20", g.table())
	}
}

// apply makes the scene in the calling thread's namespace.
func (g *scene) apply() error {
	write := func(list [][2]string) error {
		for _, s := range list {
			if err := os.WriteFile("/proc/sys/net/"+s[0], []byte(s[1]), 0); err != nil {
				return err
			}
		}
		return nil
	}
	if err := write(g.before); err != nil {
		return err
	}
	// Source addresses that the kernel has stored in routes depend on sysctls, so those come behind the links only.
	// Whether a gateway is an address of the host is settled when its route is added, so rules and local routes come first.
	links, first, rest := g.order()
	if err := batch("-4", links); err != nil {
		return err
	}
	if err := write(g.after); err != nil {
		return err
	}
	if err := batch("-4", append(first, rest...)); err != nil {
		return err
	}
	return batch("-6", g.ip6)
}

// order sorts the commands of IPv4: links, then addresses, rules and local routes, then all others.
func (g *scene) order() (links, first, rest []string) {
	var local []string
	for _, c := range g.ip4 {
		switch {
		case strings.HasPrefix(c, "link"):
			links = append(links, c)
		case strings.HasPrefix(c, "addr"), strings.HasPrefix(c, "rule"):
			first = append(first, c)
		case strings.HasPrefix(c, "route add local"):
			local = append(local, c)
		default:
			rest = append(rest, c)
		}
	}
	return links, append(first, local...), rest
}

// text is the scene as commands, those of one family or of both.
func (g *scene) text(family string) string {
	var b strings.Builder
	for _, s := range append(append([][2]string{}, g.before...), g.after...) {
		fmt.Fprintf(&b, "echo %s > /proc/sys/net/%s\n", s[1], s[0])
	}
	links, first, rest := g.order()
	if family == "-6" {
		first, rest = nil, nil
	}
	for _, c := range slices.Concat(links, first, rest) {
		fmt.Fprintf(&b, "ip -4 %s\n", c)
	}
	if family != "-4" {
		for _, c := range g.ip6 {
			fmt.Fprintf(&b, "ip -6 %s\n", c)
		}
	}
	return b.String()
}

var (
	places4 = strings.Fields("10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.9 10.0.0.127 10.0.0.130 10.0.0.255 10.0.1.1 10.0.1.7 10.0.1.255 10.1.0.1 " +
		"10.1.0.3 10.1.2.3 10.1.255.255 10.2.0.1 10.2.0.2 10.3.0.1 10.3.0.7 10.3.3.3 10.3.3.255 10.4.0.0 10.4.0.1 10.4.1.1 10.77.0.1 " +
		"1.2.3.4 192.0.2.1 127.0.0.1 127.1.2.3")
	odd4    = strings.Fields("0.0.0.0 0.1.2.3 224.0.0.1 224.0.0.5 239.1.2.3 255.255.255.255 127.255.255.255")
	places6 = strings.Fields("fd00:0:0:1::1 fd00:0:0:1::2 fd00:0:0:1::3 fd00:0:0:1::7 fd00:0:0:1::9 fd00:0:0:2::1 fd00:0:0:2::7 fd00::1 " +
		"fd00:77::1 fd00:3::3 2001:db8::1 2001:db8::7 2001:db8:0:1::2 2001:10::5 2001:10::6 2002:a00::1 fec0::1 fec0::2 2001:4860::1 fd01::1")
	odd6 = strings.Fields("fe80::1 fe80::2 fe80::9 ::1 ff02::1 ff05::2 ::")
)

func (g *scene) place(six bool, odd int) netip.Addr {
	list, strange := places4, odd4
	if six {
		list, strange = places6, odd6
	}
	if g.yes(odd) {
		list = strange
	}
	return netip.MustParseAddr(g.one(list...))
}

// question invents a question for the scene.
func (g *scene) question() question {
	six := g.yes(45)
	q := question{route: node.RouteQuery{Dst: g.place(six, 10)}}
	if g.yes(12) {
		q.typ = true
		if g.yes(40) {
			q.route.Out = g.one("e0", "e1", "lo")
		}
		return q
	}
	r := &q.route
	r.Mark = uint32(g.IntN(4))
	r.Proto = []uint8{0, 6, 17, 1, 58}[g.IntN(5)]
	if r.Proto == 1 && six || r.Proto == 58 && !six {
		r.Proto = 6
	}
	if r.Proto == 6 || r.Proto == 17 {
		r.SrcPort, r.DstPort = []uint16{1, 1000, 1500, 2001}[g.IntN(4)], []uint16{53, 80, 443, 8080}[g.IntN(4)]
	}
	if g.yes(30) {
		r.TOS = []uint8{4, 8, 16, 0x1c, 0x90, 0xb8}[g.IntN(6)]
	}
	if g.yes(20) {
		uid := []uint32{0, 1000, 1500, 3000}[g.IntN(4)]
		r.UID = &uid
	}
	if g.yes(60) {
		r.Src = g.place(six, 5)
	}
	switch {
	case !six && g.lo && g.yes(25):
		q.bare, r.UID = true, nil
		r.Dst, r.Src = g.place(false, 0), g.place(false, 0)
		for r.Dst.IsLoopback() || r.Src.IsLoopback() {
			r.Dst, r.Src = g.place(false, 0), g.place(false, 0)
		}
	case g.yes(45):
		r.In = g.one("e0", "e1", "e2", "p0", "p1", "lo")
		if !r.Src.IsValid() && g.yes(80) {
			r.Src = g.place(six, 5)
		}
		// A multicast's way in is multicast routing's (ip6mr_get_route).
		for six && r.Dst.IsMulticast() {
			r.Dst = g.place(six, 0)
		}
	case g.yes(30):
		r.Out = g.dev()
	}
	r.All = g.yes(20)
	return q
}
