//go:build linux

package namespaces

import (
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/netns"
)

// bridged is a node with two pods on a bridge, and a Service address that leads to a port of the second pod. first are
// commands for the node before it has the bridge.
func bridged(t *testing.T, first ...string) (n, pod1, pod2 *netns.Place) {
	n, pod1, pod2 = netns.New(t, "node"), netns.New(t, "pod1"), netns.New(t, "pod2")
	n.Sh(t, first...)
	n.Sh(t, "ip link add br0 type bridge", "ip link set br0 up", "ip addr add 10.244.1.1/24 dev br0", "sysctl -qw net.ipv4.ip_forward=1")
	for i, p := range []*netns.Place{pod1, pod2} {
		port := []string{"v1", "v2"}[i]
		netns.Plug(t, n, port, p, "eth0")
		n.Sh(t, "ip link set "+port+" master br0")
		p.Sh(t, "ip addr add 10.244.1.1"+string(rune('1'+i))+"/24 dev eth0", "ip route add default via 10.244.1.1")
	}
	n.Sh(t, "iptables-legacy -t nat -A PREROUTING -d 10.96.0.1/32 -p tcp --dport 80 -j DNAT --to-destination 10.244.1.12:8080",
		"iptables-legacy -t nat -A PREROUTING -d 10.96.0.2/32 -p tcp --dport 80 -j DNAT --to-destination 10.244.1.11:8080")
	pod2.Listen(t, "10.244.1.12:8080")
	pod2.Listen(t, "127.0.0.1:9090")
	pod1.Listen(t, "10.244.1.11:8080")
	return n, pod1, pod2
}

func TestAcrossABridge(t *testing.T) {
	for name, c := range map[string]struct {
		setup func(t *testing.T, n, pod1, pod2 *netns.Place)
		to    string
		want  string
		word  string // in what the trace says
	}{
		"pod to pod": {nil, "10.244.1.12:8080", "connected", "across br0"},
		"to a Service, with br_netfilter": {
			func(t *testing.T, n, _, _ *netns.Place) { n.Sh(t, "sysctl -qw net.bridge.bridge-nf-call-iptables=1") },
			"10.96.0.1:80", "connected", "calls the IP hooks"},
		"nobody listens":           {nil, "10.244.1.12:9999", "refused", "no socket listens on tcp port 9999"},
		"listens on loopback only": {nil, "10.244.1.12:9090", "refused", "a socket listens on 127.0.0.1:9090 only"},
		"the pod's own rule drops": {
			func(t *testing.T, _, _, pod2 *netns.Place) {
				pod2.Sh(t, "iptables-legacy -A INPUT -p tcp --dport 8080 -j DROP")
			},
			"10.96.0.1:80", "silent", "INPUT"},
		"the pod's own rule rejects": {
			func(t *testing.T, _, _, pod2 *netns.Place) {
				pod2.Sh(t, "iptables-legacy -A INPUT -p tcp --dport 8080 -j REJECT --reject-with tcp-reset")
			},
			"10.96.0.1:80", "refused", "INPUT"},
		"a rule in the client's pod redirects to a sidecar": {
			func(t *testing.T, _, pod1, _ *netns.Place) {
				pod1.Listen(t, "127.0.0.1:15001")
				pod1.Sh(t, "iptables-legacy -t nat -A OUTPUT -p tcp --dport 80 -j REDIRECT --to-ports 15001")
			},
			"10.96.0.1:80", "connected", "127.0.0.1:15001"},
		"FORWARD drops, with br_netfilter": {
			func(t *testing.T, n, _, _ *netns.Place) {
				n.Sh(t, "sysctl -qw net.bridge.bridge-nf-call-iptables=1", "iptables-legacy -P FORWARD DROP")
			},
			"10.244.1.12:8080", "silent", "policy drop"},
		"FORWARD drops, without br_netfilter a frame passes beside it": {
			func(t *testing.T, n, _, _ *netns.Place) {
				n.Sh(t, "sysctl -qw net.bridge.bridge-nf-call-iptables=0", "iptables-legacy -P FORWARD DROP")
			},
			"10.244.1.12:8080", "connected", "across br0"},
		"FORWARD drops what the node routes, without br_netfilter too": {
			func(t *testing.T, n, _, _ *netns.Place) {
				n.Sh(t, "sysctl -qw net.bridge.bridge-nf-call-iptables=0", "iptables-legacy -P FORWARD DROP")
			},
			"10.96.0.1:80", "silent", "up from br0"},
		"a chain of the bridge family drops": {
			func(t *testing.T, n, _, _ *netns.Place) {
				n.Sh(t, `nft 'table bridge x {
					chain y { type filter hook forward priority 0; policy accept
					iifname "v1" tcp dport 8080 drop
					}
				}'`)
			},
			"10.244.1.12:8080", "silent", "bridge x"},
		"to itself, hairpin off, with br_netfilter": {
			func(t *testing.T, n, _, _ *netns.Place) {
				n.Sh(t, "sysctl -qw net.bridge.bridge-nf-call-iptables=1", "iptables-legacy -t nat -A POSTROUTING -s 10.244.1.11 -d 10.244.1.11 -j MASQUERADE")
			},
			"10.96.0.2:80", "silent", "hairpin mode is off"},
		"to itself, hairpin on": {
			func(t *testing.T, n, _, _ *netns.Place) {
				n.Sh(t, "sysctl -qw net.bridge.bridge-nf-call-iptables=1", "iptables-legacy -t nat -A POSTROUTING -s 10.244.1.11 -d 10.244.1.11 -j MASQUERADE",
					"ip link set v1 type bridge_slave hairpin on")
			},
			"10.96.0.2:80", "connected", "masquerade"},
		"ip_forward off": {
			func(t *testing.T, n, _, _ *netns.Place) {
				n.Sh(t, "sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.ipv4.ip_forward=0")
			},
			"10.96.0.1:80", "silent", "does not forward"},
	} {
		t.Run(name, func(t *testing.T) {
			n, pod1, pod2 := bridged(t)
			// A first packet teaches the bridge and the neighbour tables who is where.
			pod1.Connects("10.244.1.1:1")
			pod2.Connects("10.244.1.1:1")
			if c.setup != nil {
				c.setup(t, n, pod1, pod2)
			}
			tr := n.Walk(t, netns.Start("10.244.1.11", c.to))
			real := pod1.Connects(c.to)
			if real != c.want {
				t.Errorf("the real connection: %s, and the case is about %s", real, c.want)
			}
			if got := netns.Fate(t, tr); got != real {
				t.Errorf("the walk says %s, the kernel %s:\n%s", got, real, netns.Says(tr))
			}
			if !strings.Contains(netns.Says(tr), c.word) {
				t.Errorf("the walk does not say %q:\n%s", c.word, netns.Says(tr))
			}
		})
	}
}
