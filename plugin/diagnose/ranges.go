package diagnose

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// network is a range or an address, and whose it is.
type network struct {
	prefix netip.Prefix
	whose  string
	node   string
}

// checkRanges looks for ranges that have an address in common, one finding for each pair, a few at most: a plan that is
// wrong is wrong everywhere.
func checkRanges(s *scene, l *ledger) {
	var all []network
	for _, r := range s.serviceRanges() {
		all = append(all, network{prefix: r, whose: "the Services' range"})
	}
	for _, n := range s.model.Nodes {
		for _, r := range n.PodRanges {
			all = append(all, network{r, "the pod range of node " + n.Name, n.Name})
		}
		for _, a := range n.Internal {
			all = append(all, network{netip.PrefixFrom(a, a.BitLen()), "the address of node " + n.Name, n.Name})
		}
	}
	slices.SortStableFunc(all, func(a, b network) int {
		if c := a.prefix.Addr().Compare(b.prefix.Addr()); c != 0 {
			return c
		}
		return a.prefix.Bits() - b.prefix.Bits()
	})
	// Sorted by their first address, a range overlaps one before it exactly if the widest of those reaches it: prefixes nest.
	var open []network
	found := 0
	for _, n := range all {
		for len(open) > 0 && !open[len(open)-1].prefix.Contains(n.prefix.Addr()) {
			open = open[:len(open)-1]
		}
		if len(open) > 0 && found < maxOverlaps {
			o := open[len(open)-1]
			if o.whose != n.whose {
				found++
				l.add("", draft{
					kind: OverlappingRanges, subject: o.prefix.String() + " " + n.prefix.String(),
					evidence: []Evidence{value(o.whose, o.prefix, "%s: %s", o.whose, o.prefix), value(n.whose, n.prefix, "%s: %s", n.whose, n.prefix)},
					sentence: fmt.Sprintf("%s (%s) is within %s (%s): an address in both reaches only one of them", n.whose, n.prefix, o.whose, o.prefix),
				})
			}
		}
		open = append(open, n)
	}
}

const maxOverlaps = 4

func joinPrefixes(list []netip.Prefix) string {
	out := make([]string, 0, len(list))
	for _, p := range list {
		out = append(out, p.String())
	}
	return strings.Join(out, ", ")
}
