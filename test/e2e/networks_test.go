package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// networks are labs with two and three nodes whose pods are connected otherwise than in the other tests, which have a
// bridge on each node and a route to each other's. In some the client outside is behind a router.
var networks = []struct {
	name    string
	options lab.Options
	more    func(c *cluster, ctx context.Context, t *testing.T)
}{
	{"routed", lab.Options{
		Nodes: 2, Network: lab.Routed, Family: lab.Dual, Proxy: []lab.ProxyMode{lab.IPTables, lab.NFTables}, Beyond: true,
	}, nil},
	{"vxlan", lab.Options{
		Nodes: 3, Between: lab.VXLAN, Family: lab.IPv4, Proxy: []lab.ProxyMode{lab.NFTables, lab.IPTables, lab.IPTablesLegacy}, Beyond: true,
	}, (*cluster).narrowCable},
	{"routed-vxlan", lab.Options{
		Nodes: 2, Network: lab.Routed, Between: lab.VXLAN, Family: lab.IPv6, Proxy: []lab.ProxyMode{lab.NFTables, lab.IPTables},
	}, (*cluster).narrowCable},
}

// crossed are the Services that are traced on every network: what differs from one network to another is the way that
// translated packets take, and their replies.
var crossed = []service{
	{name: "plain", protocols: tcpAndUDP, externalIP: true},
	{name: "external-local", external: "Local"},
	{name: "no-endpoints", selects: nobody},
	{name: "one-endpoint", protocols: tcpAndUDP, selects: map[string]string{"only": "yes"}, clusterOnly: true},
}

// TestTraceIsWhatConnectionsDoOnEveryNetwork traces every access path from every kind of client on every kind of
// network, there and back, and requires that real connections end as traced: at which endpoint, with which share, seen
// from which source address, refused, or without an answer because of the packet or of its reply.
func TestTraceIsWhatConnectionsDoOnEveryNetwork(t *testing.T) {
	for _, n := range networks {
		t.Run(n.name, func(t *testing.T) {
			c := newClusterOf(t, n.name, n.options)
			ctx := within(t, 15*time.Minute)
			if err := c.makeWeb(ctx, crossed); err != nil {
				t.Fatal(err)
			}
			sums := &sum{}
			t.Run("access paths", func(t *testing.T) { c.compareAll(ctx, t, crossed, sums) })
			t.Run("unusual ends", func(t *testing.T) { c.compareUnusual(ctx, t, sums) })
			if n.more != nil {
				t.Run("more", func(t *testing.T) { n.more(c, ctx, t) })
			}
			if tail := sums.shares.tail(); tail < rare {
				t.Errorf("all shares together are off: chi-square %.1f with %d degrees of freedom has a probability of %.2g",
					sums.shares.statistic, sums.shares.freedom, tail)
			}
			t.Logf("%d comparisons, %d connections; tail %.3f", sums.comparisons, sums.connections, sums.shares.tail())
		})
	}
}
