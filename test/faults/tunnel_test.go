package faults

import (
	"context"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

const tunnelUp = "ip link add svx0 type vxlan id 77 dev eth0 local 10.250.0.11 dstport 8472; ip link set svx0 mtu 1450 up; "

// tunnelFaults are about the network between the nodes, and about agents that can tell less than others.
var tunnelFaults = []fault{
	{
		name: "a tunnel larger than the network below it", want: "mtu-too-small", node: 1,
		cause: shell(tunnelUp + "ip link set eth0 mtu 1400"), repair: shell("ip link set eth0 mtu 1500; ip link del svx0"),
		sees: "packets of the tunnel that the interface below cannot take", proof: []string{"svx0", "mtu 1450", "mtu 1400"},
	},
	{
		name: "a tunnel with checksum offload on an old kernel", want: "vxlan-checksum-offload", node: 1,
		cause:  sequence(shell(tunnelUp), oldKernel),
		repair: sequence(todaysKernel, shell("ip link del svx0")),
		sees:   "a real tunnel with checksum offload; the kernel's release is pretended (personality UNAME26)", proof: []string{"tx-checksumming is on", "kernel 2.6"},
	},
	{
		name: "replies that come back by a third node", want: "asymmetric-path", quiet: true,
		cause: func(ctx context.Context, b *bed, _ *lab.Node) error {
			return shell("ip route replace 10.244.1.0/24 via 10.250.0.13")(ctx, b, b.Node(2))
		},
		repair: func(ctx context.Context, b *bed, _ *lab.Node) error {
			return shell("ip route replace 10.244.1.0/24 via 10.250.0.11")(ctx, b, b.Node(2))
		},
		real: answers(clientPod, clusterIP), sees: "connections are answered, and node3 sees half of them", proof: []string{"another way"},
	},
	{
		name: "old rules on a node whose agent cannot tell of its kube-proxy", want: "stale-node-rules", node: 3, hence: []string{"rejected-though-endpoints"},
		cause:  sequence(shell("nft delete element ip kube-proxy service-ips '{ 10.96.0.25 . tcp . 80 }'"), silence(true)),
		repair: sequence(silence(false), restartProxy), real: fails(clientPod, clusterIP), proof: []string{"the rules of the other 2 nodes are right"},
	},
}

// silence lets the agent of a node know nothing of facts, as one of an older release does.
func silence(on bool) step {
	return func(_ context.Context, b *bed, n *lab.Node) error {
		b.agents[n.Index-1].factless = on
		return nil
	}
}

// oldKernel puts an agent that believes in an old kernel in the place of the node's.
func oldKernel(_ context.Context, b *bed, n *lab.Node) error {
	b.spare = b.agents[n.Index-1]
	b.agents[n.Index-1] = startAgent(b.t, n, "setarch", "x86_64", "--uname-2.6", b.binary)
	return nil
}

func todaysKernel(_ context.Context, b *bed, n *lab.Node) error {
	b.agents[n.Index-1] = b.spare
	return nil
}
