package faults

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// balancer makes the Service a load balancer's, with addresses that nobody but the nodes knows.
func balancer(ips ...string) serviceChange {
	return func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		for _, ip := range ips {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
		}
	}
}

func sourceRanges(ranges ...string) serviceChange {
	return func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = ranges }
}

// balancerFaults are about load balancers and who may use them.
var balancerFaults = []fault{
	{
		name: "every node excluded from load balancers", want: "nodes-excluded-from-load-balancers",
		cause: label("node.kubernetes.io/exclude-from-external-load-balancers", `""`), repair: label("node.kubernetes.io/exclude-from-external-load-balancers", "null"),
		sees: "the label that load balancers heed, on all nodes", proof: []string{"node1", "exclude-from-external-load-balancers"},
	},
	{
		name: "source ranges of one family only", want: "source-ranges-one-family", service: "ranged",
		cause:  objects("ranged", both(dualStack, balancer("10.251.0.61", "fd00:251::61"), sourceRanges("10.0.0.0/8"), withoutNodePorts)),
		repair: remove("ranged"), real: answers(outside, netip.MustParseAddrPort("[fd00:251::61]:80")), sees: "a client outside of every range is answered over IPv6",
		mend:  changed("ranged", sourceRanges("10.0.0.0/8", "fd00::/8")),
		proof: []string{"ipv6"},
	},
	{
		name: "node ports beside source ranges", want: "node-port-unrestricted", service: "opened", quiet: true,
		cause:  objects("opened", both(balancer("10.251.0.62"), sourceRanges("10.244.0.0/16", "10.250.0.11/32", "10.250.0.12/32", "10.250.0.13/32"), func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 30086 })),
		repair: remove("opened"), real: answers(outside, netip.MustParseAddrPort("10.250.0.11:30086")), sees: "a client outside of the ranges is answered at the node port",
		proof: []string{"30086"},
	},
	{
		name: "clients in the cluster outside of the source ranges", want: "source-ranges-exclude", node: 0, service: "closed", quiet: true,
		cause:  objects("closed", both(balancer("10.251.0.63"), sourceRanges("198.51.100.0/24"), withoutNodePorts)),
		repair: remove("closed"), real: fails(clientPod, netip.MustParseAddrPort("10.251.0.63:80")), sees: "connections of pods to the load balancer's address time out, as asked",
		mend: changed("closed", sourceRanges("0.0.0.0/0")), proof: []string{"198.51.100.0/24"},
	},
	{
		name: "PROXY protocol that clients in the cluster bypass", want: "load-balancer-bypassed", service: "bypassed",
		cause: objects("bypassed", both(balancer("10.251.0.64"), withoutNodePorts, func(s *corev1.Service) {
			s.Annotations = map[string]string{"load-balancer.hetzner.cloud/uses-proxyprotocol": "true"}
		})), repair: remove("bypassed"), real: answers(clientPod, netip.MustParseAddrPort("10.251.0.64:80")), sees: "a pod's connection to the load balancer's address goes straight to an endpoint",
		mend: changed("bypassed", func(s *corev1.Service) { s.Annotations = nil }), proof: []string{"uses-proxyprotocol"},
	},
}

func withoutNodePorts(s *corev1.Service) { s.Spec.AllocateLoadBalancerNodePorts = new(false) }

// label sets a label on every node, or with null takes it away.
func label(key, value string) step {
	return func(ctx context.Context, b *bed, n *lab.Node) error {
		for _, n := range b.Nodes() {
			patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, key, value)
			if _, err := b.client.CoreV1().Nodes().Patch(ctx, n.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
				return err
			}
		}
		return wait(500*time.Millisecond)(ctx, b, n)
	}
}
