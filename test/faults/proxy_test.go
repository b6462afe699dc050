package faults

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// leftBehind are rules as another mode or backend of kube-proxy leaves them, to an endpoint of long ago.
func leftBehind(tool string) string {
	return fmt.Sprintf("%s -t nat -N KUBE-SERVICES; %[1]s -t nat -I PREROUTING -j KUBE-SERVICES; %[1]s -t nat -I OUTPUT -j KUBE-SERVICES;"+
		"%[1]s -t nat -A KUBE-SERVICES -d 10.96.0.25 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.1.250:8080", tool)
}

func cleanedUp(tool string) string {
	return fmt.Sprintf("%s -t nat -D PREROUTING -j KUBE-SERVICES; %[1]s -t nat -D OUTPUT -j KUBE-SERVICES; %[1]s -t nat -F KUBE-SERVICES; %[1]s -t nat -X KUBE-SERVICES", tool)
}

// newService makes a Service with the pods of web, once, and waits for its endpoints.
func newService(name string, change serviceChange) step {
	return func(ctx context.Context, b *bed, n *lab.Node) error {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": lab.DemoName}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(lab.WebPort)}},
		}}
		change(s)
		if _, err := b.client.CoreV1().Services(namespace).Create(ctx, s, metav1.CreateOptions{}); err != nil {
			return err
		}
		if err := b.AwaitEndpoints(ctx, namespace, name, 2); err != nil {
			return err
		}
		return written(ctx, b, n)
	}
}

func deleteService(name string) func(context.Context, *bed, *lab.Node) error {
	return func(ctx context.Context, b *bed, _ *lab.Node) error {
		return b.client.CoreV1().Services(namespace).Delete(ctx, name, metav1.DeleteOptions{})
	}
}

func at(ip string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.ClusterIP = ip }
}

// wait waits: kube-proxy on the other nodes writes, and on this one has failed for some seconds.
func wait(d time.Duration) func(context.Context, *bed, *lab.Node) error {
	return func(ctx context.Context, _ *bed, _ *lab.Node) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// configured changes kube-proxy's configuration by a sed script and restarts it.
func configured(script string) func(context.Context, *bed, *lab.Node) error {
	return sequence(shell("cp /etc/kubernetes/kube-proxy.yaml /tmp/kube-proxy.yaml; sed -i '"+script+"' /etc/kubernetes/kube-proxy.yaml"), restartProxy)
}

var reconfigured = sequence(shell("cp /tmp/kube-proxy.yaml /etc/kubernetes/kube-proxy.yaml"), restartProxy)

// signalled sends a signal to the node's own kube-proxy: as the agent names it.
func signalled(signal string) func(context.Context, *bed, *lab.Node) error {
	return func(ctx context.Context, b *bed, n *lab.Node) error {
		answer, err := b.agents[n.Index-1].Ask(ctx, wire.Request{Facts: &wire.FactsRequest{}})
		if err != nil {
			return err
		}
		if answer.Facts == nil || len(answer.Facts.KubeProxy.Processes) != 1 {
			return fmt.Errorf("kube-proxy is not one process: %+v", answer)
		}
		pid := strings.Fields(answer.Facts.KubeProxy.Processes[0])[1] // "pid 519 /usr/local/bin/kube-proxy"
		_, err = n.Run(ctx, "kill", "-"+signal, pid)
		return err
	}
}

var proxyFaults = []fault{
	{
		name: "rules flushed", want: "flushed-rules", node: 1,
		cause: shell("iptables -t nat -F"), repair: restartProxy,
		real:  fails(clientPod, clusterIP),
		proof: []string{"KUBE-SERVICES in table nat", "is not reached from PREROUTING", "canary", "no-translation"},
	},
	{
		name: "rules flushed, legacy", want: "flushed-rules", node: 2,
		cause: shell("iptables -t nat -F"), repair: restartProxy,
		real:  fails(clientPod, clusterIP),
		proof: []string{"is not reached from PREROUTING", "legacy"},
	},
	{
		name: "table deleted", want: "flushed-rules", node: 3,
		cause: shell("nft delete table ip kube-proxy"), repair: restartProxy,
		real:  fails(clientPod, clusterIP),
		proof: []string{"chain nat-prerouting in table kube-proxy", "is missing"},
	},
	{
		name: "two iptables backends", want: "two-iptables-backends", hence: []string{"endpoint-not-in-api", "endpoint-missing-in-kernel"}, node: 1,
		cause: shell(leftBehind("iptables-legacy")), repair: shell(cleanedUp("iptables-legacy")),
		real:  fails(clientPod, clusterIP),
		proof: []string{"iptables (nft)", "iptables (legacy)"},
	},
	{
		name: "two modes", want: "two-modes-at-once", node: 3,
		cause: shell(leftBehind("iptables-nft")), repair: shell(cleanedUp("iptables-nft")),
		proof: []string{"nftables", "iptables (nft)", "its mode is nftables"},
	},
	{
		name: "wrong mode", want: "wrong-mode", node: 3,
		cause: shell(leftBehind("iptables-nft") + "; nft delete table ip kube-proxy"), repair: sequence(shell(cleanedUp("iptables-nft")), restartProxy),
		real:  fails(clientPod, clusterIP),
		proof: []string{"its mode is nftables"},
	},
	{
		name: "leftovers", want: "leftover-rules", node: 3, quiet: true,
		cause: shell("iptables-nft -t nat -N KUBE-SERVICES"), repair: shell("iptables-nft -t nat -X KUBE-SERVICES"),
		proof: []string{"which no base chain jumps to"},
	},
	{
		name: "an element is gone", want: "kube-proxy-stale", hence: []string{"rejected-though-endpoints"}, node: 3,
		cause: shell("nft delete element ip kube-proxy service-ips '{ 10.96.0.25 . tcp . 80 }'"), repair: restartProxy,
		real:  fails(clientPod, clusterIP),
		proof: []string{"the rules of the other 2 nodes are right", "rejected-though-endpoints"},
	},
	{
		name: "kube-proxy is down", want: "kube-proxy-down", hence: []string{"dropped-though-endpoints"}, node: 3, service: "late",
		cause:  sequence(stopProxy, newService("late", at("10.96.0.77")), wait(1500*time.Millisecond)),
		repair: sequence(startProxy, deleteService("late")),
		real:   fails(clientPod, netip.MustParseAddrPort("10.96.0.77:80")),
		proof:  []string{"port 10256"},
	},
	{
		name: "kube-proxy is down, the rules are right", want: "kube-proxy-down", node: 2,
		cause: stopProxy, repair: startProxy,
		proof: []string{"warning kube-proxy-down", "right as yet"},
	},
	{
		name: "kube-proxy hangs", want: "kube-proxy-not-syncing", node: 3, service: "later",
		cause:  sequence(signalled("STOP"), newService("later", at("10.96.0.78")), wait(1500*time.Millisecond)),
		repair: sequence(signalled("CONT"), deleteService("later")),
		real:   fails(clientPod, netip.MustParseAddrPort("10.96.0.78:80")),
		proof:  []string{"listens and does not answer"},
	},
	{
		name: "the kernel refuses rules", want: "restore-failures", node: 2, service: "latest",
		cause:  sequence(shell("mount --bind /bin/false $(readlink -f $(command -v iptables-restore))"), newService("latest", at("10.96.0.79")), wait(7*time.Second)),
		repair: sequence(shell("umount $(readlink -f $(command -v iptables-restore))"), deleteService("latest"), restartProxy),
		real:   fails(clientPod, netip.MustParseAddrPort("10.96.0.79:80")),
		proof:  []string{"failed writes"},
	},
	{
		name: "another node's name", want: "host-name-mismatch", node: 1, service: "near",
		cause: sequence(newService("near", func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalTrafficPolicy, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, corev1.ServiceExternalTrafficPolicyLocal, 30081
		}), configured("s/^hostnameOverride:.*/hostnameOverride: node3/")),
		repair: sequence(reconfigured, deleteService("near")),
		real:   nodePortFails(outside, 30081),
		proof:  []string{"hostnameOverride is node3", "has nodeName node1"},
	},
	{
		name: "a configuration that was not applied", want: "kube-proxy-config-unapplied", node: 3, service: "",
		cause: proxyConfigMap, repair: noProxyConfigMap, sees: "the ConfigMap says iptables, and the node's kube-proxy runs in nftables mode",
		proof: []string{"its ConfigMap says iptables", "kube-system/kube-proxy"},
	},
	{
		name: "node port addresses without the node's own", want: "node-port-addresses-exclude", node: 1,
		cause: configured(`$ a nodePortAddresses: ["127.0.0.0/8", "::1/128"]`), repair: reconfigured,
		real: nodePortFails(outside, 30080), proof: []string{"nodePortAddresses: 127.0.0.0/8"},
	},
	{
		name: "cluster CIDR too wide", want: "wrong-cluster-cidr", node: 1,
		cause: configured("s/^clusterCIDR:.*/clusterCIDR: \"10.0.0.0\\/8\"/"),
		repair: sequence(reconfigured, func(ctx context.Context, b *bed, n *lab.Node) error {
			_, err := b.Outside().Run(ctx, "ip", "route", "del", "10.96.0.25/32")
			return err
		}),
		real: func(ctx context.Context, b *bed, n *lab.Node) error { // a client outside that has a route to the Services by the node
			if _, err := b.Outside().Run(ctx, "ip", "route", "add", "10.96.0.25/32", "via", n.Addresses[0].String()); err != nil {
				return err
			}
			return fails(outside, clusterIP)(ctx, b, n)
		},
		proof: []string{"clusterCIDR is 10.0.0.0/8", "10.250.0.11"},
	},
}

// proxyConfigMap is the ConfigMap that kubeadm makes for kube-proxy.
func proxyConfigMap(ctx context.Context, b *bed, _ *lab.Node) error {
	_, err := b.client.CoreV1().ConfigMaps("kube-system").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kube-proxy"},
		Data: map[string]string{"config.conf": "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: iptables\nclusterCIDR: 10.244.0.0/16,fd00:244::/32\n"}}, metav1.CreateOptions{})
	return err
}

func noProxyConfigMap(ctx context.Context, b *bed, _ *lab.Node) error {
	return b.client.CoreV1().ConfigMaps("kube-system").Delete(ctx, "kube-proxy", metav1.DeleteOptions{})
}
