//go:build linux

package oracle

import (
	"testing"
)

// TestSomeCasesHaveLongChains counts the cases in which the agent does not read all rules of a chain.
func TestSomeCasesHaveLongChains(t *testing.T) {
	const cases = 600
	all := 0
	backends := map[string]int{}
	for _, g := range generators {
		long := 0
		for n := range uint64(cases) {
			c := g.make(fixedSeed, n)
			if longest(c) <= longer {
				continue
			}
			long++
			family := map[bool]string{true: " IPv4", false: " IPv6"}[c.Shots[0].Dst.Addr().Is4()]
			for _, s := range c.Steps {
				for _, ch := range chainsOf(s) {
					if len(ch.rules) > longer {
						backends[s.Tool+" "+ch.family+family]++
					}
				}
			}
		}
		t.Logf("%s: %d of %d", g.name, long, cases)
		if long < cases/20 || long > cases/3 {
			t.Errorf("%d of %d cases of %s have a long chain", long, cases, g.name)
		}
		all += long
	}
	if total := cases * len(generators); all < total/8 || all > total/4 {
		t.Errorf("%d of %d cases have a long chain", all, total)
	}
	t.Log(backends)
	for _, b := range []string{"iptables-nft ip IPv4", "ip6tables-nft ip6 IPv6", "nft ip6 IPv6", "nft ip IPv4", "nft inet IPv4", "nft inet IPv6"} {
		if backends[b] < 20 {
			t.Errorf("%d long chains of %s", backends[b], b)
		}
	}
}
