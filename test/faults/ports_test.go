package faults

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// portFaults are ports of the node, and flows that exist.
var portFaults = []fault{
	{
		name: "a hostPort in front", want: "host-port-shadowing", hence: []string{"endpoint-missing-in-kernel", "endpoint-not-in-api"}, node: 2,
		cause: func(ctx context.Context, b *bed, n *lab.Node) error {
			script := fmt.Sprintf("iptables -t nat -N CNI-HOSTPORT-DNAT 2>/dev/null || true; iptables -t nat -I PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT;"+
				"iptables -t nat -A CNI-HOSTPORT-DNAT -p tcp -m tcp --dport 30080 -j DNAT --to-destination %s:9999", b.podOn("node2").Status.PodIP)
			return shell(script)(ctx, b, n)
		},
		repair: shell("iptables -t nat -D PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT; iptables -t nat -F CNI-HOSTPORT-DNAT; iptables -t nat -X CNI-HOSTPORT-DNAT"),
		real:   nodePortFails(outside, 30080),
		proof:  []string{"CNI-HOSTPORT-DNAT", ":9999"},
	},
	{
		name: "a process on the node port", want: "node-port-in-use", node: 1,
		cause: func(ctx context.Context, _ *bed, n *lab.Node) error {
			_, err := n.Run(ctx, "sh", "-ec", "busybox nc -l -p 30080 >/dev/null 2>&1 </dev/null & echo $! > /tmp/listener; sleep 0.3")
			return err
		},
		repair: shell("kill $(cat /tmp/listener); rm /tmp/listener"),
		real: func(ctx context.Context, b *bed, n *lab.Node) error { // the Service's pods answer, and the process gets nothing
			got, err := b.Outside().Connect(ctx, netip.AddrPortFrom(n.Addresses[0], 30080), lab.ConnectOptions{Count: 4})
			if err == nil && !got.All(lab.Answered) {
				err = fmt.Errorf("%v", got.ByResult())
			}
			return err
		},
		proof: []string{"pid ", "30080"},
	},
	{
		name: "ephemeral ports", want: "node-port-in-ephemeral-range", node: 1,
		cause: set("net.ipv4.ip_local_port_range", "30000 30200"), repair: set("net.ipv4.ip_local_port_range", "32768 60999"),
		real: func(ctx context.Context, b *bed, n *lab.Node) error { // the node does choose such ports
			to := netip.AddrPortFrom(netip.MustParseAddr(b.podOn("node2").Status.PodIP), lab.WebPort)
			got, err := n.Connect(ctx, to, lab.ConnectOptions{})
			if err == nil && (len(got) == 0 || got[0].Local.Port() < 30000 || got[0].Local.Port() > 30200) {
				err = errNothing
			}
			return err
		},
		proof: []string{"net.ipv4.ip_local_port_range = 30000 30200"},
	},
	{
		name: "localhost in nftables mode", want: "localhost-node-port", node: 3, service: "names",
		cause: newService("names", func(s *corev1.Service) { // a refused TCP connection leaves no trace; a UDP flow does
			s.Spec.Type, s.Spec.Ports[0].Protocol, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, corev1.ProtocolUDP, 30053
		}),
		repair: sequence(deleteService("names"), forget),
		real: func(ctx context.Context, b *bed, n *lab.Node) error {
			got, err := n.Connect(ctx, netip.MustParseAddrPort("127.0.0.1:30053"), lab.ConnectOptions{Protocol: "udp", Timeout: 700 * time.Millisecond})
			if err == nil && got.All(lab.Answered) {
				err = errNothing
			}
			return err
		},
		proof: []string{"127.0.0.1:30053", "nftables mode"},
	},
	{
		name: "route_localnet is off", want: "route-localnet-off", node: 1,
		cause: set("net.ipv4.conf.all.route_localnet", "0"), repair: set("net.ipv4.conf.all.route_localnet", "1"),
		real:  fails(itself, localhost),
		proof: []string{"net.ipv4.conf.all.route_localnet = 0"},
	},
	{
		name: "an unknown port", want: "unknown-port-on-service-address", node: 1,
		cause:  shell("ip route replace 10.96.0.25/32 via 10.250.0.100"), // as by a default route
		repair: shell("ip route del 10.96.0.25/32 via 10.250.0.100"),
		real:   fails(clientPod, netip.MustParseAddrPort("10.96.0.25:81")),
		proof:  []string{"10.96.0.25:81", "the Service has 80/tcp"},
	},
	{
		name: "a stale TCP flow", want: "stale-tcp-conntrack", node: 1,
		cause: func(ctx context.Context, b *bed, n *lab.Node) error {
			return shell(fmt.Sprintf("conntrack -I -p tcp -t 600 --state ESTABLISHED -s %s -d 10.96.0.25 --sport 45000 --dport 80 -r 10.244.1.250 -q %[1]s --reply-port-src 8080 --reply-port-dst 45000 -u ASSURED,SEEN_REPLY",
				b.clientIP(ctx)))(ctx, b, n)
		},
		repair: shell("conntrack -D -p tcp -d 10.96.0.25 --sport 45000 >/dev/null"),
		real: func(ctx context.Context, b *bed, n *lab.Node) error {
			from := netip.AddrPortFrom(netip.MustParseAddr(b.clientIP(ctx)), 45000)
			got, err := b.clients[0].Connect(ctx, clusterIP, lab.ConnectOptions{Local: from, Timeout: 500 * time.Millisecond})
			if err == nil && got.All(lab.Answered) {
				err = errNothing
			}
			return err
		},
		proof: []string{"10.244.1.250:8080"},
	},
}
