//go:build linux

package namespaces

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/walk"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/netns"
)

// pair is two nodes with a pod each, joined by a cable; between says how pods reach each other.
type pair struct {
	node, pod [2]*netns.Place
}

func twoNodes(t *testing.T, vxlan bool) pair {
	var p pair
	for i := range 2 {
		p.node[i], p.pod[i] = netns.New(t, []string{"node1", "node2"}[i]), netns.New(t, []string{"pod1", "pod2"}[i])
	}
	wire := netns.NewHidden(t, "switch")
	wire.Sh(t, "ip link add br0 type bridge", "ip link set br0 up", "sysctl -qw net.bridge.bridge-nf-call-iptables=0")
	for i, port := range []string{"p1", "p2"} {
		netns.Plug(t, p.node[i], "eth0", wire, port)
		wire.Sh(t, "ip link set "+port+" master br0")
	}
	for i := range 2 {
		own, other := string(rune('1'+i)), string(rune('2'-i))
		n, pod := p.node[i], p.pod[i]
		n.Sh(t, "ip addr add 10.250.0.1"+own+"/24 dev eth0", "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0")
		netns.Plug(t, n, "pod0", pod, "eth0")
		n.Sh(t, "ip addr add 10.244."+own+".1/24 dev pod0")
		pod.Sh(t, "ip addr add 10.244."+own+".5/24 dev eth0", "ip route add default via 10.244."+own+".1")
		if !vxlan {
			n.Sh(t, "ip route add 10.244."+other+".0/24 via 10.250.0.1"+other)
			continue
		}
		n.Sh(t, "ip link add flannel.1 address 02:00:00:00:00:0"+own+" type vxlan id 1 local 10.250.0.1"+own+" dev eth0 nolearning dstport 8472",
			"ip addr add 10.244."+own+".0/32 dev flannel.1", "ip link set flannel.1 up",
			"ip neigh add 10.244."+other+".0 lladdr 02:00:00:00:00:0"+other+" dev flannel.1 nud permanent",
			"bridge fdb append 02:00:00:00:00:0"+other+" dev flannel.1 dst 10.250.0.1"+other,
			"ip route add 10.244."+other+".0/24 via 10.244."+other+".0 dev flannel.1 onlink")
	}
	p.pod[1].Listen(t, "0.0.0.0:8080")
	p.node[0].Sh(t, "iptables-legacy -t nat -A PREROUTING -d 10.96.0.1/32 -p tcp --dport 80 -j DNAT --to-destination 10.244.2.5:8080")
	return p
}

// journey walks from pod1 by both nodes to pod2, and the reply back. It ends early where the packet does.
func (p pair) journey(t *testing.T, to string) (forward, onward, back, home *trace.Trace) {
	t.Helper()
	forward = p.node[0].Walk(t, netns.Start("10.244.1.5", to))
	f := forward.Outcomes[0]
	if f.Verdict != trace.Forwarded || f.Tunnel != nil && !f.Tunnel.Destination.Addr().IsValid() {
		return forward, nil, nil, nil
	}
	onward = p.node[1].Walk(t, walk.Start{
		Proto: skb.TCP, Source: f.Source, Destination: f.Destination, Follow: true,
		Arrives: netip.MustParseAddr("10.250.0.12"), Tunnel: f.Tunnel,
	})
	o := onward.Outcomes[0]
	if o.Verdict != trace.Delivered {
		return forward, onward, nil, nil
	}
	back = p.node[1].Walk(t, walk.Start{
		Proto: skb.TCP, Source: o.Destination, Destination: o.Source, Follow: true, FromAddress: true, Reply: true, Assume: o.Tracked,
	})
	b := back.Outcomes[0]
	if b.Verdict != trace.Forwarded {
		return forward, onward, back, nil
	}
	home = p.node[0].Walk(t, walk.Start{
		Proto: skb.TCP, Source: b.Source, Destination: b.Destination, Follow: true, Reply: true, Assume: f.Tracked,
		Arrives: netip.MustParseAddr("10.250.0.11"), Tunnel: b.Tunnel,
	})
	return forward, onward, back, home
}

func TestBetweenNodes(t *testing.T) {
	for name, c := range map[string]struct {
		vxlan bool
		setup func(t *testing.T, p pair)
		// connected is whether a real connection comes about; word is in what the walks say.
		connected bool
		word      string
	}{
		"by a plain route": {false, nil, true, "10.250.0.12"},
		"by VXLAN":         {true, nil, true, "unwrapped by flannel.1"},
		"the receiving node drops the outer packet": {true, func(t *testing.T, p pair) {
			p.node[1].Sh(t, "iptables-legacy -A INPUT -p udp --dport 8472 -j DROP")
		}, false, "INPUT"},
		"the sending node drops the outer packet": {true, func(t *testing.T, p pair) {
			p.node[0].Sh(t, "iptables-legacy -A OUTPUT -p udp --dport 8472 -j DROP")
		}, false, "OUTPUT"},
		"the receiving node's network identifier differs": {true, func(t *testing.T, p pair) {
			p.node[1].Sh(t, "ip link del flannel.1", "ip link add flannel.1 type vxlan id 2 local 10.250.0.12 dev eth0 nolearning dstport 8472", "ip link set flannel.1 up")
		}, false, "no vxlan interface with id 1"},
		"the forwarding database knows no node": {true, func(t *testing.T, p pair) {
			p.node[0].Sh(t, "bridge fdb del 02:00:00:00:00:02 dev flannel.1 dst 10.250.0.12")
		}, false, "no entry for the next hop"},
		"the receiving node does not forward": {false, func(t *testing.T, p pair) {
			p.node[1].Sh(t, "sysctl -qw net.ipv4.ip_forward=0")
		}, false, "does not forward"},
		"the reply is dropped on its way out": {false, func(t *testing.T, p pair) {
			p.node[1].Sh(t, "iptables-legacy -A FORWARD -s 10.244.2.5 -j DROP")
		}, false, "FORWARD"},
		"the reply has no route": {false, func(t *testing.T, p pair) {
			p.node[1].Sh(t, "ip route del 10.244.1.0/24")
		}, false, "no route"},
		"the client's node drops what conntrack finds invalid": {false, func(t *testing.T, p pair) {
			p.node[0].Sh(t, "iptables-legacy -t raw -A PREROUTING -s 10.244.1.5 -j CT --notrack",
				"iptables-legacy -A FORWARD -m conntrack --ctstate INVALID -j DROP")
		}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := twoNodes(t, c.vxlan)
			to := "10.96.0.1:80"
			if strings.Contains(name, "invalid") {
				to = "10.244.2.5:8080"
			}
			if c.setup != nil {
				c.setup(t, p)
			}
			forward, onward, back, home := p.journey(t, to)
			said := ""
			for _, tr := range []*trace.Trace{forward, onward, back, home} {
				if tr != nil {
					said += netns.Says(tr) + "--\n"
				}
			}
			real := p.pod[0].Connects(to)
			if (real == "connected") != c.connected {
				t.Errorf("the real connection: %s", real)
			}
			arrived := home != nil && home.Outcomes[0].Verdict == trace.Local && home.Outcomes[0].Source == netip.MustParseAddrPort(to)
			if arrived != (real == "connected") {
				t.Errorf("the reply arrives from %s in the walk: %v; the real connection: %s\n%s", to, arrived, real, said)
			}
			if !strings.Contains(said, c.word) {
				t.Errorf("the walks do not say %q:\n%s", c.word, said)
			}
		})
	}
}
