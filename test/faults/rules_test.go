package faults

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// chainOf is a shell expression for the chain that iptables mode has for a ClusterIP.
func chainOf(ip string) string {
	return `$(iptables-save -t nat | sed -n 's/.*-d ` + ip + `\/32 .* -j \(KUBE-SV[CL]-[A-Z0-9]*\)$/\1/p' | head -1)`
}

// ruleFaults are rules that were changed by hand or stand where they do no good, and what endpoints and replies meet.
var ruleFaults = []fault{
	{
		name: "a rule sends to an endpoint that the policy keeps out", want: "endpoint-not-eligible", node: 1, service: "local",
		cause: sequence(newService("local", func(s *corev1.Service) {
			s.Spec.InternalTrafficPolicy, s.Spec.ClusterIP = new(corev1.ServiceInternalTrafficPolicyLocal), "10.96.0.84"
		}), wait(time.Second), func(ctx context.Context, b *bed, n *lab.Node) error {
			return shell("iptables -t nat -I "+chainOf("10.96.0.84")+" -p tcp -m statistic --mode random --probability 0.5 -j DNAT --to-destination "+b.podOn("node2").Status.PodIP+":8080")(ctx, b, n)
		}),
		repair: sequence(restartProxy, remove("local")), mend: restartProxy,
		real: reaches("10.96.0.84:80", "node2"), sees: "connections leave the node, though the policy is Local", proof: []string{"should not be used there"},
	},
	{
		name: "a rule's probability was changed", want: "uneven-probability", node: 1,
		cause: shell(`c=` + chainOf("10.96.0.25") + `; sep=$(iptables -t nat -S $c | sed -n 's/.*statistic.* -j \(KUBE-SEP-[A-Z0-9]*\)$/\1/p' | head -1);` +
			`n=$(iptables -t nat -S $c | grep '^-A' | grep -n statistic | head -1 | cut -d: -f1); iptables -t nat -R $c $n -m statistic --mode random --probability 0.9 -j $sep`),
		repair: restartProxy, real: uneven, sees: "of 60 connections one endpoint gets more than 42", proof: []string{"do not get equal shares"},
	},
	{
		name: "the rule that drops for want of a local endpoint is gone", want: "not-dropped", node: 1, service: "only",
		cause: sequence(objects("only", both(manual, at("10.96.0.85"), func(s *corev1.Service) {
			s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
		}), atNode2), shell("iptables -F KUBE-SERVICES")),
		repair: sequence(restartProxy, remove("only")), mend: restartProxy, real: end("only", silent, 1), sees: "packets leave the node untranslated", proof: []string{"go on untranslated"},
	},
	{
		name: "the rule that rejects for want of endpoints is gone", want: "kube-proxy-stale", node: 1, service: "empty", hence: []string{"not-rejected"},
		cause:  sequence(objects("empty", both(manual, at("10.96.0.86")), emptied), shell("iptables -F KUBE-SERVICES")),
		repair: sequence(restartProxy, remove("empty")), beside: []string{"no-ready-endpoints"}, real: end("empty", silent, 1), sees: "connections time out instead of being refused", proof: []string{"where they should be refused"},
	},
	{
		name: "a rule for a Service that is another proxy's", want: "translated-unexpectedly", node: 1, service: "theirs",
		cause: sequence(objects("theirs", func(s *corev1.Service) {
			s.Spec.ClusterIP, s.Labels = "10.96.0.87", map[string]string{"service.kubernetes.io/service-proxy-name": "other"}
		}), func(ctx context.Context, b *bed, n *lab.Node) error {
			return shell("iptables -t nat -I KUBE-SERVICES -d 10.96.0.87/32 -p tcp -j DNAT --to-destination "+b.podOn("node2").Status.PodIP+":8080")(ctx, b, n)
		}),
		repair: sequence(restartProxy, remove("theirs")), real: reaches("10.96.0.87:80", "node2"), sees: "the node translates what it should leave alone",
		proof: []string{"should leave them alone"}, beside: []string{"left-to-another-proxy"},
	},
	{
		name: "nobody listens on the target port", want: "target-port-not-listening", service: "deaf",
		cause: sequence(newService("deaf", func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromInt32(9090) }), wait(time.Second)), repair: remove("deaf"),
		real: end("deaf", refused), mend: changed("deaf", func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromInt32(lab.WebPort) }), proof: []string{"nobody listens on port 9090"},
	},
	{
		name: "the application listens on 127.0.0.1 only", want: "listens-on-loopback-only", service: "shy",
		cause: sequence(objects("shy", both(manual, func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromInt32(7070) }), onPort(7070)), shyListener), repair: sequence(shyGone, remove("shy")),
		real: end("shy", refused), mend: sequence(changed("shy", func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromInt32(lab.WebPort) }), reslice("shy", 1, onPort(lab.WebPort))), proof: []string{"127.0.0.1:7070 only"},
	},
	{
		name: "a firewall drops the replies", want: "foreign-drop", node: 2, hence: []string{"reply-dropped"},
		cause:  shell("iptables -I FORWARD -s 10.244.2.0/24 -p tcp --sport 8080 -j DROP"),
		repair: shell("iptables -D FORWARD -s 10.244.2.0/24 -p tcp --sport 8080 -j DROP"),
		real: func(ctx context.Context, b *bed, n *lab.Node) error {
			return fails(clientPod, clusterIP)(ctx, b, b.Node(1))
		},
		proof: []string{"--sport 8080 -j DROP"},
	},
	{
		name: "a rule masquerades what should keep its source", want: "source-lost", node: 1, service: "outward",
		cause: sequence(newService("outward", func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalTrafficPolicy, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, corev1.ServiceExternalTrafficPolicyLocal, 30088
		}), wait(time.Second), shell("iptables -t nat -I POSTROUTING -s 10.250.0.100 -p tcp --dport 8080 -j MASQUERADE")),
		repair: sequence(shell("iptables -t nat -D POSTROUTING -s 10.250.0.100 -p tcp --dport 8080 -j MASQUERADE"), remove("outward")),
		real:   sourceIs("10.250.0.11:30088", "10.244.1.1"), sees: "the pod sees the node's address instead of the client's", proof: []string{"lose the client's address"},
	},
	{
		name: "a rate limit on the path", want: "foreign-drop", node: 1, hence: []string{"dropped-on-condition"},
		cause:  shell("iptables -I FORWARD -d 10.244.0.0/16 -p tcp --dport 8080 --syn -j DROP; iptables -I FORWARD -d 10.244.0.0/16 -p tcp --dport 8080 --syn -m limit --limit 1/min --limit-burst 1 -j ACCEPT"),
		repair: shell("iptables -D FORWARD -d 10.244.0.0/16 -p tcp --dport 8080 --syn -m limit --limit 1/min --limit-burst 1 -j ACCEPT; iptables -D FORWARD -d 10.244.0.0/16 -p tcp --dport 8080 --syn -j DROP"),
		real:   fails(clientPod, clusterIP), proof: []string{"limit"},
	},
	{
		name: "a program decides that cannot be read", want: "undetermined", node: 1,
		cause:  shell("iptables -I FORWARD -d 10.244.0.0/16 -p tcp --dport 8080 -j NFQUEUE --queue-num 7"),
		repair: shell("iptables -D FORWARD -d 10.244.0.0/16 -p tcp --dport 8080 -j NFQUEUE --queue-num 7"),
		real:   fails(clientPod, clusterIP), proof: []string{"queue"},
	},
	{
		name: "packets that the network between the nodes loses", want: "probe-differs", node: 1, probed: true,
		cause:  shell("ip neigh replace 10.250.0.12 lladdr 02:00:00:00:00:99 dev eth0 nud permanent"),
		repair: shell("ip neigh del 10.250.0.12 dev eth0"),
		real:   fails(clientPod, clusterIP), proof: []string{"real tcp connections"},
	},
	{
		name: "a stale UDP flow", want: "stale-udp-conntrack", node: 1, service: "datagrams",
		cause: sequence(newService("datagrams", func(s *corev1.Service) {
			s.Spec.Ports[0].Protocol, s.Spec.ClusterIP = corev1.ProtocolUDP, "10.96.0.88"
		}), wait(time.Second), func(ctx context.Context, b *bed, n *lab.Node) error {
			return shell(fmt.Sprintf("conntrack -I -p udp -t 120 -s %s -d 10.96.0.88 --sport 45001 --dport 80 -r 10.244.1.250 -q %[1]s --reply-port-src 8080 --reply-port-dst 45001", b.clientIP(ctx)))(ctx, b, n)
		}),
		repair: sequence(forget, remove("datagrams")), mend: forget,
		real: func(ctx context.Context, b *bed, n *lab.Node) error {
			from := netip.AddrPortFrom(netip.MustParseAddr(b.clientIP(ctx)), 45001)
			got, err := b.clients[0].Connect(ctx, netip.MustParseAddrPort("10.96.0.88:80"), lab.ConnectOptions{Protocol: "udp", Local: from, Timeout: 500 * time.Millisecond})
			if err == nil && got.All(lab.Answered) {
				err = errNothing
			}
			return err
		},
		sees: "a client that goes on from the same port gets no answer", proof: []string{"10.244.1.250:8080"},
	},
	{
		name: "a flow from before there were rules", want: "flow-untranslated", node: 1, service: "belated",
		cause: sequence(knock("10.96.0.89:80"), newService("belated", at("10.96.0.89")), wait(time.Second)), repair: sequence(forget, remove("belated")), mend: forget,
		real: func(ctx context.Context, b *bed, n *lab.Node) error {
			from := netip.AddrPortFrom(netip.MustParseAddr(b.clientIP(ctx)), 45002)
			got, err := b.clients[0].Connect(ctx, netip.MustParseAddrPort("10.96.0.89:80"), lab.ConnectOptions{Local: from, Timeout: 500 * time.Millisecond})
			if err == nil && got.All(lab.Answered) {
				err = errNothing
			}
			return err
		},
		sees: "a client that tries again from the same port gets no answer", proof: []string{"10.96.0.89:80"},
	},
}

// reaches requires that some connections of the node's client pod reach the pod of web on a node.
func reaches(to, node string) step {
	return func(ctx context.Context, b *bed, n *lab.Node) error {
		got, err := clientPod(b, n).Connect(ctx, netip.MustParseAddrPort(to), lab.ConnectOptions{Count: 16})
		if err == nil && got.ByPod()[b.podOn(node).Name] == 0 {
			err = fmt.Errorf("%v, by %v", got.ByResult(), got.ByPod())
		}
		return err
	}
}

// uneven requires a spread that an even choice does not give: less than once in a thousand runs.
func uneven(ctx context.Context, b *bed, n *lab.Node) error {
	got, err := clientPod(b, n).Connect(ctx, clusterIP, lab.ConnectOptions{Count: 60})
	if err != nil {
		return err
	}
	for _, c := range got.ByPod() {
		if c > 42 {
			return nil
		}
	}
	return fmt.Errorf("%v", got.ByPod())
}

// sourceIs requires that the pod sees an address when a client outside connects.
func sourceIs(to, source string) step {
	return func(ctx context.Context, b *bed, _ *lab.Node) error {
		got, err := b.Outside().Connect(ctx, netip.MustParseAddrPort(to), lab.ConnectOptions{Count: 4})
		if err == nil && got.BySource()[netip.MustParseAddr(source)] != 4 {
			err = fmt.Errorf("%v, from %v", got.ByResult(), got.BySource())
		}
		return err
	}
}

// shyListener is an application in web's pod on node1 that listens on 127.0.0.1 only.
func shyListener(ctx context.Context, b *bed, n *lab.Node) error {
	_, err := b.Pod(namespace, b.podOn("node1").Name).RunTool(ctx, "sh", "-ec", "busybox httpd -f -p 127.0.0.1:7070 -h / >/dev/null 2>&1 </dev/null & echo $! > /tmp/svctrace-shy; sleep 0.3")
	return err
}

func shyGone(ctx context.Context, b *bed, n *lab.Node) error {
	_, err := b.Pod(namespace, b.podOn("node1").Name).RunTool(ctx, "sh", "-ec", "kill $(cat /tmp/svctrace-shy); rm /tmp/svctrace-shy")
	return err
}

// knock sends the first packet of a connection to an address that nobody translates yet.
func knock(to string) step {
	return func(ctx context.Context, b *bed, n *lab.Node) error {
		from := netip.AddrPortFrom(netip.MustParseAddr(b.clientIP(ctx)), 45002)
		got, err := b.clients[0].Connect(ctx, netip.MustParseAddrPort(to), lab.ConnectOptions{Local: from, Timeout: 300 * time.Millisecond})
		if err == nil && got.All(lab.Answered) {
			err = errNothing
		}
		return err
	}
}

// onPort is a port of the endpoint.
func onPort(port int32) sliceChange {
	return func(_ *bed, x *discoveryv1.EndpointSlice) { x.Ports[0].Port = new(port) }
}

// emptied has no endpoints.
func emptied(_ *bed, x *discoveryv1.EndpointSlice) { x.Endpoints = []discoveryv1.Endpoint{} }
