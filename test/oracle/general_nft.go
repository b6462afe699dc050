//go:build linux

package oracle

import (
	"fmt"
	"slices"
	"strings"
)

// nftGenerator writes random nftables commands, one a line.
type nftGenerator struct {
	d dice
	p *pool
	// family and table are those of the table being written.
	family, table string
	guard         bool
	// bridged is set when the node has a bridge.
	bridged bool
	lines   []string
	// sets, maps and vmaps are the named ones of the table, with the expression that is their key.
	sets, verdictMaps []nftSet
	// dynamic is a set that rules add to.
	dynamic string
}

type nftSet struct {
	name, key string
	// proto is what a rule must have matched before the key can be written, empty for nothing.
	proto string
}

// nftPlace is where a rule stands.
type nftPlace struct {
	// kind is filter, nat or route; hooks are the hooks that packets reach the chain from.
	kind  string
	hooks []string
}

func (c nftPlace) only(hooks ...string) bool {
	for _, h := range c.hooks {
		if !slices.Contains(hooks, h) {
			return false
		}
	}
	return true
}

func (g *nftGenerator) add(format string, a ...any) {
	g.lines = append(g.lines, fmt.Sprintf(format, a...))
}

func (g *nftGenerator) rule(chain, text string) {
	g.add("add rule %s %s %s %s", g.family, g.table, chain, text)
}

// ip is the family's name in a payload expression.
func (g *nftGenerator) ip() string {
	if g.p.v4 {
		return "ip"
	}
	return "ip6"
}

func (g *nftGenerator) addrType() string {
	if g.p.v4 {
		return "ipv4_addr"
	}
	return "ipv6_addr"
}

// tables writes n tables.
func (g *nftGenerator) tables(n int) string {
	for i := range n {
		g.family, g.table = pick(g.d, g.ip(), g.ip(), "inet"), fmt.Sprintf("t%d", i)
		g.oneTable()
	}
	if g.d.one(6) {
		g.netdev()
	}
	return strings.Join(g.lines, "\n") + "\n"
}

func (g *nftGenerator) oneTable() {
	d := g.d
	g.sets, g.verdictMaps, g.dynamic = nil, nil, ""
	g.add("add table %s %s", g.family, g.table)
	groups := []nftPlace{
		{"filter", []string{"prerouting"}}, {"filter", []string{"input", "forward"}}, {"filter", []string{"output"}},
		{"nat", []string{"prerouting", "output"}}, {"nat", []string{"postrouting"}}, {"nat", []string{"input"}},
		{"filter", []string{"postrouting"}}, {"route", []string{"output"}},
	}
	type chain struct {
		name  string
		place nftPlace
		users []string
	}
	var chains []chain
	for gi, place := range groups {
		if !d.one(2) && place.kind != "filter" || d.one(3) {
			continue
		}
		var users []string
		for i := range d.IntN(3) {
			users = append(users, fmt.Sprintf("u%d_%d", gi, i))
		}
		for _, h := range place.hooks {
			if d.one(4) {
				continue
			}
			name := fmt.Sprintf("%s_%s", place.kind, h)
			policy := ""
			if place.kind == "filter" && d.one(6) {
				policy = " policy drop;"
			}
			g.add("add chain %s %s %s { type %s hook %s priority %d;%s }", g.family, g.table, name, place.kind, h, g.priority(place.kind, h), policy)
			chains = append(chains, chain{name, nftPlace{place.kind, []string{h}}, users})
		}
		for i, u := range users {
			g.add("add chain %s %s %s", g.family, g.table, u)
			chains = append(chains, chain{u, place, users[i+1:]})
		}
	}
	g.namedSets()
	for _, c := range chains {
		base := !strings.HasPrefix(c.name, "u")
		if base && g.guard {
			icmp := "icmp type destination-unreachable accept"
			if !g.p.v4 {
				icmp = "icmpv6 type destination-unreachable accept"
			}
			g.rule(c.name, icmp)
			g.rule(c.name, "tcp flags & rst == rst accept")
		}
		n := d.IntN(4)
		if base {
			n++
		}
		for range n {
			g.rule(c.name, g.randomRule(c.place, c.users))
		}
	}
}

// priority is one of those that are in use in the world, or between them.
func (g *nftGenerator) priority(kind, hook string) int {
	d := g.d
	switch {
	case kind == "nat" && (hook == "prerouting" || hook == "output"):
		return pick(d, -100, -100, -101, -99, -50, -110)
	case kind == "nat":
		return pick(d, 100, 100, 99, 101, 90)
	case kind == "route":
		return pick(d, -150, -150, 0, -90)
	case hook == "prerouting":
		return pick(d, -300, -150, -110, -90, 0, -199, -450)
	case hook == "output":
		return pick(d, -300, -150, -110, -90, 0, 10, -450)
	case hook == "postrouting":
		return pick(d, -150, 0, 99, 101, 300)
	}
	return pick(d, -150, -1, 0, 0, 10, 50)
}

// namedSets makes sets with elements that packets meet.
func (g *nftGenerator) namedSets() {
	d, p := g.d, g.p
	source, destination := g.ip()+" saddr", g.ip()+" daddr"
	addresses := slices.Concat(p.pods, p.remote, p.nodes, p.clients["ext"], p.outside)
	some := func(n int, f func() string) string {
		var out []string
		for range 1 + d.IntN(n) {
			if e := f(); !slices.Contains(out, e) {
				out = append(out, e)
			}
		}
		return strings.Join(out, ", ")
	}
	addr := func() string { return pick(d, addresses...).String() }
	port := func() string { return pick(d, "80", "443", "53", "8080", "30080") }
	proto := func() string { return pick(d, "tcp", "tcp", "udp", "sctp") }
	set := func(typ, flags, elements string) string {
		name := fmt.Sprintf("s%d", len(g.sets))
		g.add("add set %s %s %s { type %s; %s elements = { %s }; }", g.family, g.table, name, typ, flags, elements)
		return name
	}
	if d.one(2) {
		g.sets = append(g.sets, nftSet{name: set(g.addrType(), "", some(5, addr)), key: pick(d, source, destination)})
	}
	if d.one(2) {
		elements := some(4, func() string { return g.network() })
		g.sets = append(g.sets, nftSet{name: set(g.addrType(), "flags interval; auto-merge;", elements), key: pick(d, source, destination)})
	}
	if d.one(2) {
		elements := some(5, func() string { return addr() + " . " + proto() + " . " + port() })
		g.sets = append(g.sets, nftSet{set(g.addrType()+" . inet_proto . inet_service", "", elements), destination + " . meta l4proto . th dport", "ports"})
	}
	if d.one(3) {
		elements := some(4, func() string { return addr() + " . " + pick(d, "80", "1-1000", "8000-9000") })
		g.sets = append(g.sets, nftSet{set(g.addrType()+" . inet_service", "flags interval;", elements), destination + " . th dport", "ports"})
	}
	if d.one(4) {
		g.sets = append(g.sets, nftSet{name: set("ifname", "flags interval;", pick(d, "\"ext\", \"p*\"", "\"eth1\"", "\"p1\", \"e*\"")), key: "iifname"})
	}
	if d.one(4) {
		g.sets = append(g.sets, nftSet{set("inet_service", "flags interval;", pick(d, "80, 443", "1-1023", "53, 8000-9000")), "th dport", "ports"})
	}
	if d.one(3) {
		g.dynamic = "dyn"
		g.add("add set %s %s dyn { type %s; flags dynamic,timeout; timeout 60s; size 1000; }", g.family, g.table, g.addrType())
	}
	if d.one(4) {
		g.add("add map %s %s marks { type %s : mark; elements = { %s : 0x1, %s : 0x2 }; }", g.family, g.table, g.addrType(), p.pods[0], p.clients["ext"][0])
	}
	if d.one(4) {
		g.add("add counter %s %s cnt", g.family, g.table)
		g.add("add quota %s %s quo { over 1000 mbytes }", g.family, g.table)
		g.add("add limit %s %s lim { rate 10000/second }", g.family, g.table)
	}
}

// netdev writes chains on interfaces: at ingress and egress, of family netdev, or inet.
func (g *nftGenerator) netdev() {
	d := g.d
	g.add("add table netdev nd")
	table, dev := "netdev nd", pick(d, "ext", "p1")
	hook := pick(d, "ingress", "ingress", "egress")
	if hook == "ingress" && d.one(3) {
		table = "inet ndi"
		g.add("add table inet ndi")
	}
	g.add("add chain %s dev { type filter hook %s device %s priority %d; }", table, hook, dev, pick(d, 0, -10))
	verdicts := []string{"drop", "meta mark set 0x1", "accept", "counter"}
	if table == "netdev nd" {
		verdicts = append(verdicts, "fwd to "+pick(d, "eth1", "p2"))
	}
	for range 1 + d.IntN(2) {
		g.add("add rule %s dev %s daddr %s %s", table, g.ip(), g.network(), pick(d, verdicts...))
	}
}

// generalNFTCase is a node with random nftables rules.
func generalNFTCase(seed, n uint64) *Case {
	d := newDice(seed, n)
	p := &pool4
	if d.one(3) {
		p = &pool6
	}
	g := &nftGenerator{d: d, p: p, guard: !d.one(3)}
	c := &Case{AnswersMayDie: !g.guard}
	c.Steps = append(c.Steps, randomNode(d, p)...)
	rules := g.tables(1 + d.IntN(3))
	// The kernel may find no way to answer a packet whose destination a rule has overwritten.
	// Nor does a guard stand in a chain behind POSTROUTING.
	c.AnswersMayDie = c.AnswersMayDie || strings.Contains(rules, "daddr set") || strings.Contains(rules, "hook egress")
	c.Steps = append(c.Steps, Step{"nft", rules})
	c.Name = fmt.Sprintf("general nft seed %d number %d", seed, n)
	c.Shots = generalShots(d, p, 24)
	return c
}
