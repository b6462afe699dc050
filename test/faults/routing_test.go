package faults

import (
	"context"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// routingFaults are settings and routes.
var routingFaults = []fault{
	{
		name: "forwarding is off", want: "ip-forward-off", node: 2,
		cause: set("net.ipv4.ip_forward", "0"), repair: set("net.ipv4.ip_forward", "1"),
		real:  fails(clientPod, clusterIP),
		proof: []string{"net.ipv4.ip_forward = 0"},
	},
	{
		name: "reverse path filter", want: "rp-filter-drop", node: 2,
		cause:  sequence(set("net.ipv4.conf.eth0.rp_filter", "1"), shell("ip route add 10.250.0.100/32 dev cni0")),
		repair: sequence(set("net.ipv4.conf.eth0.rp_filter", "0"), shell("ip route del 10.250.0.100/32 dev cni0")),
		real:   nodePortFails(outside, 30080),
		proof:  []string{"net.ipv4.conf.eth0.rp_filter is 1"},
	},
	{
		name: "a route is missing", want: "no-route-to-endpoint", node: 3,
		cause:  shell("ip route replace unreachable 10.244.1.0/24"),
		repair: shell("ip route del unreachable 10.244.1.0/24; ip route add 10.244.1.0/24 via 10.250.0.11"),
		real:   fails(clientPod, clusterIP),
		proof:  []string{"no way to endpoint", "EHOSTUNREACH"},
	},
	{
		name: "no route to the Service", want: "source-routed-before-dnat", hence: []string{"walk-failed"}, node: 3,
		cause: shell("ip route add unreachable 10.96.0.25/32"), repair: shell("ip route del unreachable 10.96.0.25/32"),
		real:  fails(itself, clusterIP),
		proof: []string{"before any rule is asked", "EHOSTUNREACH"},
	},
	{
		name: "bridge netfilter is off", want: "bridge-netfilter-off", hence: []string{"reply-not-translated"}, node: 1,
		cause: sequence(reachPods, set("net.bridge.bridge-nf-call-iptables", "0")), repair: set("net.bridge.bridge-nf-call-iptables", "1"),
		real:  fails(clientPod, clusterIP),
		proof: []string{"net.bridge.bridge-nf-call-iptables = 0", "behind port"},
	},
	{
		name: "hairpin is off", want: "hairpin-off", node: 1,
		cause: sequence(reachPods, hairpin("off")), repair: hairpin("on"),
		real:  fails(webPod, clusterIP),
		proof: []string{"hairpin_mode is 0"},
	},
}

// reachPods makes the node know where its pods are: what nobody talks to is forgotten.
func reachPods(ctx context.Context, b *bed, n *lab.Node) error {
	for _, ip := range b.podOn(n.Name).Status.PodIPs {
		to := netip.AddrPortFrom(netip.MustParseAddr(ip.IP), lab.WebPort)
		if _, err := n.Connect(ctx, to, lab.ConnectOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// hairpin sets the mode of all ports of the node's bridge.
func hairpin(mode string) func(context.Context, *bed, *lab.Node) error {
	return shell("for p in $(ip -o link show master cni0 | sed 's/^[0-9]*: //; s/@.*//'); do ip link set dev $p type bridge_slave hairpin " + mode + "; done")
}
