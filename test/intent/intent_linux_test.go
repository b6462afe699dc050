package intent

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/walk"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// seedVariable names another seed than that of every run.
const seedVariable = "SVCTRACE_SEED"

func seedOf(t *testing.T) uint64 {
	t.Helper()
	s := os.Getenv(seedVariable)
	if s == "" {
		return 20
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", seedVariable, err)
	}
	return n
}

// perState is how many Services share one kube-proxy.
const perState = 32

// configurations are kube-proxy's, as its file has them and as the intent knows them.
var configurations = []struct {
	name   string
	config string
	proxy  intent.Proxy
}{
	{"cluster CIDR", `{"clusterCIDR": "10.244.0.0/16,fd00:244::/32"}`, intent.Proxy{DetectLocal: intent.ByClusterCIDR, ClusterCIDRs: cidrs("10.244.0.0/16", "fd00:244::/32")}},
	{"masquerade all", `{"clusterCIDR": "10.244.0.0/16,fd00:244::/32", "iptables": {"masqueradeAll": true}, "nftables": {"masqueradeAll": true}}`,
		intent.Proxy{DetectLocal: intent.ByClusterCIDR, ClusterCIDRs: cidrs("10.244.0.0/16", "fd00:244::/32"), MasqueradeAll: true}},
	{"no way to tell pods", `{}`, intent.Proxy{}},
	{"node CIDR", `{"detectLocalMode": "NodeCIDR"}`, intent.Proxy{DetectLocal: intent.ByNodeCIDR}},
	{"interface", `{"detectLocalMode": "InterfaceNamePrefix", "detectLocal": {"interfaceNamePrefix": "pod"}}`, intent.Proxy{DetectLocal: intent.ByInterface}},
}

var backends = map[string]intent.Mode{"nftables": intent.NFTables, "iptables-nft": intent.IPTables, "iptables-legacy": intent.IPTables}

func cidrs(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// tally counts what was compared.
type tally struct {
	cases, walks int
	fates        map[intent.Fate]int
	// explained counts the walks where one of two documented behaviours was right.
	explained map[string]int
}

// TestKubeProxyDoesWhatIsExpected makes cases in every configuration and backend, lets kube-proxy write its rules for them,
// and walks every access path from every kind of client.
func TestKubeProxyDoesWhatIsExpected(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("network namespaces need root")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	program, err := lab.KubeProxyState(ctx, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	seed := seedOf(t)
	t.Logf("seed %d", seed)
	sum := tally{fates: map[intent.Fate]int{}, explained: map[string]int{}}
	err = inNode(func() error {
		p, err := startProxy(ctx, program)
		if err != nil {
			return err
		}
		number := 0
		for _, backend := range []string{"nftables", "iptables-nft", "iptables-legacy"} {
			for _, c := range configurations {
				s := &state{
					Name: backend + ", " + c.name, Backend: backend, NodeName: "node1", Families: []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
					Config: json.RawMessage(c.config), ServiceCIDRs: []string{"10.96.0.0/16", "fd00:96::/64"}, Nodes: nodes(),
				}
				var cases []one
				for range perState {
					number++
					x := dice{rand.New(rand.NewPCG(seed, uint64(number)))}.draw(number)
					cases = append(cases, x)
					s.Services, s.EndpointSlices = append(s.Services, x.service), append(s.EndpointSlices, x.slices...)
				}
				if err := p.write(s); err != nil {
					return err
				}
				for _, x := range cases {
					sum.cases++
					if err := compare(ctx, t, s, x, &c.proxy, &sum); err != nil {
						return err
					}
				}
			}
		}
		return p.stop()
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d cases, %d walks; fates %v; explained %v", sum.cases, sum.walks, sum.fates, sum.explained)
	if sum.cases < 300 {
		t.Errorf("%d cases, want at least 300", sum.cases)
	}
	for _, f := range []intent.Fate{intent.Translated, intent.Rejected, intent.Dropped, intent.Untouched} {
		if sum.fates[f] < 20 {
			t.Errorf("only %d walks ought to be %s: the cases do not show it", sum.fates[f], f)
		}
	}
}

// compare walks every access path of a case from every client.
func compare(ctx context.Context, t *testing.T, s *state, x one, proxy *intent.Proxy, sum *tally) error {
	var list []intent.Node
	for i := range s.Nodes {
		list = append(list, intent.NodeOf(&s.Nodes[i]))
	}
	m, err := intent.Build(&x.service, x.slices, list)
	if err != nil {
		return fmt.Errorf("%s: %w", x.service.Name, err)
	}
	m.Proxy = proxy
	here, mode := list[0], backends[s.Backend]
	for _, path := range m.Paths {
		to, ok := path.Destination(here)
		if !ok {
			return fmt.Errorf("node1 has no address for %s", path)
		}
		for _, c := range clients(m, path) {
			got, err := walkOf(ctx, path, c, to)
			if err != nil {
				return fmt.Errorf("%s, %s: %s from %s: %w", s.Name, x.service.Name, path, c, err)
			}
			want := m.Expect(path, c, here, mode)
			sum.walks++
			sum.fates[want.Fate]++
			if seen := outcome(got, c, to); seen != expected(want, c) {
				explained := false
				for _, alt := range want.Alternatives {
					if seen == expected(alt, c) {
						explained = true
						sum.explained[alt.Why]++
						break
					}
				}
				if !explained {
					b, _ := json.Marshal(x.service.Spec)
					t.Errorf("%s, %s: %s from %s:\n  expected %s (%s)\n  found    %s\n  %s\n  %v", s.Name, x.service.Name, path, c, expected(want, c), want.Why, seen, b, m.Endpoints())
				}
			}
		}
	}
	return nil
}

// clients are a pod of the node, a pod of the other node, the node, an address outside, and, if there is one on the node, a
// pod that is itself an endpoint.
func clients(m *intent.Model, path intent.AccessPath) []intent.Client {
	pod, outside := "10.244.1.9", "192.0.2.1"
	if path.Family == intent.IPv6 {
		pod, outside = "fd00:244:1::9", "2001:db8::1"
	}
	out := []intent.Client{
		{Kind: intent.FromPod, Node: "node1", Source: netip.MustParseAddr(pod)},
		{Kind: intent.FromNode, Node: "node1"},
		{Kind: intent.FromOutside, Node: "node1", Source: netip.MustParseAddr(outside)},
	}
	for _, e := range m.Ports[path.PortIndex].Endpoints {
		if e.Node == "node1" {
			return append(out, intent.Client{Kind: intent.FromPod, Node: "node1", Source: e.Address.Addr(), Pod: "itself"})
		}
	}
	return out
}

// alone is the node without what is at the far ends of its interfaces.
type alone struct{ *live.Node }

// Peer finds no namespace.
func (alone) Peer(context.Context, string, node.Link) (peer, name string, err error) {
	return "", "", node.ErrNotFound
}

var protocols = map[string]uint8{"tcp": 6, "udp": 17, "sctp": 132}

// walkOf walks a packet through the calling thread's namespace.
func walkOf(ctx context.Context, path intent.AccessPath, c intent.Client, to netip.AddrPort) (*trace.Trace, error) {
	w := walk.Walker{Open: func(context.Context) (node.Node, func() error, error) {
		n, err := live.OpenNode()
		if err != nil {
			return nil, nil, err
		}
		return alone{n}, n.Close, nil
	}}
	start := walk.Start{Proto: protocols[path.Protocol], Destination: to, Node: "node1"}
	switch c.Kind {
	case intent.FromPod:
		start.Source, start.In = netip.AddrPortFrom(c.Source, 40000), "pods"
	case intent.FromOutside:
		start.Source, start.In = netip.AddrPortFrom(c.Source, 40000), "eth0"
	}
	return w.Walk(ctx, start)
}

// outcome writes what was found: the fate, and for a translation the endpoints, each with a star when the source is
// replaced. A node's own packets have a node's address either way, so that is left out for them.
func outcome(t *trace.Trace, c intent.Client, to netip.AddrPort) string {
	var words []string
	for i := range t.Outcomes {
		o := &t.Outcomes[i]
		word := ""
		switch {
		case o.Verdict == trace.Undetermined || len(o.Conditions) > 0:
			word = fmt.Sprintf("undetermined: %v %v %s", o.Unknown, o.Conditions, o.Reason)
		case o.Destination != to:
			word = o.Destination.String()
			if o.Verdict == trace.Dropped || o.Verdict == trace.Rejected {
				word += " and then " + string(o.Verdict)
			} else if o.Masqueraded && c.Kind != intent.FromNode {
				word += "*"
			}
		case o.Verdict == trace.Rejected:
			word = string(intent.Rejected)
		case o.Verdict == trace.Dropped:
			word = string(intent.Dropped)
		default:
			word = string(intent.Untouched)
		}
		if !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

// expected writes an expectation in the same form.
func expected(e intent.Expectation, c intent.Client) string {
	if e.Fate != intent.Translated {
		return string(e.Fate)
	}
	var words []string
	for _, s := range e.Shares {
		word := s.Endpoint.Address.String()
		if s.Masquerade == intent.Masqueraded && c.Kind != intent.FromNode {
			word += "*"
		}
		words = append(words, word)
	}
	slices.Sort(words)
	return strings.Join(slices.Compact(words), " ")
}
