//go:build linux

package oracle

import (
	"fmt"
	"net/netip"
	"strings"
)

// bridgeCase is a node with pods 2 and 3 on a bridge: frames between them, and packets through the node. The IP hooks see
// the bridge's frames when bridge-nf-call is on.
func bridgeCase(seed, n uint64) *Case {
	d := newDice(seed, n)
	p := &pool4
	if d.one(3) {
		p = &pool6
	}
	c := &Case{Name: fmt.Sprintf("bridge seed %d number %d", seed, n), AnswersMayDie: true}
	c.Steps = append(c.Steps, bridgeSteps(d)...)
	switch d.IntN(3) {
	case 0:
		g := &xtGenerator{d: d, p: p, nft: d.one(2), bridged: true}
		tool := "iptables"
		if !p.v4 {
			tool = "ip6tables"
		}
		c.Steps = append(c.Steps, Step{tool + map[bool]string{true: "-nft", false: "-legacy"}[g.nft], g.tables()})
	case 1:
		g := &nftGenerator{d: d, p: p, bridged: true}
		rules := g.tables(1 + d.IntN(2))
		c.Steps = append(c.Steps, Step{"nft", rules})
	}
	c.Steps = append(c.Steps, Step{"nft", bridgeRules(d, p)})
	c.Shots = append(bridgeShots(d, p, 14), generalShots(d, p, 6)...)
	var ports sourcePorts
	for i, s := range c.Shots {
		if s.Src.Port() != 0 {
			c.Shots[i].Src = netip.AddrPortFrom(s.Src.Addr(), ports.take())
		}
		if s.From == "p2" || s.From == "p3" {
			c.Shots[i].To = pick(d, "bridge", "bridge", c.Shots[i].To)
			if s.To != "" {
				c.Shots[i].To = s.To
			}
			if c.Shots[i].To == "" {
				c.Shots[i].To = "bridge"
			}
		}
	}
	return c
}

// bridgeSteps put pods 2 and 3 on a bridge, which knows where they are.
func bridgeSteps(d dice) []Step {
	lines := []string{"link add br0 address " + macText(bridgeMAC) + " type bridge", "link set br0 up",
		"addr add 10.244.1.1/32 dev br0", "addr add fd00:10:244:1::1/128 dev br0 nodad"}
	var fdb []string
	for i, port := range []string{"p2", "p3"} {
		lines = append(lines, "link set "+port+" master br0")
		for _, pods := range [][]netip.Addr{pool4.pods, pool6.pods} {
			a := pods[i+1]
			lines = append(lines, fmt.Sprintf("route del %s/%d dev %s", a, a.BitLen(), port), fmt.Sprintf("route add %s/%d dev br0", a, a.BitLen()),
				fmt.Sprintf("neigh add %s lladdr %s dev br0 nud permanent", a, macText(mac(3+i, true))))
		}
		fdb = append(fdb, fmt.Sprintf("fdb add %s dev %s master static", macText(mac(3+i, true)), port))
	}
	call := d.IntN(2)
	return []Step{
		{"ip", strings.Join(lines, "\n") + "\n"},
		{"bridge", strings.Join(fdb, "\n") + "\n"},
		{"sysctl", fmt.Sprintf("net/bridge/bridge-nf-call-iptables=%d\nnet/bridge/bridge-nf-call-ip6tables=%d\n", call, call)},
	}
}

// bridgeRules are rules in the bridge's own hooks.
func bridgeRules(d dice, p *pool) string {
	ip := map[bool]string{true: "ip", false: "ip6"}[p.v4]
	var b strings.Builder
	fmt.Fprintln(&b, "add table bridge b")
	for _, hook := range []string{"prerouting", "input", "forward", "output", "postrouting"} {
		if !d.one(2) {
			continue
		}
		fmt.Fprintf(&b, "add chain bridge b %s { type filter hook %s priority %d; }\n", hook, hook, pick(d, -300, -200, -1, 0, 10, 300))
		for range 1 + d.IntN(2) {
			match := pick(d,
				fmt.Sprintf("%s daddr %s", ip, pick(d, p.pods[1:]...)), fmt.Sprintf("%s saddr %s", ip, pick(d, p.pods...)), "tcp dport 80", "udp dport { 53, 80 }",
				"meta mark 0x1", "meta l4proto sctp", "numgen random mod 2 0", fmt.Sprintf("%s daddr %s tcp dport 443", ip, p.pods[2]), "meta pkttype host")
			switch hook {
			case "prerouting", "input", "forward":
				match += pick(d, "", " iifname \"p2\"", " iifname \"p3\"")
			}
			fmt.Fprintf(&b, "add rule bridge b %s %s %s\n", hook, match, pick(d, "drop", "meta mark set 0x1", "accept", "counter"))
		}
	}
	return b.String()
}

// bridgeShots are frames between the pods on the bridge, and beyond.
func bridgeShots(d dice, p *pool, n int) []Shot {
	var shots []Shot
	for range n {
		from := 1 + d.IntN(2)
		s := Shot{From: fmt.Sprintf("p%d", from+1), Proto: pick[uint8](d, protoTCP, protoTCP, protoUDP, protoUDP, protoSCTP), Then: pick(d, 0, 0, 1, 2), To: "bridge"}
		dst := pick(d, p.pods[0], p.remote[0], p.outside[0], p.nodes[0], p.cluster[0])
		if !d.one(3) {
			dst, s.To = p.pods[3-from], fmt.Sprintf("p%d", 4-from)
		}
		s.Src, s.Dst = netip.AddrPortFrom(p.pods[from], 1), netip.AddrPortFrom(dst, pick[uint16](d, 80, 443, 53))
		shots = append(shots, s)
	}
	return shots
}
