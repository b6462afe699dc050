//go:build linux

package walk_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/fib"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/rtnl"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/walk"
)

// recorded is a node whose routing decisions come from the model, as those of a recording do.
type recorded struct {
	*live.Node
	state *fib.State
}

func (n recorded) Namespace(ctx context.Context, id string) (node.Namespace, string, error) {
	ns, label, err := n.Node.Namespace(ctx, id)
	return recordedNamespace{ns, n.state}, label, err
}

type recordedNamespace struct {
	node.Namespace
	state *fib.State
}

func (n recordedNamespace) Route(ctx context.Context, q node.RouteQuery) (node.Route, error) {
	return n.state.Route(ctx, q)
}

func walkRecorded(t *testing.T, s walk.Start) (*trace.Trace, error) {
	t.Helper()
	r, err := rtnl.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	state, err := r.FIBState(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	w := walk.Walker{Open: func(context.Context) (node.Node, func() error, error) {
		n, err := live.OpenNode()
		if err != nil {
			return nil, nil, err
		}
		return recorded{n, state}, n.Close, nil
	}}
	return w.Walk(t.Context(), s)
}

var twoWays = []string{
	"ip link set lo up", "ip addr add 10.244.1.9/32 dev lo",
	"ip link add eth0 type veth peer name peer0", "ip link add eth1 type veth peer name peer1", "ip link add eth2 type veth peer name peer2",
	"ip link set eth0 up", "ip link set peer0 up", "ip link set eth1 up", "ip link set peer1 up", "ip link set eth2 up", "ip link set peer2 up",
	"ip addr add 10.250.0.11/24 dev eth0", "ip addr add 10.251.0.11/24 dev eth1", "ip addr add 10.252.0.11/24 dev eth2",
	"ip route add 10.9.0.0/16 nexthop via 10.250.0.1 dev eth0 nexthop via 10.251.0.1 dev eth1 nexthop via 10.252.0.1 dev eth2",
	"sysctl -qw net.ipv4.ip_forward=1", "sysctl -qw net.ipv4.conf.all.rp_filter=0", "sysctl -qw net.ipv4.conf.eth0.rp_filter=0",
}

func ways(x *trace.Trace) []string {
	var out []string
	for _, o := range x.Outcomes {
		out = append(out, fmt.Sprintf("%s %s via %s", o.Verdict, o.Out, o.NextHop))
	}
	slices.Sort(out)
	return out
}

func TestEveryNextHopOfARecordedMultipathRouteIsWalked(t *testing.T) {
	namespace(t, twoWays...)
	all := []string{"forwarded eth0 via 10.250.0.1", "forwarded eth1 via 10.251.0.1", "forwarded eth2 via 10.252.0.1"}
	for name, s := range map[string]walk.Start{
		"from a process": {Proto: skb.TCP, Source: netip.MustParseAddrPort("10.244.1.9:40000"), Destination: netip.MustParseAddrPort("10.9.1.1:80")},
		"forwarded":      {Proto: skb.TCP, Source: netip.MustParseAddrPort("10.77.0.1:40000"), Destination: netip.MustParseAddrPort("10.9.1.1:80"), In: "eth0"},
	} {
		x, err := walkRecorded(t, s)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(ways(x), all) {
			t.Errorf("%s: %q", name, ways(x))
		}
		for _, o := range x.Outcomes {
			if o.Probability != nil || len(o.Conditions) == 0 || !strings.Contains(o.Conditions[0], "the route's hash chooses via 10.250.0.1 dev eth0 for "+s.Source.Addr().String()+" -> 10.9.1.1") {
				t.Errorf("%s: a way without its condition: %+v", name, o)
			}
		}
		// The kernel, which has the hash's key, takes one of them.
		if got := ways(walkHere(t, s)); len(got) != 1 || !slices.Contains(all, got[0]) {
			t.Errorf("%s: the kernel: %q", name, got)
		}
	}
}

func TestWaysThatEndAlikeDependOnNoNextHop(t *testing.T) {
	namespace(t, append(twoWays, "iptables-legacy -A OUTPUT -d 10.9.0.0/16 -j DROP")...)
	x, err := walkRecorded(t, walk.Start{Proto: skb.TCP, Source: netip.MustParseAddrPort("10.244.1.9:40000"), Destination: netip.MustParseAddrPort("10.9.1.1:80")})
	if err != nil {
		t.Fatal(err)
	}
	if len(x.Outcomes) != 1 || x.Outcomes[0].Verdict != trace.Dropped || len(x.Outcomes[0].Conditions) != 0 || x.Outcomes[0].Probability.String() != "1" {
		t.Errorf("%+v", x.Outcomes)
	}
}

func TestOuterPacketTakesEveryNextHop(t *testing.T) {
	t.Run("with the source of each", func(t *testing.T) {
		outerPacket(t, "", map[string]string{"eth0": "10.250.0.11 eth0 1500", "eth1": "10.251.0.11 eth1 1400", "eth2": "10.252.0.11 eth2 1500"})
	})
	t.Run("with a fixed source", func(t *testing.T) {
		outerPacket(t, " local 10.244.1.9", map[string]string{"eth0": "10.244.1.9 eth0 1500", "eth1": "10.244.1.9 eth1 1400", "eth2": "10.244.1.9 eth2 1500"})
	})
}

func outerPacket(t *testing.T, local string, want map[string]string) {
	t.Helper()
	namespace(t, append(twoWays, "ip link add vx0 mtu 1450 type vxlan id 7 dstport 8472"+local, "ip link set vx0 up", "ip link set eth1 mtu 1400",
		"ip neigh add 10.244.2.0 lladdr 0e:f1:00:00:04:02 dev vx0 nud permanent", "bridge fdb add 0e:f1:00:00:04:02 dev vx0 dst 10.9.0.12",
		"ip route add 10.244.2.0/24 via 10.244.2.0 dev vx0 onlink")...)
	x, err := walkRecorded(t, walk.Start{Proto: skb.TCP, Source: netip.MustParseAddrPort("10.244.1.9:40000"), Destination: netip.MustParseAddrPort("10.244.2.9:80")})
	if err != nil {
		t.Fatal(err)
	}
	sources := map[string]string{}
	for _, o := range x.Outcomes {
		if o.Tunnel == nil {
			t.Fatalf("%+v", o)
		}
		sources[o.Out] = fmt.Sprint(o.Tunnel.Source.Addr(), " ", o.Tunnel.OuterDevice, " ", o.Tunnel.OuterMTU)
		for _, i := range o.Path {
			if u := x.Hops[i].Tunnel; u != nil && (u.OuterDevice != o.Out || u.OuterMTU != o.Tunnel.OuterMTU) {
				t.Errorf("the step on the way by %s: %+v", o.Out, u)
			}
		}
	}
	if fmt.Sprint(sources) != fmt.Sprint(want) {
		t.Errorf("%v", sources)
	}
}

func TestStartThatTheChoiceDecidesIsRefused(t *testing.T) {
	namespace(t, twoWays...)
	for name, s := range map[string]walk.Start{
		"no source":    {Proto: skb.TCP, Destination: netip.MustParseAddrPort("10.9.1.1:80")},
		"no interface": {Proto: skb.TCP, Source: netip.MustParseAddrPort("10.9.1.1:80"), Destination: netip.MustParseAddrPort("10.244.1.9:80")},
	} {
		if x, err := walkRecorded(t, s); !errors.Is(err, walk.ErrStart) || !strings.Contains(err.Error(), "one of 3 next hops") {
			t.Errorf("%s: %+v, %v", name, x, err)
		}
	}
}
