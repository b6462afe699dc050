package command

import (
	"context"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// own are the addresses of a node.
type own []string

func (o own) AddrType(_ context.Context, a netip.Addr, _ string) (node.RouteType, error) {
	for _, x := range o {
		if x == a.String() {
			return node.RouteLocal, nil
		}
	}
	return node.RouteUnicast, nil
}

func TestFlowsAreReadInAsFewWalksAsPossible(t *testing.T) {
	var destinations []netip.AddrPort
	for _, d := range []string{"10.96.0.1:80", "192.0.2.7:80", "10.0.0.1:30080", "127.0.0.1:30080", "[fd00:96::1]:80", "[fd00::1]:80", "[fd00::1]:30080", "[::ffff:10.0.0.1]:30090"} {
		destinations = append(destinations, netip.MustParseAddrPort(d))
	}
	got, err := flowGroups(t.Context(), own{"10.0.0.1", "127.0.0.1", "fd00::1"}, destinations)
	if err != nil {
		t.Fatal(err)
	}
	group := func(port uint16, addresses ...string) flowGroup {
		g := flowGroup{port: port}
		for _, a := range addresses {
			g.addresses = append(g.addresses, netip.MustParseAddr(a))
		}
		return g
	}
	want := []flowGroup{
		group(80, "10.96.0.1"), group(80, "192.0.2.7"), group(30080, "10.0.0.1", "127.0.0.1"), group(80, "fd00:96::1", "fd00::1"), group(30080, "fd00::1"), group(30090, "10.0.0.1"),
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(flowGroup{}), cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Error(d)
	}
}
