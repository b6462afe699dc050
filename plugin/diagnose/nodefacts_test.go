package diagnose_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/apistate"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// whole are the facts of a node in nftables mode with which nothing is wrong.
func whole() *wire.FactsAnswer {
	up := wire.Endpoint{Listening: true, Address: netip.MustParseAddrPort("127.0.0.1:10256"), Status: 200}
	return &wire.FactsAnswer{
		Sysctls:   []wire.Sysctl{{Name: "net/ipv4/ip_forward", Value: "1"}, {Name: "net/netfilter/nf_conntrack_tcp_be_liberal", Value: "0"}},
		KubeProxy: wire.KubeProxy{Health: up, Metrics: up, Mode: "nftables", Sync: []wire.Sync{{Family: "IPv4", Queued: 100, Last: 101, QueuedAge: 500}}},
		Chains:    []wire.Chain{{Backend: "nftables", Family: "ipv4", Table: "kube-proxy", Name: "nat-prerouting", Present: true, Expected: true}},
	}
}

// nodeWith is a node whose walk goes to the endpoint, as it should.
func nodeWith(m *intent.Model, name string, outs ...trace.Outcome) *survey.Node {
	t := trace.New(trace.Packet{Protocol: "tcp", Destination: netip.MustParseAddrPort(vip)})
	t.Hops = []trace.Hop{{Hook: "prerouting", Table: "ip kube-proxy", Chain: "services", Action: "dnat", Rule: &trace.Rule{Handle: 7, Text: "…"}}}
	t.Outcomes = outs
	c := intent.Client{Kind: intent.FromPod, Node: name, Source: netip.MustParseAddr("10.244.1.99")}
	n := &survey.Node{Node: intent.Node{Name: name}, Facts: whole()}
	n.Hello.Kernel = "6.1.0-18-amd64"
	n.Describe = wire.DescribeAnswer{ConntrackCount: 10, ConntrackMax: 1000, Dataplanes: []wire.Dataplane{{Name: "kube-proxy", Mode: "nftables", Family: "ipv4", Active: true}}}
	n.Walks = []survey.Walk{{Path: m.Paths[0], Client: c, Destination: netip.MustParseAddrPort(vip), Trace: t, Expect: m.Expect(m.Paths[0], c, n.Node, intent.NFTables)}}
	return n
}

func idsOf(r diagnose.Report) string {
	var out []string
	for _, f := range r.Findings {
		out = append(out, string(f.Severity)+" "+f.ID)
	}
	return strings.Join(out, ", ")
}

func TestFactsOfANode(t *testing.T) {
	vxlan := wire.Link{Name: "flannel.1", Kind: "vxlan", Up: true, MTU: 1450, Overhead: 50, Outer: "eth0", OuterMTU: 1500, ChecksumOffload: true}
	invalid := func(packets uint64) wire.Chain {
		return wire.Chain{Backend: "nft", Family: "ipv4", Table: "filter", Name: "KUBE-FORWARD", Present: true,
			Rules: []wire.ChainRule{{Handle: 5, Text: "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP", Packets: packets}}}
	}
	tests := map[string]struct {
		change func(*survey.Node)
		want   string
	}{
		"healthy":                     {func(*survey.Node) {}, ""},
		"conntrack at nine tenths":    {func(n *survey.Node) { n.Describe.ConntrackCount = 900 }, "warning conntrack-nearly-full"},
		"conntrack below nine tenths": {func(n *survey.Node) { n.Describe.ConntrackCount = 899 }, ""},
		"conntrack full":              {func(n *survey.Node) { n.Describe.ConntrackCount = 1000 }, "error conntrack-full"},
		"many lost races":             {func(n *survey.Node) { n.Facts.Conntrack.InsertFailed = 100 }, "info conntrack-insert-failed"},
		"some lost races":             {func(n *survey.Node) { n.Facts.Conntrack.InsertFailed = 99 }, ""},
		"few invalid":                 {func(n *survey.Node) { n.Facts.Chains = append(n.Facts.Chains, invalid(99)) }, ""},
		"many invalid":                {func(n *survey.Node) { n.Facts.Chains = append(n.Facts.Chains, invalid(100)) }, "info invalid-drop"},
		"invalid, but liberal": {func(n *survey.Node) {
			n.Facts.Chains = append(n.Facts.Chains, invalid(100))
			n.Facts.Sysctls[1].Value = "1"
		}, ""},
		"a tunnel that fits":         {func(n *survey.Node) { n.Facts.Links = []wire.Link{vxlan} }, ""},
		"a tunnel that does not fit": {func(n *survey.Node) { x := vxlan; x.MTU = 1500; n.Facts.Links = []wire.Link{x} }, "warning mtu-too-small"},
		"an old kernel":              {func(n *survey.Node) { n.Hello.Kernel = "5.4.40-generic"; n.Facts.Links = []wire.Link{vxlan} }, "warning vxlan-checksum-offload"},
		"a repaired old kernel":      {func(n *survey.Node) { n.Hello.Kernel = "5.4.41-generic"; n.Facts.Links = []wire.Link{vxlan} }, ""},
		"a change that waits":        {func(n *survey.Node) { n.Facts.KubeProxy.Sync[0] = wire.Sync{Queued: 200, Last: 100, QueuedAge: 61} }, "warning kube-proxy-not-syncing"},
		"a change a moment ago":      {func(n *survey.Node) { n.Facts.KubeProxy.Sync[0] = wire.Sync{Queued: 200, Last: 100, QueuedAge: 3} }, ""},
		"a node port served elsewhere only": {func(n *survey.Node) { // the walk to the ClusterIP is right, so nothing is said
			n.Facts.KubeProxy.Config = &wire.KubeProxyConfig{NodePortAddresses: []string{"127.0.0.0/8"}}
		}, ""},
		"failures of long ago": {func(n *survey.Node) { n.Facts.KubeProxy.Failures = 4 }, ""},
		"facts that could not be read": {func(n *survey.Node) {
			n.Facts = &wire.FactsAnswer{Unread: []string{"kube-proxy's endpoints: permission denied", "nftables chains: permission denied"}}
		}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := model("10.244.1.2:8080")
			n := nodeWith(m, "n1", out(trace.Forwarded, "10.244.1.2:8080", 1, 1))
			tt.change(n)
			r := diagnose.Compare(m, []*survey.Node{n}, nil)
			if got := idsOf(r); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			for _, f := range r.Findings {
				if len(f.Evidence) == 0 || !slices.Equal(f.Nodes, []string{"n1"}) {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

func TestOneNodeThatDiffersFromItsPeersIsStale(t *testing.T) {
	m := model("10.244.1.2:8080")
	right := func(name string) *survey.Node {
		return nodeWith(m, name, out(trace.Forwarded, "10.244.1.2:8080", 1, 1))
	}
	wrong := nodeWith(m, "n3", out(trace.Forwarded, "10.244.9.9:8080", 1, 1))
	check := func(want string, nodes ...*survey.Node) {
		t.Helper()
		if got := idsOf(diagnose.Compare(m, nodes, nil)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	check("error kube-proxy-stale", right("n1"), right("n2"), wrong)
	check("error endpoint-missing-in-kernel, error endpoint-not-in-api", wrong) // nobody to compare with
	wrong.Facts.KubeProxy = wire.KubeProxy{}
	check("error kube-proxy-down", right("n1"), wrong)
	wrong.Facts = nil
	check("error stale-node-rules", right("n1"), right("n2"), wrong)
}

func TestSourceOfTheNodesOwnConnections(t *testing.T) {
	m := model("10.244.2.2:8080")
	node := func(out string, gateway string) *survey.Node {
		n := nodeWith(m, "n1", trace.Outcome{Verdict: trace.Forwarded, Probability: trace.NewProbability(1, 1), Path: []int{0},
			Destination: netip.MustParseAddrPort("10.244.2.2:8080"), Source: netip.MustParseAddrPort("192.168.1.5:40000")})
		n.Walks[0].Client = intent.Client{Kind: intent.FromNode, Node: "n1"}
		ep := wire.Route{To: netip.MustParseAddr("10.244.2.2"), Out: out, Source: netip.MustParseAddr("10.0.0.5")}
		if gateway != "" {
			ep.Gateway = netip.MustParseAddr(gateway)
		}
		n.Facts.Routes = []wire.Route{{To: netip.MustParseAddr("10.96.0.25"), Out: "eth0", Source: netip.MustParseAddr("192.168.1.5")}, ep}
		n.Facts.Links = []wire.Link{{Name: "flannel.1", Kind: "vxlan", Overhead: 50}, {Name: "eth1"}}
		return n
	}
	for name, c := range map[string]struct {
		n    *survey.Node
		want string
	}{
		"by another network": {node("eth1", "10.0.0.1"), "warning source-routed-before-dnat"},
		"by a tunnel":        {node("flannel.1", "10.244.2.0"), ""},
		"on the node itself": {node("cni0", ""), ""},
	} {
		if got := idsOf(diagnose.Compare(m, []*survey.Node{c.n}, nil)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestConfigurationThatWasNotApplied(t *testing.T) {
	m := model("10.244.1.2:8080")
	for name, tt := range map[string]struct {
		written apistate.ProxyConfig
		running string
		want    string
	}{
		"as it runs":           {apistate.ProxyConfig{Mode: "nftables", ClusterCIDR: "fd00::/48, 10.244.0.0/16"}, "10.244.0.0/16,fd00::/48", ""},
		"another mode":         {apistate.ProxyConfig{Mode: "ipvs"}, "", "warning kube-proxy-config-unapplied"},
		"another range":        {apistate.ProxyConfig{Mode: "nftables", ClusterCIDR: "10.0.0.0/8"}, "10.244.0.0/16", "warning kube-proxy-config-unapplied"},
		"a range not told":     {apistate.ProxyConfig{Mode: "nftables", ClusterCIDR: "10.0.0.0/8"}, "", ""},
		"a range without form": {apistate.ProxyConfig{Mode: "nftables", ClusterCIDR: "pods"}, "10.244.0.0/16", ""},
	} {
		t.Run(name, func(t *testing.T) {
			n := nodeWith(m, "n1", out(trace.Forwarded, "10.244.1.2:8080", 1, 1))
			n.Facts.KubeProxy.Config = &wire.KubeProxyConfig{MasqueradeAll: true}
			for p := range strings.SplitSeq(tt.running, ",") {
				if p != "" {
					n.Facts.KubeProxy.Config.ClusterCIDR = append(n.Facts.KubeProxy.Config.ClusterCIDR, netip.MustParsePrefix(p))
				}
			}
			if got := idsOf(diagnose.Compare(m, []*survey.Node{n}, &apistate.State{Proxy: &tt.written})); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
