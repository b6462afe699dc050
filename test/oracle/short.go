//go:build linux

package oracle

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// caseFor makes the n-th case in which a construct has a chance to decide, nil when no generator knows it. Packets cost less
// than rule sets, so it sends more than others.
func caseFor(seed, n uint64, construct string) *Case {
	c := shortCase(seed, n, construct)
	if c == nil || c.bridged() {
		return c
	}
	p := &pool4
	if len(c.Shots) > 0 && c.Shots[0].Dst.Addr().Is6() {
		p = &pool6
	}
	for _, s := range generalShots(newDice(seed, n), p, 14) {
		if s.Src.Port() != 0 {
			s.Src = netip.AddrPortFrom(s.Src.Addr(), s.Src.Port()+10000)
		}
		c.Shots = append(c.Shots, s)
	}
	return c
}

func shortCase(seed, n uint64, construct string) *Case {
	d := newDice(seed^0x5ca1ab1e, n)
	name := fmt.Sprintf("for %s seed %d number %d", construct, seed, n)
	kind, word, _ := strings.Cut(construct, " ")
	if construct == "match physdev" && d.one(2) {
		return bridgeCase(seed, n)
	}
	switch kind {
	case "match":
		return focusFor(d, name, func(p *pool) (pairs []focusPair) {
			for _, m := range focusMatches(d, p) {
				if strings.Contains(" "+m.text+" ", " -m "+word+" ") {
					pairs = append(pairs, focusPair{m, focusTargets(p)[d.IntN(4)]})
				}
			}
			// A match may stand in the rules that show what a target did.
			for _, t := range focusTargets(p) {
				if slices.ContainsFunc(t.after, func(r string) bool { return strings.Contains(r, " -m "+word+" ") }) {
					pairs = append(pairs, focusPair{plainMatch(p, t), t})
				}
			}
			return pairs
		})
	case "target":
		return focusFor(d, name, func(p *pool) (pairs []focusPair) {
			for _, t := range focusTargets(p) {
				if strings.HasPrefix(t.text, "-j "+word+" ") || t.text == "-j "+word || strings.Contains(t.text, " -j "+word+" ") {
					pairs = append(pairs, focusPair{plainMatch(p, t), t})
				}
			}
			return pairs
		})
	case "nft":
		switch word {
		case "match", "target":
			c := focusCase(seed, n)
			for i, s := range c.Steps {
				c.Steps[i].Tool = strings.Replace(s.Tool, "-legacy", "-nft", 1)
			}
			return c
		}
		return nftFocusFor(d, name, word)
	}
	return nil
}

type focusPair struct {
	m focusMatch
	t focusTarget
}

// focusFor makes a focus case of one of the pairs that a family has.
func focusFor(d dice, name string, pairs func(*pool) []focusPair) *Case {
	families := slices.DeleteFunc([]*pool{&pool4, &pool6}, func(p *pool) bool { return len(ofFamily(pairs(p), p)) == 0 })
	if len(families) == 0 {
		return nil
	}
	p := pick(d, families...)
	x := pick(d, ofFamily(pairs(p), p)...)
	return focusOn(d, p, name, x.m, x.t)
}

func ofFamily(pairs []focusPair, p *pool) []focusPair {
	return slices.DeleteFunc(pairs, func(x focusPair) bool {
		f := max(x.m.family, x.t.family)
		return f != 0 && (f == 4) != p.v4
	})
}

// nftFocusFor makes a focus case of one of the rules for an expression.
func nftFocusFor(d dice, name, expression string) *Case {
	rules := func(p *pool) []nftFocus {
		return slices.DeleteFunc(slices.Concat(nftFocuses(d, p), nftNATs(d, p)), func(f nftFocus) bool {
			return f.expression != expression || f.v4only && !p.v4 || f.v6only && p.v4
		})
	}
	families := slices.DeleteFunc([]*pool{&pool4, &pool6}, func(p *pool) bool { return len(rules(p)) == 0 })
	if len(families) == 0 {
		return nil
	}
	p := pick(d, families...)
	return nftFocusOn(d, p, name, pick(d, rules(p)...))
}
