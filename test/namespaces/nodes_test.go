//go:build linux

package namespaces

import (
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/netns"
)

// twoNodes joins two nodes by plain routes, or as flannel does by VXLAN, and has a Service on the first.
func twoNodes(t *testing.T, vxlan bool) netns.Pair {
	p := netns.NewPair(t)
	for i, n := range p.Node {
		own, other := string(rune('1'+i)), string(rune('2'-i))
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
	p.Node[0].Sh(t, "iptables-legacy -t nat -A PREROUTING -d 10.96.0.1/32 -p tcp --dport 80 -j DNAT --to-destination 10.244.2.5:8080")
	return p
}

func TestBetweenNodes(t *testing.T) {
	for name, c := range map[string]struct {
		vxlan bool
		setup func(t *testing.T, p netns.Pair)
		// connected is whether a real connection comes about; word is in what the walks say.
		connected bool
		word      string
	}{
		"by a plain route": {false, nil, true, "10.250.0.12"},
		"by VXLAN":         {true, nil, true, "unwrapped by flannel.1"},
		"the receiving node drops the outer packet": {true, func(t *testing.T, p netns.Pair) {
			p.Node[1].Sh(t, "iptables-legacy -A INPUT -p udp --dport 8472 -j DROP")
		}, false, "INPUT"},
		"the sending node drops the outer packet": {true, func(t *testing.T, p netns.Pair) {
			p.Node[0].Sh(t, "iptables-legacy -A OUTPUT -p udp --dport 8472 -j DROP")
		}, false, "OUTPUT"},
		"the receiving node's network identifier differs": {true, func(t *testing.T, p netns.Pair) {
			p.Node[1].Sh(t, "ip link del flannel.1", "ip link add flannel.1 type vxlan id 2 local 10.250.0.12 dev eth0 nolearning dstport 8472", "ip link set flannel.1 up")
		}, false, "no vxlan interface with id 1"},
		"the forwarding database knows no node": {true, func(t *testing.T, p netns.Pair) {
			p.Node[0].Sh(t, "bridge fdb del 02:00:00:00:00:02 dev flannel.1 dst 10.250.0.12")
		}, false, "no entry for the next hop"},
		"the receiving node does not forward": {false, func(t *testing.T, p netns.Pair) {
			p.Node[1].Sh(t, "sysctl -qw net.ipv4.ip_forward=0")
		}, false, "does not forward"},
		"the reply is dropped on its way out": {false, func(t *testing.T, p netns.Pair) {
			p.Node[1].Sh(t, "iptables-legacy -A FORWARD -s 10.244.2.5 -j DROP")
		}, false, "FORWARD"},
		"the reply has no route": {false, func(t *testing.T, p netns.Pair) {
			p.Node[1].Sh(t, "ip route del 10.244.1.0/24")
		}, false, "no route"},
		"the client's node drops what conntrack finds invalid": {false, func(t *testing.T, p netns.Pair) {
			p.Node[0].Sh(t, "iptables-legacy -t raw -A PREROUTING -s 10.244.1.5 -j CT --notrack",
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
			j := p.Walk(t, to)
			said := j.Says()
			real := p.Pod[0].Connects(to)
			if (real == "connected") != c.connected {
				t.Errorf("the real connection: %s", real)
			}
			if arrived := j.Connects(to); arrived != (real == "connected") {
				t.Errorf("the reply arrives from %s in the walk: %v; the real connection: %s\n%s", to, arrived, real, said)
			}
			if !strings.Contains(said, c.word) {
				t.Errorf("the walks do not say %q:\n%s", c.word, said)
			}
		})
	}
}
