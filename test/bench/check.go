//go:build linux

package main

import (
	"fmt"
	"math/big"
	"net/netip"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// roundings is how far a probability of iptables may be from 1/10: it keeps 31 bits of each.
var roundings = map[backend]*big.Rat{
	nftables: new(big.Rat), iptablesNFT: big.NewRat(1, 1e8), iptablesLegacy: big.NewRat(1, 1e8),
}

// check returns an error when a trace is not the right answer: all endpoints of the Service, each with the chance that
// kube-proxy gives it.
func check(t *trace.Trace, b backend, target netip.AddrPort) error {
	ip := target.Addr().As4()
	first := ((int(ip[2])<<8|int(ip[3]))-1)*endpoints + 1
	var want, got []netip.AddrPort
	for i := first; i < first+endpoints; i++ {
		want = append(want, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(128 + i>>16), byte(i >> 8), byte(i)}), 8080))
	}
	for _, o := range t.Outcomes {
		got = append(got, o.Destination)
		if o.Verdict != trace.Forwarded || o.Masqueraded || o.Out != podInterface || o.Probability == nil {
			return fmt.Errorf("the packet to %s is %s: %+v", target, o.Verdict, o)
		}
		p, ok := new(big.Rat).SetString(o.Probability.String())
		if !ok {
			return fmt.Errorf("probability %q", o.Probability)
		}
		off := p.Sub(p, big.NewRat(1, endpoints))
		if off.Abs(off).Cmp(roundings[b]) > 0 {
			return fmt.Errorf("%s is reached with probability %s, not 1/%d", o.Destination, o.Probability, endpoints)
		}
	}
	slices.SortFunc(got, netip.AddrPort.Compare)
	if !slices.Equal(got, want) {
		return fmt.Errorf("the packet to %s goes to %v, not to %v", target, got, want)
	}
	return nil
}
