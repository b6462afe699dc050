//go:build linux

package oracle

import (
	"fmt"
	"slices"
	"strings"
)

// chain is an nftables chain in the input of a tool.
type chain struct {
	// xtables is true for a chain of iptables-nft. Then the family is ip or ip6 by the tool.
	xtables             bool
	family, table, name string
	base                bool
	// hook is how a base chain of nft is declared.
	hook string
	// declare is the line behind which another chain of the table can be declared; rules are the lines of the chain's rules.
	declare int
	rules   []int
}

var xtBaseChains = []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}

// of tells whether the chain sees packets of the addresses' family.
func (c chain) of(p *pool) bool {
	return c.family == "inet" || c.family == map[bool]string{true: "ip", false: "ip6"}[p.v4]
}

// declaration declares another chain of the table.
func (c chain) declaration(name string) string {
	if c.xtables {
		return ":" + name + " - [0:0]"
	}
	return fmt.Sprintf("add chain %s %s %s", c.family, c.table, name)
}

// chainsOf lists the nftables chains that a step adds rules to. Generators write one command a line.
func chainsOf(s Step) []chain {
	var out []chain
	in := func(family, table, name string, xtables bool) *chain {
		i := slices.IndexFunc(out, func(c chain) bool { return c.family == family && c.table == table && c.name == name })
		if i < 0 {
			out = append(out, chain{family: family, table: table, name: name, xtables: xtables})
			i = len(out) - 1
		}
		return &out[i]
	}
	lines := strings.Split(s.Input, "\n")
	switch s.Tool {
	case "iptables-nft", "ip6tables-nft":
		family := map[bool]string{true: "ip", false: "ip6"}[s.Tool == "iptables-nft"]
		table, declare := "", 0
		for i, line := range lines {
			f := strings.Fields(line)
			switch {
			case strings.HasPrefix(line, "*"):
				table, declare = strings.TrimPrefix(line, "*"), i
			case len(f) > 2 && f[0] == "-A":
				c := in(family, table, f[1], true)
				c.base, c.declare, c.rules = slices.Contains(xtBaseChains, f[1]), declare, append(c.rules, i)
			}
		}
	case "nft":
		tables := map[string]int{}
		for i, line := range lines {
			f := strings.Fields(line)
			switch {
			case len(f) > 3 && f[0] == "add" && f[1] == "table":
				tables[f[2]+" "+f[3]] = i
			case len(f) > 5 && f[0] == "add" && f[1] == "chain" && f[5] == "{":
				c := in(f[2], f[3], f[4], false)
				c.base, c.hook = true, line
			case len(f) > 5 && f[0] == "add" && f[1] == "rule":
				c := in(f[2], f[3], f[4], false)
				c.declare, c.rules = tables[f[2]+" "+f[3]], append(c.rules, i)
			}
		}
	}
	return slices.DeleteFunc(out, func(c chain) bool { return len(c.rules) == 0 })
}

// longest is how many rules the longest nftables chain of a case has.
func longest(c *Case) int {
	n := 0
	for _, s := range c.Steps {
		for _, ch := range chainsOf(s) {
			n = max(n, len(ch.rules))
		}
	}
	return n
}
