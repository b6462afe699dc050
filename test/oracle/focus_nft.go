//go:build linux

package oracle

import (
	"fmt"
	"slices"
	"strings"
)

// nftFocus is a rule whose construct decides: a match in front of a drop, or a statement whose effect a later rule shows.
type nftFocus struct {
	// expression is the kernel's expression that the rule is for.
	expression string
	// hooks are where it may stand.
	hooks string
	text  string
	// v4only is set when it has no IPv6 form here, v6only when it has no IPv4 form.
	v4only, v6only bool
	// send are the packets that it is for, besides those that every case has; before are steps that it needs.
	send   func(d dice, p *pool) []Shot
	before []Step
}

func nftFocuses(d dice, p *pool) []nftFocus {
	ip := map[bool]string{true: "ip", false: "ip6"}[p.v4]
	const everywhere, in = "prerouting input forward output postrouting", "prerouting input forward"
	src, pod := p.clients["ext"][0], p.pods[0]
	return []nftFocus{
		{expression: "bitwise", hooks: everywhere, text: "meta mark & 0x3 == 0x1 drop"}, {expression: "bitwise", hooks: everywhere, text: "ct mark | 0x2 == 0x3 drop"},
		{expression: "bitwise", hooks: "forward output", text: "tcp flags & (syn|ack) == syn drop"},
		{expression: "bitwise", hooks: in, text: fmt.Sprintf("%s saddr & %s == %s drop", ip, map[bool]string{true: "255.255.255.0", false: "ffff:ffff:ffff:ffff::"}[p.v4], p.podCIDR.Addr())},
		{expression: "byteorder", hooks: everywhere, text: "meta mark 0x1-0x10 drop"}, {expression: "byteorder", hooks: everywhere, text: "ct mark < 0x5 meta mark > 0x0 drop"},
		{expression: "cmp", hooks: everywhere, text: fmt.Sprintf("%s daddr %s drop", ip, pod)}, {expression: "cmp", hooks: everywhere, text: "th dport < 100 drop"},
		{expression: "connlimit", hooks: "forward input", text: "ct count over 1 drop"}, {expression: "counter", hooks: everywhere, text: "counter drop"},
		{expression: "ct", hooks: "forward postrouting", text: "ct status dnat drop"}, {expression: "ct", hooks: everywhere, text: "ct direction original drop"},
		{expression: "ct", hooks: "forward", text: fmt.Sprintf("ct original %s daddr %s drop", ip, p.nodes[0])}, {expression: "ct", hooks: "forward", text: "ct mark 0x1 drop"},
		{expression: "dup", hooks: "prerouting", text: fmt.Sprintf("udp dport 53 dup to %s device eth1", p.remote[2])},
		{expression: "dynset", hooks: in, text: fmt.Sprintf("add @seen { %s saddr } drop", ip)}, {expression: "dynset", hooks: in, text: fmt.Sprintf("update @seen { %s saddr limit rate over 1000/second } drop", ip)},
		{expression: "dynset", hooks: in, text: fmt.Sprintf("%s saddr @seen drop", ip)},
		{expression: "exthdr", hooks: everywhere, text: "tcp option maxseg size 1460 drop", send: optionShots}, {expression: "exthdr", hooks: everywhere, text: "tcp option sack-perm exists drop", send: optionShots},
		{expression: "exthdr", hooks: everywhere, text: "tcp option maxseg missing meta l4proto tcp drop", send: optionShots},
		{expression: "exthdr", hooks: everywhere, text: "exthdr hbh exists drop", v6only: true, send: withHeaders("hbh")}, {expression: "exthdr", hooks: everywhere, text: "dst hdrlength 0 drop", v6only: true, send: withHeaders("hbh", "dst")},
		{expression: "exthdr", hooks: everywhere, text: "rt type 253 drop", v6only: true, send: withHeaders("rt")}, {expression: "exthdr", hooks: everywhere, text: "rt seg-left 0 drop", v6only: true, send: withHeaders("dst", "rt")},
		{expression: "exthdr", hooks: everywhere, text: "frag more-fragments 1 drop", v6only: true, send: cutShots}, {expression: "exthdr", hooks: everywhere, text: "frag frag-off 5 drop", v6only: true, send: cutShots},
		{expression: "exthdr", hooks: everywhere, text: "exthdr frag missing drop", v6only: true, send: cutShots}, {expression: "exthdr", hooks: everywhere, text: "ip option ra exists drop", v4only: true, send: withOptions("ra")},
		{expression: "exthdr", hooks: everywhere, text: "sctp chunk init exists drop"}, {expression: "exthdr", hooks: everywhere, text: "sctp chunk data missing meta l4proto sctp drop"},
		{expression: "payload", hooks: everywhere, text: "ip frag-off & 0x1fff != 0 drop", v4only: true, send: cutShots}, {expression: "payload", hooks: everywhere, text: "ip frag-off & 0x2000 != 0 drop", v4only: true, send: cutShots},
		{expression: "payload", hooks: everywhere, text: "th dport 53 drop", send: cutShots}, {expression: "payload", hooks: everywhere, text: "ip hdrlength > 5 drop", v4only: true, send: withOptions("nop")},
		{expression: "fwd", hooks: "ingress", text: "udp dport 53 fwd to p2", send: withHeaders()}, {expression: "fwd", hooks: "ingress", text: fmt.Sprintf("%s daddr %s fwd to eth1", ip, p.pods[1]), send: withHeaders()},
		{expression: "dup", hooks: "ingress", text: "udp dport 53 dup to p3", send: withHeaders()},
		{expression: "osf", hooks: "prerouting input forward", text: "osf name \"unknown\" drop", v4only: true},
		{expression: "fib", hooks: everywhere, text: "fib daddr type local drop"}, {expression: "fib", hooks: "prerouting", text: "fib saddr . iif oif missing drop"}, {expression: "fib", hooks: in, text: "fib saddr . iif oif eq 0 drop"},
		{expression: "fib", hooks: in, text: "fib saddr oifname \"p1\" drop"}, {expression: "fib", hooks: in, text: "fib daddr . iif type local drop"},
		{expression: "hash", hooks: everywhere, text: fmt.Sprintf("jhash %s saddr . %s daddr mod 2 seed 0x%x 1 drop", ip, ip, d.IntN(1<<30)+1)}, {expression: "hash", hooks: everywhere, text: "symhash mod 2 1 drop"},
		{expression: "immediate", hooks: "forward", text: "meta mark set 0x2"}, {expression: "limit", hooks: everywhere, text: "limit rate 1000/second drop"},
		{expression: "log", hooks: everywhere, text: "log drop"},
		{expression: "lookup", hooks: everywhere, text: fmt.Sprintf("%s daddr @addrs drop", ip)}, {expression: "lookup", hooks: everywhere, text: fmt.Sprintf("%s daddr != @addrs drop", ip)},
		{expression: "lookup", hooks: everywhere, text: fmt.Sprintf("%s daddr . meta l4proto . th dport vmap @verdicts", ip)}, {expression: "lookup", hooks: everywhere, text: fmt.Sprintf("%s daddr . th dport @ranges drop", ip)},
		{expression: "lookup", hooks: everywhere, text: fmt.Sprintf("meta mark set %s saddr map @marks", ip)},
		{expression: "meta", hooks: everywhere, text: "meta l4proto udp drop"}, {expression: "meta", hooks: in, text: "iifname \"p*\" drop"}, {expression: "meta", hooks: in, text: "iifgroup 5 drop"}, {expression: "meta", hooks: in, text: "iif \"ext\" drop"},
		{expression: "meta", hooks: "forward output postrouting", text: "oifname { \"p1\", \"eth1\" } drop"}, {expression: "meta", hooks: "forward", text: "meta iifkind \"veth\" drop"}, {expression: "meta", hooks: in, text: "meta pkttype host drop"},
		{expression: "meta", hooks: "output", text: "meta skuid 0 drop"}, {expression: "meta", hooks: everywhere, text: "meta nfproto ipv4 drop"}, {expression: "meta", hooks: everywhere, text: "meta priority set 1:2 meta priority 1:2 drop"},
		{expression: "meta", hooks: everywhere, text: "meta length < 1500 drop"},
		{expression: "notrack", hooks: "prerouting", text: "meta l4proto udp notrack"}, {expression: "numgen", hooks: everywhere, text: "numgen random mod 4 1-2 drop"}, {expression: "numgen", hooks: everywhere, text: "numgen inc mod 2 0 drop"},
		{expression: "objref", hooks: everywhere, text: "counter name \"c\" drop"}, {expression: "objref", hooks: everywhere, text: "limit name \"l\" drop"}, {expression: "objref", hooks: everywhere, text: "quota name \"q\" drop"},
		{expression: "payload", hooks: everywhere, text: "@th,16,16 80 drop"}, {expression: "payload", hooks: "prerouting forward", text: ip + " dscp set cs1"}, {expression: "payload", hooks: "prerouting", text: fmt.Sprintf("%s saddr %s %s daddr set %s", ip, src, ip, pod)},
		{expression: "payload", hooks: everywhere, text: "ip ttl > 1 drop", v4only: true}, {expression: "payload", hooks: everywhere, text: "icmp type echo-request drop", v4only: true},
		{expression: "quota", hooks: everywhere, text: "quota until 1000 mbytes drop"},
		{expression: "range", hooks: everywhere, text: fmt.Sprintf("%s daddr != %s-%s drop", ip, p.pods[0], p.pods[1])}, {expression: "range", hooks: everywhere, text: "th sport != 20001-20010 drop"},
		{expression: "reject", hooks: "input forward output prerouting", text: "reject"}, {expression: "reject", hooks: "forward output", text: "reject with icmpx type admin-prohibited"},
		{expression: "reject", hooks: "forward", text: "meta l4proto tcp reject with tcp reset"},
		{expression: "rt", hooks: "forward postrouting output", text: fmt.Sprintf("rt %s nexthop %s drop", ip, map[bool]string{true: "192.0.2.254", false: "2001:db8:1::fe"}[p.v4])}, {expression: "rt", hooks: "forward", text: "rt classid 0 drop", v4only: true},
		{expression: "socket", hooks: "prerouting input", text: "socket transparent 1 drop", before: listeners, send: toListeners}, {expression: "socket", hooks: "prerouting input", text: "socket wildcard 1 drop", before: listeners, send: toListeners},
		{expression: "tproxy", hooks: "prerouting", text: "meta l4proto tcp tproxy to :15001 meta mark set 0x2", before: listeners}, {expression: "tproxy", hooks: "prerouting", text: "meta l4proto udp tproxy to :15001 meta mark set 0x2", before: listeners},
		{expression: "bitwise", hooks: in, text: fmt.Sprintf("ct mark set mark and 0xf or 0x1 ct mark 0x1 %s daddr %s drop", ip, pod)},
	}
}

// nftNATs are translations, each of one expression, in a nat chain of the hook.
func nftNATs(d dice, p *pool) []nftFocus {
	ip := map[bool]string{true: "ip", false: "ip6"}[p.v4]
	return []nftFocus{
		{expression: "masq", hooks: "postrouting", text: "masquerade"}, {expression: "masq", hooks: "postrouting", text: "masquerade fully-random"}, {expression: "masq", hooks: "postrouting", text: "meta l4proto udp masquerade to :40000-41000"},
		{expression: "redir", hooks: "prerouting output", text: "redirect"}, {expression: "redir", hooks: "prerouting output", text: "meta l4proto tcp redirect to :8080"},
		{expression: "nat", hooks: "postrouting", text: "snat " + ip + " to " + p.nodes[1].String()}, {expression: "nat", hooks: "input", text: "snat " + ip + " to " + p.outside[0].String()},
		{expression: "nat", hooks: "prerouting output", text: "dnat " + ip + " to " + p.pods[1].String()}, {expression: "nat", hooks: "prerouting output", text: "meta l4proto udp dnat " + ip + " to " + end(p.pods[1], 5353)},
		{expression: "nat", hooks: "prerouting", text: fmt.Sprintf("dnat %s to %s-%s", ip, p.pods[0], p.pods[2])}, {expression: "nat", hooks: "prerouting", text: fmt.Sprintf("dnat %s to %s-%s persistent", ip, p.pods[0], p.pods[2])},
		{expression: "nat", hooks: "prerouting", text: fmt.Sprintf("dnat %s prefix to %s", ip, p.podCIDR)},
		{expression: "nat", hooks: "prerouting output", text: fmt.Sprintf("meta l4proto { tcp, udp } dnat %s addr . port to numgen random mod 2 map { 0 : %s . 80, 1 : %s . 8080 }", ip, p.pods[0], p.pods[1])},
		{expression: "nat", hooks: "postrouting", text: fmt.Sprintf("snat %s to %s-%s random", ip, p.outside[0], p.outside[0].Next().Next())},
	}
}

// nftFocusCase is the n-th of the rules, between rules that make marks and show them.
func nftFocusCase(seed, n uint64) *Case {
	d := newDice(seed, n)
	p := pick(d, &pool4, &pool6)
	all := nftFocuses(d, p)
	k := int(n - n/4)
	if n%4 == 3 {
		all, k = nftNATs(d, p), int(n/4)
	}
	all = slices.DeleteFunc(all, func(f nftFocus) bool { return f.v4only && !p.v4 || f.v6only && p.v4 })
	f := all[k%len(all)]
	return nftFocusOn(d, p, fmt.Sprintf("nft focus seed %d number %d", seed, n), f)
}

// nftFocusOn makes a case of a rule.
func nftFocusOn(d dice, p *pool, name string, f nftFocus) *Case {
	ip, typ := "ip", "ipv4_addr"
	if !p.v4 {
		ip, typ = "ip6", "ipv6_addr"
	}
	family := pick(d, ip, "inet")
	if strings.Contains(f.text, "icmpx") || strings.Contains(f.text, "nfproto") {
		family = "inet"
	}
	kind, priority := "filter", pick(d, "-5", "10", "-149")
	if f.expression == "masq" || f.expression == "redir" || f.expression == "nat" {
		kind, priority = "nat", "0"
	}
	if f.expression == "dup" {
		family = ip
	}
	if f.expression == "fwd" || f.hooks == "ingress" {
		family = "netdev"
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
	if h := pick(d, strings.Fields(f.hooks)...); h != "ingress" { // which is written below
		add("add chain FAM t focus_%s { type %s hook %s priority %s; }", h, kind, h, priority)
		add("add rule FAM t focus_%s %s", h, f.text)
	}
	add("add chain FAM t show { type filter hook forward priority 20; }")
	add("add rule FAM t show meta mark 0x2 drop")
	add("add rule FAM t show ct state untracked drop")
	add("add rule FAM t show %s dscp cs1 drop", ip)
	if f.hooks == "ingress" {
		lines = []string{"add table netdev t"}
		for _, dev := range []string{"ext", "p1"} {
			lines = append(lines, fmt.Sprintf("add chain netdev t in_%s { type filter hook ingress device %s priority 0; }", dev, dev), fmt.Sprintf("add rule netdev t in_%s %s", dev, f.text))
		}
	}
	c := &Case{
		Name:          fmt.Sprintf("%s: %s %s: %s", name, family, f.expression, f.text),
		AnswersMayDie: true,
		Steps:         append(append([]Step{{"ip", "link set dev p1 group 5\n"}}, f.before...), Step{"nft", strings.Join(lines, "\n") + "\n"}),
		Shots:         generalShots(d, p, 9),
	}
	if f.send != nil {
		c.Shots = append(c.Shots, f.send(d, p)...)
	}
	return c
}
