//go:build linux

package oracle

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// chainPlace is where a chain is: its table, and the hooks that packets reach it from.
type chainPlace struct {
	table string
	hooks []string
}

func (c chainPlace) only(hooks ...string) bool {
	for _, h := range c.hooks {
		if !slices.Contains(hooks, h) {
			return false
		}
	}
	return true
}

// xtTables lists the hooks of each table; the chains of one group may call each other's user chains.
var xtTables = []struct {
	name   string
	groups [][]string
}{
	{"raw", [][]string{{"PREROUTING", "OUTPUT"}}},
	{"mangle", [][]string{{"PREROUTING"}, {"INPUT", "FORWARD"}, {"OUTPUT"}, {"POSTROUTING"}}},
	{"nat", [][]string{{"PREROUTING", "OUTPUT"}, {"INPUT"}, {"POSTROUTING"}}},
	{"filter", [][]string{{"INPUT", "FORWARD", "OUTPUT"}}},
	{"security", [][]string{{"INPUT", "FORWARD", "OUTPUT"}}},
}

// xtGenerator writes random iptables rules.
type xtGenerator struct {
	d dice
	p *pool
	// nft is set when the rules are for the nft backend.
	nft bool
	// sets are the ipsets that rules may name.
	sets []ipSet
	// guard lets the answers of refusals pass every chain.
	guard bool
	// bridged is set when the node has a bridge.
	bridged bool
}

// tables writes rules for some tables.
func (g *xtGenerator) tables() string {
	var b strings.Builder
	for _, t := range xtTables {
		if t.name != "filter" && t.name != "nat" && !g.d.one(3) {
			continue
		}
		if t.name == "nat" && g.d.one(4) {
			continue
		}
		g.table(&b, t.name, t.groups)
	}
	return b.String()
}

func (g *xtGenerator) table(b *strings.Builder, table string, groups [][]string) {
	d := g.d
	fmt.Fprintf(b, "*%s\n", table)
	var rules []string
	for gi, hooks := range groups {
		place := chainPlace{table, hooks}
		var users []string
		for i := range d.IntN(4) {
			users = append(users, fmt.Sprintf("u%d-%d", gi, i))
		}
		for _, h := range hooks {
			policy := "ACCEPT"
			if table == "filter" && d.one(5) {
				policy = "DROP"
			}
			fmt.Fprintf(b, ":%s %s [0:0]\n", h, policy)
		}
		for _, u := range users {
			fmt.Fprintf(b, ":%s - [0:0]\n", u)
		}
		for _, h := range hooks {
			if g.guard && (h == "OUTPUT" || h == "INPUT" || h == "POSTROUTING" || h == "PREROUTING") {
				rules = append(rules, g.guards(h)...)
			}
			if d.one(5) {
				continue
			}
			for range 1 + d.IntN(4) {
				rules = append(rules, "-A "+h+" "+g.rule(chainPlace{table, []string{h}}, users))
			}
		}
		for i, u := range users {
			for range d.IntN(4) {
				rules = append(rules, "-A "+u+" "+g.rule(place, users[i+1:]))
			}
		}
	}
	b.WriteString(strings.Join(rules, "\n"))
	b.WriteString("\nCOMMIT\n")
}

// guards accept ICMP errors and resets.
func (g *xtGenerator) guards(hook string) []string {
	icmp := "-p icmp --icmp-type destination-unreachable"
	if !g.p.v4 {
		icmp = "-p icmpv6 --icmpv6-type destination-unreachable"
	}
	return []string{
		"-A " + hook + " " + icmp + " -j ACCEPT",
		"-A " + hook + " -p tcp --tcp-flags RST RST -j ACCEPT",
	}
}

// not is "! " sometimes.
func (g *xtGenerator) not() string {
	if g.d.one(4) {
		return "! "
	}
	return ""
}

func (g *xtGenerator) rule(c chainPlace, users []string) string {
	d := g.d
	proto := pick(d, "", "", "tcp", "tcp", "udp", "udp", "sctp", "icmp")
	target, needs := g.target(c, users, proto)
	if needs != "" {
		proto = needs
	}
	var parts []string
	if proto != "" {
		parts = append(parts, g.protocol(proto))
	}
	for range d.weighted(3, 6, 3, 1) {
		m := g.match(c, proto)
		kind := strings.Fields(strings.TrimPrefix(m, "! "))
		same := func(x string) bool {
			f := strings.Fields(strings.TrimPrefix(x, "! "))
			return len(f) > 1 && len(kind) > 1 && f[0] == kind[0] && (f[0] != "-m" || f[1] == kind[1])
		}
		if m != "" && !slices.ContainsFunc(parts, same) {
			parts = append(parts, m)
		}
	}
	return strings.Join(append(parts, target), " ")
}

// protocol is a protocol with, mostly, something of its header.
func (g *xtGenerator) protocol(proto string) string {
	d := g.d
	switch proto {
	case "icmp":
		if !g.p.v4 {
			if d.one(2) {
				return "-p icmpv6 --icmpv6-type " + pick(d, "echo-request", "128", "1/4", "destination-unreachable")
			}
			return "-p icmpv6"
		}
		if d.one(2) {
			return "-p icmp -m icmp " + g.not() + "--icmp-type " + pick(d, "echo-request", "8", "any", "3/3", "echo-reply")
		}
		return "-p icmp"
	case "tcp":
		switch d.IntN(8) {
		case 0:
			return "-p tcp -m tcp " + g.not() + "--syn"
		case 1:
			return "-p tcp -m tcp " + g.not() + "--tcp-flags " + pick(d, "SYN,ACK SYN", "ALL SYN", "FIN,RST NONE", "SYN,RST,ACK ACK")
		}
	case "sctp":
		switch d.IntN(6) {
		case 0:
			return "-p sctp -m sctp --chunk-types " + pick(d, "any INIT", "all INIT", "only INIT", "any DATA")
		}
	}
	switch d.IntN(6) {
	case 0:
		return "-p " + proto
	case 1:
		return fmt.Sprintf("-p %s -m %s %s--sport %s", proto, proto, g.not(), pick(d, "20000:20020", "20010:65535", "0:1023", "20001"))
	case 2:
		return fmt.Sprintf("-p %s -m multiport %s--%s %s", proto, g.not(), pick(d, "dports", "ports", "sports"), pick(d, "80,443", "53", "20001:20015", "80,8000:9000,30080"))
	}
	return fmt.Sprintf("-p %s -m %s %s--dport %s", proto, proto, g.not(), pick(d, "80", "443", "53", "30080", "1:1023", "80:8080"))
}

// prefix is a network that often holds one of the addresses.
func (g *xtGenerator) prefix(from ...netip.Addr) string {
	a := pick(g.d, from...)
	bits := pick(g.d, a.BitLen(), a.BitLen(), a.BitLen()-8, a.BitLen()-16, a.BitLen()-3)
	return netip.PrefixFrom(a, bits).Masked().String()
}

func (g *xtGenerator) sources() []netip.Addr {
	p := g.p
	return slices.Concat(p.clients["ext"], p.clients["eth1"], p.pods, p.nodes)
}

func (g *xtGenerator) destinations() []netip.Addr {
	p := g.p
	return slices.Concat(p.pods, p.remote, p.nodes, p.outside, p.cluster[:2])
}

// generalCase is a node with random iptables rules in one backend.
func generalIPTablesCase(seed, n uint64) *Case {
	d := newDice(seed, n)
	p, tool := &pool4, "iptables"
	if d.one(3) {
		p, tool = &pool6, "ip6tables"
	}
	g := &xtGenerator{d: d, p: p, nft: d.one(2), guard: !d.one(3)}
	c := &Case{AnswersMayDie: !g.guard}
	if d.one(2) {
		g.sets = randomSets(d, p)
		c.Steps = append(c.Steps, Step{"ipset", formatSets(g.sets)})
	}
	c.Steps = append(c.Steps, randomNode(d, p)...)
	tool += map[bool]string{true: "-nft", false: "-legacy"}[g.nft]
	c.Steps = append(c.Steps, Step{tool, g.tables()})
	c.Name = fmt.Sprintf("general iptables seed %d number %d: %s", seed, n, tool)
	c.Shots = generalShots(d, p, 24)
	return c
}
