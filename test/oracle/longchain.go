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

// longOneIn says how many of the cases that have a chain of nftables get a long one: one in so many.
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
	c.Name += fmt.Sprintf("; %d rules in chain %s of table %s", n, at.name, at.table)
	// The rules drop also what refuses a packet, where no guard lets it pass.
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
