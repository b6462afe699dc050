package survey

import (
	"context"
	"net/netip"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/journey"
)

// node is an agent that records what it is asked.
type node struct {
	mu       sync.Mutex
	describe wire.DescribeAnswer
	walks    []wire.WalkRequest
	flows    []wire.FlowsRequest
}

func (n *node) Hello() *wire.Hello { return &wire.Hello{Kernel: "6.18"} }

func (n *node) Ask(_ context.Context, r wire.Request) (*wire.Answer, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := &wire.Answer{Micros: 1}
	switch {
	case r.Describe != nil:
		a.Describe = &n.describe
	case r.Walk != nil:
		n.walks = append(n.walks, *r.Walk)
		a.Walk = trace.New(trace.Packet{})
	case r.Flows != nil:
		n.flows = append(n.flows, *r.Flows)
		a.Flows = &wire.FlowsAnswer{Flows: []wire.Flow{{Protocol: r.Flows.Protocol, Destination: r.Flows.Destinations[0]}}, Total: 7, Truncated: true}
	}
	return a, nil
}

// On implements journey.Agents with the one node.
func (n *node) On(context.Context, string) (journey.Agent, error) { return n, nil }

func model() (*intent.Model, intent.Node) {
	n := intent.Node{Name: "n1", Internal: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	return &intent.Model{
		Nodes: []intent.Node{n},
		Ports: []intent.Port{{Protocol: "tcp", Family: intent.IPv4}, {Protocol: "udp", Family: intent.IPv6}},
		Paths: []intent.AccessPath{
			{Kind: intent.ClusterIP, Family: intent.IPv4, Protocol: "tcp", Address: netip.MustParseAddr("10.96.0.1"), Port: 80},
			{Kind: intent.NodePort, Family: intent.IPv4, Protocol: "tcp", Port: 30080},
			{Kind: intent.NodePort, Family: intent.IPv6, Protocol: "udp", Port: 30053, PortIndex: 1},
		},
	}, n
}

func TestPathsOfAFamilyThatTheNodeLacksAreNotWalked(t *testing.T) {
	m, n := model()
	a := &node{}
	clients := []intent.Client{
		{Kind: intent.FromNode, Node: "n1"},
		{Kind: intent.FromOutside, Node: "n1", Source: intent.Outside[intent.IPv4]},
		{Kind: intent.FromOutside, Node: "n1", Source: intent.Outside[intent.IPv6]},
	}
	got, err := Service(t.Context(), a, journey.NewGuide(m, a), m, n, clients)
	if err != nil {
		t.Fatal(err)
	}
	// From the node and from outside, for two access paths.
	if len(got.Walks) != 4 || len(a.walks) != 4 {
		t.Errorf("%d walks, %d asked", len(got.Walks), len(a.walks))
	}
	for _, w := range got.Walks {
		if w.Path.Family == intent.IPv6 || w.Trace == nil {
			t.Errorf("%+v", w)
		}
	}
}

func TestFlowsAreAskedForAtEveryAddressOfTheNode(t *testing.T) {
	m, n := model()
	a := &node{describe: wire.DescribeAnswer{Interfaces: []wire.Interface{
		{Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fd00::1/64")}},
		{Name: "lo", Addresses: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}},
	}}}
	got, err := Service(t.Context(), a, journey.NewGuide(m, a), m, n, nil)
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string][]string{}
	for _, f := range a.flows {
		for _, d := range f.Destinations {
			asked[f.Protocol] = append(asked[f.Protocol], d.String())
		}
	}
	want := map[string][]string{"tcp": {"10.0.0.1:30080", "10.96.0.1:80", "127.0.0.1:30080"}, "udp": {"[fd00::1]:30053"}}
	if d := cmp.Diff(want, asked); d != "" {
		t.Error(d)
	}
	if got.FlowTotal != 14 || len(got.FlowsOf(m.Paths[1])) != 1 || len(got.FlowsOf(m.Paths[0])) != 0 {
		t.Errorf("total %d, flows %+v", got.FlowTotal, got.Flows)
	}
}

func TestModeIsThatOfTheActiveKubeProxyOfTheFamily(t *testing.T) {
	d := wire.DescribeAnswer{Dataplanes: []wire.Dataplane{
		{Name: "kube-proxy", Mode: "ipvs", Family: "ipv4"},
		{Name: "kube-proxy", Mode: "iptables (legacy)", Family: "ipv4", Active: true},
		{Name: "kube-proxy", Mode: "nftables", Family: "ipv6", Active: true},
	}}
	if v4, v6 := ModeOf(d, intent.IPv4), ModeOf(d, intent.IPv6); v4 != intent.IPTables || v6 != intent.NFTables {
		t.Errorf("%s, %s", v4, v6)
	}
	if m := ModeOf(wire.DescribeAnswer{}, intent.IPv4); m != intent.UnknownMode {
		t.Errorf("%s", m)
	}
}
