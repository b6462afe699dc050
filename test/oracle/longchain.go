//go:build linux

package oracle

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A node with thousands of Services has chains that the agent does not read rule by rule: of a long one it chooses the rules
// that a packet may not miss, and asks the kernel for those alone. So one chain of some cases gets some hundreds of rules more,
// and the rules that it had stand somewhere among them. Most of the others are for addresses that no packet has, or for
// neighbours of those that packets have; some are met, and show in the fate.

// longer is a chain with more rules than the agent reads whatever the packet.
const longer = 64

// longSeed keeps the dice of long chains apart from those that made the case: a case without one is the same as ever.
const longSeed = 0x10c4a1d5

// longOneIn is how many of the cases that have a chain of nftables have none that is long, for one that does.
const longOneIn = 4

// sometimesLong makes the cases of a generator, some with a long chain.
func sometimesLong(generate func(seed, n uint64) *Case) func(seed, n uint64) *Case {
	return func(seed, n uint64) *Case {
		c := generate(seed, n)
		if d := newDice(seed^longSeed, n); d.one(longOneIn) && longest(c) <= longer {
			lengthen(d, c)
		}
		return c
	}
}

// longChain is a chain that gets rules.
type longChain struct {
	d     dice
	p     *pool
	shots []Shot
	// write makes a line of a match and a target for a chain; forms are the matches that it has.
	chain, aside string
	write        func(chain, match, target string) string
	forms        []func(src, dst netip.Addr) string
	// inverted is one in how many comparisons.
	inverted int
	// targets end a rule in the chain, asides one in the chain beside it, to which the first can jump; jump says how.
	targets, asides []string
	jump            string
	// shows stand at the chain's end: what a mark did becomes a fate.
	shows []string
}

// lengthen gives one chain of a case more rules, when it has one of nftables.
func lengthen(d dice, c *Case) {
	if len(c.Shots) == 0 {
		return
	}
	p := &pool4
	if c.Shots[0].Dst.Addr().Is6() {
		p = &pool6
	}
	type place struct {
		step int
		chain
	}
	var places []place
	for i, s := range c.Steps {
		for _, ch := range chainsOf(s) {
			if ch.of(p) {
				places = append(places, place{i, ch})
				if ch.base { // every packet of the hook comes there
					places = append(places, place{i, ch})
				}
			}
		}
	}
	if len(places) == 0 {
		return
	}
	at := pick(d, places...)
	l := &longChain{d: d, p: p, shots: c.Shots, chain: at.name, aside: "aside"}
	if at.xtables {
		l.iptables(at.chain)
	} else {
		l.nft(at.chain)
	}
	text, n := l.insert(c.Steps[at.step].Input, at.chain)
	c.Steps[at.step].Input = text
	c.Name += fmt.Sprintf("; %d rules in chain %s", n, at.name)
	c.AnswersMayDie = c.AnswersMayDie || guardLines(c) == 0
}

// insert puts the chain's rules among many others.
func (l *longChain) insert(text string, ch chain) (_ string, rules int) {
	var out, guards, own []string
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	last := 0
	for _, i := range ch.rules {
		last = i
		if isGuard(lines[i]) {
			guards = append(guards, lines[i])
		} else {
			own = append(own, lines[i])
		}
	}
	block := append(slices.Clip(guards), l.among(own, l.many(l.chain, append(slices.Clip(l.targets), l.jump, l.jump)))...)
	block = append(block, l.shows...)
	rules = len(block)
	side := l.many(l.aside, l.asides)
	if !l.d.one(3) {
		side = side[:2+l.d.IntN(6)]
	}
	// The last rule is for whatever has come so far.
	side = append(side, l.write(l.aside, "", pick(l.d, l.asides...)))
	for i, line := range lines {
		switch {
		case i == ch.declare:
			out = append(out, line, ch.declaration(l.aside))
		case i == last:
			out = append(append(out, block...), side...)
		case !slices.Contains(ch.rules, i):
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n") + "\n", rules
}

// among puts rules at places among others, in order: all over the chain, or together at its beginning, middle or end.
func (l *longChain) among(own, others []string) []string {
	at := make([]int, len(own))
	from, to := 0, len(others)+1
	switch l.d.IntN(6) {
	case 0:
		to = 1
	case 1:
		from = len(others)
	case 2:
		from, to = len(others)/2, len(others)/2+4
	}
	for i := range at {
		at[i] = from + l.d.IntN(to-from)
	}
	slices.Sort(at)
	for i, r := range slices.Backward(own) {
		others = slices.Insert(others, at[i], r)
	}
	return others
}

// many are rules of a few forms, of which some few are met.
func (l *longChain) many(chain string, targets []string) []string {
	d := l.d
	out := make([]string, 70+d.IntN(pick(d, 30, 100, 330)))
	forms := make([]func(src, dst netip.Addr) string, 1+d.IntN(4))
	for i := range forms {
		forms[i] = pick(d, l.forms...)
	}
	l.inverted = 4
	for i := range out {
		out[i] = l.write(chain, pick(d, forms...)(l.far(), l.far()), pick(d, targets...))
	}
	l.inverted = 2
	for range 8 + d.IntN(len(out)/8) {
		form := pick(d, forms...)
		if d.one(3) {
			form = pick(d, l.forms...)
		}
		out[d.IntN(len(out))] = l.write(chain, form(l.met()), pick(d, targets...))
	}
	return out
}

// not is a word that inverts a match, sometimes. Rules differ in that alone: one that is read wrong is not told by another.
func (l *longChain) not(word string) string {
	if l.d.one(l.inverted) {
		return word
	}
	return ""
}

// met are addresses of a packet, or one of a packet's and another.
func (l *longChain) met() (src, dst netip.Addr) {
	s := pick(l.d, l.shots...)
	src, dst = s.Src.Addr(), s.Dst.Addr()
	switch l.d.IntN(5) {
	case 0, 1:
		src = l.source()
	case 2:
		dst = l.destination()
	}
	return src, dst
}

func (l *longChain) source() netip.Addr {
	p := l.p
	return pick(l.d, slices.Concat(p.clients["ext"], p.clients["eth1"], p.pods, p.nodes)...)
}

func (l *longChain) destination() netip.Addr {
	p := l.p
	return pick(l.d, slices.Concat(p.pods, p.pods, p.remote, p.nodes, p.outside, p.cluster)...)
}

// far is an address that no packet has: it differs from one in a byte, or in all.
func (l *longChain) far() netip.Addr {
	b := pick(l.d, l.source(), l.destination()).AsSlice()
	at := l.d.IntN(4) // of the last four bytes: the first of an address may make it one that is not allowed
	if len(b) == 4 && at == 3 {
		b[0] = 11
	} else {
		b[len(b)-1-at] ^= byte(0x40 + l.d.IntN(0x40))
	}
	if l.d.one(2) {
		b[len(b)-2] = byte(l.d.IntN(256))
	}
	a, _ := netip.AddrFromSlice(b)
	for _, known := range slices.Concat(l.p.clients["ext"], l.p.clients["eth1"], l.p.pods, l.p.nodes, l.p.remote, l.p.outside, l.p.cluster) {
		if a == known {
			return l.far()
		}
	}
	return a
}

// network is the network of whole bytes that an address is in: such a one is compared without a mask.
func network(a netip.Addr) string {
	return netip.PrefixFrom(a, a.BitLen()-8).Masked().String()
}

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

// nft sets what rules of nftables are like.
func (l *longChain) nft(ch chain) {
	d := l.d
	ip := map[bool]string{true: "ip", false: "ip6"}[l.p.v4]
	proto := func() string { return pick(d, "tcp", "udp") }
	l.write = func(chain, match, target string) string {
		return strings.Join(strings.Fields(fmt.Sprintf("add rule %s %s %s %s %s", ch.family, ch.table, chain, match, target)), " ")
	}
	saddr := func(op string, a netip.Addr) string { return fmt.Sprintf("%s saddr %s%s", ip, op, a) }
	daddr := func(op string, a netip.Addr) string { return fmt.Sprintf("%s daddr %s%s", ip, op, a) }
	if ch.family == "inet" && !d.one(4) {
		// Otherwise nft puts a comparison of the family in front.
		source, destination := "@nh,96,32", "@nh,128,32"
		if !l.p.v4 {
			source, destination = "@nh,64,128", "@nh,192,128"
		}
		saddr = func(op string, a netip.Addr) string { return fmt.Sprintf("%s %s0x%x", source, op, a.AsSlice()) }
		daddr = func(op string, a netip.Addr) string { return fmt.Sprintf("%s %s0x%x", destination, op, a.AsSlice()) }
	}
	l.forms = []func(src, dst netip.Addr) string{
		func(_, dst netip.Addr) string { return daddr("", dst) },
		func(src, _ netip.Addr) string { return saddr("", src) + " counter" },
		func(_, dst netip.Addr) string {
			return fmt.Sprintf("%s %s dport %s", daddr("", dst), proto(), pick(d, "80", "443", "53"))
		},
		func(src, dst netip.Addr) string { return saddr("", src) + " " + daddr("", dst) },
		func(src, dst netip.Addr) string {
			return saddr(l.not("!= "), src) + " meta l4proto " + proto() + " " + daddr("", dst)
		},
		func(src, dst netip.Addr) string { return saddr("!= ", src) + " " + daddr("", dst) },
		func(src, dst netip.Addr) string {
			return daddr("", dst) + " " + saddr("!= ", src) + " meta l4proto udp"
		},
		func(_, dst netip.Addr) string { return "meta l4proto " + proto() + " " + daddr("", dst) },
		func(src, _ netip.Addr) string { return "meta l4proto != " + proto() + " " + saddr("", src) },
		func(_, dst netip.Addr) string {
			return daddr("", dst) + " meta mark " + l.not("!= ") + pick(d, "0x0", "0x7", "0x1")
		},
		func(_, dst netip.Addr) string {
			return daddr("", dst) + " th dport " + pick(d, "< 100", "> 443", ">= 53")
		},
		func(src, _ netip.Addr) string {
			if strings.HasPrefix(saddr("", src), "@") {
				return saddr("", src)
			}
			return fmt.Sprintf("%s saddr %s", ip, network(src))
		},
	}
	l.jump = pick(d, "jump ", "jump ", "goto ") + l.aside
	l.targets = []string{"return", "accept", "meta mark set 0x7", "drop", "drop"}
	l.asides = []string{"meta mark set 0x7", "accept", "return", "drop"}
	kind := ip
	if ch.family != "inet" {
		kind = ""
	}
	show := "drop"
	switch {
	case strings.Contains(ch.hook, "type nat hook prerouting"), strings.Contains(ch.hook, "type nat hook output"):
		to := fmt.Sprintf("dnat %s to %s", kind, pick(d, l.p.pods...))
		l.targets, l.asides = append(l.targets, to), append(l.asides, to, to)
		show = fmt.Sprintf("dnat %s to %s", kind, pick(d, l.p.remote...))
	case strings.Contains(ch.hook, "type nat hook postrouting"):
		l.targets, l.asides = append(l.targets, "masquerade"), append(l.asides, "masquerade")
		show = fmt.Sprintf("snat %s to %s", kind, l.p.nodes[1])
	}
	l.shows = []string{l.write(ch.name, "meta mark 0x7", show)}
}
