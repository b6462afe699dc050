//go:build linux

package walk_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// underlay is a node's interface, and vxlan a tunnel over it to another node's pods.
var (
	underlay = []string{
		"ip link set lo up", "ip link add eth0 mtu 1400 type veth peer name peer0", "ip link set eth0 up", "ip link set peer0 up",
		"ip addr add 10.250.0.11/24 dev eth0",
	}
	vxlan = []string{
		"ip link add vx0 mtu 1480 type vxlan id 7 dstport 8472 local 10.250.0.11", "ip link set vx0 up", "ip addr add 10.244.1.0/32 dev vx0",
		"ip neigh add 10.244.2.0 lladdr 0e:f1:00:00:04:02 dev vx0 nud permanent",
		"bridge fdb add 0e:f1:00:00:04:02 dev vx0 dst 10.250.0.12",
		"ip route add 10.244.2.0/24 via 10.244.2.0 dev vx0 onlink",
	}
)

func TestSizesOnTheWayIntoATunnelAreTold(t *testing.T) {
	namespace(t, append(underlay, vxlan...)...)
	x := walkHere(t, start("10.244.1.0:40000", "10.244.2.9:80"))
	hops := onTheWay(t, x)
	if len(hops) < 3 || hops[0].MTU != 1480 || hops[1].Tunnel == nil || hops[2].MTU != 1400 {
		t.Fatalf("%+v", hops)
	}
	want := trace.Tunnel{Kind: "vxlan", Device: "vx0", ID: 7, Source: netip.MustParseAddrPort("10.250.0.11:0"),
		Destination: netip.MustParseAddrPort("10.250.0.12:8472"), Overhead: 50, MTU: 1480, OuterDevice: "eth0", OuterMTU: 1400}
	for _, got := range []*trace.Tunnel{hops[1].Tunnel, x.Outcomes[0].Tunnel} {
		if d := cmp.Diff(&want, got, cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
			t.Error(d)
		}
	}
}

func TestMTUOfARouteCountsBeforeThatOfItsInterface(t *testing.T) {
	namespace(t, append(append(underlay, vxlan...), "ip route add 10.250.0.12 dev eth0 mtu 1300", "ip route add 10.9.0.0/16 via 10.250.0.1 mtu 1200")...)
	if x := walkHere(t, start("10.244.1.0:40000", "10.244.2.9:80")); x.Outcomes[0].Tunnel.OuterMTU != 1300 {
		t.Errorf("%+v", x.Outcomes[0].Tunnel)
	}
	if hops := onTheWay(t, walkHere(t, start("10.250.0.11:40000", "10.9.0.1:80"))); hops[0].MTU != 1200 {
		t.Errorf("%+v", hops)
	}
}
