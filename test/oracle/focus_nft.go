//go:build linux

package oracle

import (
	"fmt"
	"strings"
)

// nftFocus is a rule whose construct decides: a match in front of a drop, or a statement whose effect a later rule shows.
type nftFocus struct {
	// expression is the kernel's expression that the rule is for.
	expression string
	// hooks are where it may stand.
	hooks string
	text  string
	// v4only is set when it has no IPv6 form here.
	v4only bool
}

func nftFocuses(d dice, p *pool) []nftFocus {
	ip := map[bool]string{true: "ip", false: "ip6"}[p.v4]
	const everywhere, in = "prerouting input forward output postrouting", "prerouting input forward"
	src, pod := p.clients["ext"][0], p.pods[0]
	return []nftFocus{
		{"bitwise", everywhere, "meta mark & 0x3 == 0x1 drop", false}, {"bitwise", everywhere, "ct mark | 0x2 == 0x3 drop", false},
		{"bitwise", "forward output", "tcp flags & (syn|ack) == syn drop", false},
		{"bitwise", in, fmt.Sprintf("%s saddr & %s == %s drop", ip, map[bool]string{true: "255.255.255.0", false: "ffff:ffff:ffff:ffff::"}[p.v4], p.podCIDR.Addr()), false},
		{"byteorder", everywhere, "meta mark 0x1-0x10 drop", false}, {"byteorder", everywhere, "ct mark < 0x5 meta mark > 0x0 drop", false},
		{"cmp", everywhere, fmt.Sprintf("%s daddr %s drop", ip, pod), false}, {"cmp", everywhere, "th dport < 100 drop", false},
		{"connlimit", "forward input", "ct count over 1 drop", false}, {"counter", everywhere, "counter drop", false},
		{"ct", "forward postrouting", "ct status dnat drop", false}, {"ct", everywhere, "ct direction original drop", false},
		{"ct", "forward", fmt.Sprintf("ct original %s daddr %s drop", ip, p.nodes[0]), false}, {"ct", "forward", "ct mark 0x1 drop", false},
		{"dup", "prerouting", fmt.Sprintf("udp dport 53 dup to %s device eth1", p.remote[2]), false},
		{"dynset", in, fmt.Sprintf("add @seen { %s saddr } drop", ip), false}, {"dynset", in, fmt.Sprintf("update @seen { %s saddr limit rate over 1000/second } drop", ip), false},
		{"dynset", in, fmt.Sprintf("%s saddr @seen drop", ip), false},
		{"exthdr", everywhere, "tcp option maxseg size > 1 drop", false},
		{"fib", everywhere, "fib daddr type local drop", false}, {"fib", "prerouting", "fib saddr . iif oif missing drop", false}, {"fib", in, "fib saddr . iif oif eq 0 drop", false},
		{"fib", in, "fib saddr oifname \"p1\" drop", false}, {"fib", in, "fib daddr . iif type local drop", false},
		{"hash", everywhere, fmt.Sprintf("jhash %s saddr . %s daddr mod 2 seed 0x%x 1 drop", ip, ip, d.IntN(1<<30)+1), false}, {"hash", everywhere, "symhash mod 2 1 drop", false},
		{"immediate", "forward", "meta mark set 0x2", false}, {"limit", everywhere, "limit rate 1000/second drop", false},
		{"log", everywhere, "log drop", false},
		{"lookup", everywhere, fmt.Sprintf("%s daddr @addrs drop", ip), false}, {"lookup", everywhere, fmt.Sprintf("%s daddr != @addrs drop", ip), false},
		{"lookup", everywhere, fmt.Sprintf("%s daddr . meta l4proto . th dport vmap @verdicts", ip), false}, {"lookup", everywhere, fmt.Sprintf("%s daddr . th dport @ranges drop", ip), false},
		{"lookup", everywhere, fmt.Sprintf("meta mark set %s saddr map @marks", ip), false},
		{"meta", everywhere, "meta l4proto udp drop", false}, {"meta", in, "iifname \"p*\" drop", false}, {"meta", in, "iifgroup 5 drop", false}, {"meta", in, "iif \"ext\" drop", false},
		{"meta", "forward output postrouting", "oifname { \"p1\", \"eth1\" } drop", false}, {"meta", "forward", "meta iifkind \"veth\" drop", false}, {"meta", in, "meta pkttype host drop", false},
		{"meta", "output", "meta skuid 0 drop", false}, {"meta", everywhere, "meta nfproto ipv4 drop", false}, {"meta", everywhere, "meta priority set 1:2 meta priority 1:2 drop", false},
		{"meta", everywhere, "meta length < 1500 drop", false},
		{"notrack", "prerouting", "meta l4proto udp notrack", false}, {"numgen", everywhere, "numgen random mod 4 1-2 drop", false}, {"numgen", everywhere, "numgen inc mod 2 0 drop", false},
		{"objref", everywhere, "counter name \"c\" drop", false}, {"objref", everywhere, "limit name \"l\" drop", false}, {"objref", everywhere, "quota name \"q\" drop", false},
		{"payload", everywhere, "@th,16,16 80 drop", false}, {"payload", "prerouting forward", ip + " dscp set cs1", false}, {"payload", "prerouting", fmt.Sprintf("%s saddr %s %s daddr set %s", ip, src, ip, pod), false},
		{"payload", everywhere, "ip ttl > 1 drop", true}, {"payload", everywhere, "icmp type echo-request drop", true},
		{"quota", everywhere, "quota until 1000 mbytes drop", false},
		{"range", everywhere, fmt.Sprintf("%s daddr != %s-%s drop", ip, p.pods[0], p.pods[1]), false}, {"range", everywhere, "th sport != 20001-20010 drop", false},
		{"reject", "input forward output prerouting", "reject", false}, {"reject", "forward output", "reject with icmpx type admin-prohibited", false},
		{"reject", "forward", "meta l4proto tcp reject with tcp reset", false},
		{"rt", "forward postrouting output", fmt.Sprintf("rt %s nexthop %s drop", ip, map[bool]string{true: "192.0.2.254", false: "2001:db8:1::fe"}[p.v4]), false}, {"rt", "forward", "rt classid 0 drop", true},
		{"socket", "prerouting input", "socket transparent 1 drop", false}, {"tproxy", "prerouting", "meta l4proto tcp tproxy to :15001 accept", false},
		{"bitwise", in, fmt.Sprintf("ct mark set mark and 0xf or 0x1 ct mark 0x1 %s daddr %s drop", ip, pod), false},
	}
}

// nftNATs are translations, each of one expression, in a nat chain of the hook.
func nftNATs(d dice, p *pool) []nftFocus {
	ip := map[bool]string{true: "ip", false: "ip6"}[p.v4]
	return []nftFocus{
		{"masq", "postrouting", "masquerade", false}, {"masq", "postrouting", "masquerade fully-random", false}, {"masq", "postrouting", "meta l4proto udp masquerade to :40000-41000", false},
		{"redir", "prerouting output", "redirect", false}, {"redir", "prerouting output", "meta l4proto tcp redirect to :8080", false},
		{"nat", "postrouting", "snat " + ip + " to " + p.nodes[1].String(), false}, {"nat", "input", "snat " + ip + " to " + p.outside[0].String(), false},
		{"nat", "prerouting output", "dnat " + ip + " to " + p.pods[1].String(), false}, {"nat", "prerouting output", "meta l4proto udp dnat " + ip + " to " + end(p.pods[1], 5353), false},
		{"nat", "prerouting", fmt.Sprintf("dnat %s to %s-%s", ip, p.pods[0], p.pods[2]), false}, {"nat", "prerouting", fmt.Sprintf("dnat %s to %s-%s persistent", ip, p.pods[0], p.pods[2]), false},
		{"nat", "prerouting", fmt.Sprintf("dnat %s prefix to %s", ip, p.podCIDR), false},
		{"nat", "prerouting output", fmt.Sprintf("meta l4proto { tcp, udp } dnat %s addr . port to numgen random mod 2 map { 0 : %s . 80, 1 : %s . 8080 }", ip, p.pods[0], p.pods[1]), false},
		{"nat", "postrouting", fmt.Sprintf("snat %s to %s-%s random", ip, p.outside[0], p.outside[0].Next().Next()), false},
	}
}

// nftFocusCase is the n-th of the rules, between rules that make marks and show them.
func nftFocusCase(seed, n uint64) *Case {
	d := newDice(seed, n)
	p := pick(d, &pool4, &pool6)
	choose := func() nftFocus {
		if n%4 == 3 {
			all := nftNATs(d, p)
			return all[int(n/4)%len(all)]
		}
		all := nftFocuses(d, p)
		return all[int(n-n/4)%len(all)]
	}
	f := choose()
	if f.v4only {
		p = &pool4
		f = choose()
	}
	ip, typ := "ip", "ipv4_addr"
	if !p.v4 {
		ip, typ = "ip6", "ipv6_addr"
	}
	family := pick(d, ip, "inet")
	if strings.Contains(f.text, "icmpx") || strings.Contains(f.text, "nfproto") {
		family = "inet"
	}
	kind, priority := "filter", pick(d, "-5", "10", "-149")
	if n%4 == 3 {
		kind, priority = "nat", "0"
	}
	if f.expression == "dup" {
		family = ip
	}
	if f.expression == "notrack" {
		priority = "-250"
	}
	var lines []string
	add := func(format string, a ...any) {
		lines = append(lines, strings.NewReplacer("FAM", family, "TYPE", typ).Replace(fmt.Sprintf(format, a...)))
	}
	add("add table FAM t")
	add("add set FAM t seen { type TYPE; flags dynamic,timeout; timeout 60s; size 100; }")
	add("add set FAM t addrs { type TYPE; flags interval; elements = { %s, %s-%s }; }", p.nodeCIDR, p.pods[0], p.pods[1])
	add("add set FAM t ranges { type TYPE . inet_service; flags interval; elements = { %s . 1-100, %s . 400-8080 }; }", p.podCIDR, p.nodes[0])
	add("add map FAM t verdicts { type TYPE . inet_proto . inet_service : verdict; elements = { %s . tcp . 80 : drop, %s . udp . 53 : accept, %s . tcp . 443 : drop }; }", p.pods[0], p.pods[1], p.pods[2])
	add("add map FAM t marks { type TYPE : mark; elements = { %s : 0x2, %s : 0x3 }; }", p.clients["ext"][0], p.pods[0])
	add("add counter FAM t c")
	add("add quota FAM t q { 1000 mbytes }")
	add("add limit FAM t l { rate 1000/second }")
	add("add chain FAM t first { type filter hook prerouting priority -150; }")
	add("add rule FAM t first iifname \"p1\" meta mark set 0x1")
	add("add rule FAM t first iifname \"p2\" ct mark set 0x1")
	add("add chain FAM t translate { type nat hook prerouting priority -100; }")
	add("add rule FAM t translate %s daddr %s th dport 53 dnat %s to %s", ip, p.nodes[0], map[bool]string{true: ip}[family == "inet"], p.pods[0])
	for _, h := range strings.Fields(f.hooks) {
		add("add chain FAM t focus_%s { type %s hook %s priority %s; }", h, kind, h, priority)
		add("add rule FAM t focus_%s %s", h, f.text)
	}
	add("add chain FAM t show { type filter hook forward priority 20; }")
	add("add rule FAM t show meta mark 0x2 drop")
	add("add rule FAM t show ct state untracked drop")
	add("add rule FAM t show %s dscp cs1 drop", ip)
	return &Case{
		Name:          fmt.Sprintf("nft focus seed %d number %d: %s %s: %s", seed, n, family, f.expression, f.text),
		AnswersMayDie: true,
		Steps:         []Step{{"ip", "link set dev p1 group 5\n"}, {"nft", strings.Join(lines, "\n") + "\n"}},
		Shots:         generalShots(d, p, 9),
	}
}
