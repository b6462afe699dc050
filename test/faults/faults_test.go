package faults

import (
	"context"
	"flag"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the samples and the records under docs/findings")

// TestFaults causes every fault in one lab. The nodes: node1 iptables (nft), node2 iptables (legacy), node3 nftables; both
// families; the Service's pods are on node1 and node2.
func TestFaults(t *testing.T) {
	b := newBed(t)
	t.Run("healthy", func(t *testing.T) { b.awaitHealthy(t, t.Context(), "leftover-rules") })
	var all []fault
	for _, group := range [][]fault{
		firewallFaults, routingFaults, portFaults, proxyFaults, conntrackFaults, tunnelFaults, ruleFaults, apiFaults, addressFaults, balancerFaults, untracedFaults, queueFaults, lastFaults,
	} {
		all = append(all, group...)
	}
	for _, f := range all {
		t.Run(f.name, func(t *testing.T) { f.run(t, b) })
	}
	twoAtOnce(t, b, all)
	t.Run("escape sequences", func(t *testing.T) { escapes(t, b) })
}

// contextFor is the test's context with an end.
func contextFor(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}
