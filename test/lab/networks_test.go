package lab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// place is what the tests here connect from.
type place interface {
	fmt.Stringer
	Connect(context.Context, netip.AddrPort, ConnectOptions) (Attempts, error)
}

func TestNetworks(t *testing.T) {
	for _, tc := range []struct {
		name    string
		options Options
		more    func(*testing.T, *Lab, Demo, *Pod)
	}{
		{"bridge", Options{Family: Dual, Proxy: []ProxyMode{NFTables, IPTables}}, testSidecar},
		{"routed", Options{Network: Routed, Family: Dual}, func(t *testing.T, l *Lab, web Demo, client *Pod) {
			testSidecar(t, l, web, client)
			testHostNetwork(t, l)
			testPodLeavesNothing(t, l)
		}},
		{"routed, IPv4", Options{Network: Routed, Proxy: []ProxyMode{IPTables}}, nil},
		{"VXLAN, three nodes", Options{Between: VXLAN, Family: Dual, Nodes: 3, Proxy: []ProxyMode{IPTables}}, testSmallCable},
		{"VXLAN, IPv4, pods' MTU too large", Options{Between: VXLAN, PodMTU: 1500}, testLargePodMTU},
		{"routed, VXLAN, IPv6", Options{Network: Routed, Between: VXLAN, Family: IPv6, Proxy: []ProxyMode{IPTablesLegacy}}, testSidecar},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.options.Beyond = true
			l := New(t, tc.options)
			web := demo(t, l)
			client, err := l.ClientPod(testContext(t), "client", l.Node(1))
			if err != nil {
				t.Fatal(err)
			}
			if tc.more != nil {
				tc.more(t, l, web, client)
			}
			testReach(t, l, web, client)
		})
	}
}

// exposeUDP makes a Service of the worked example's pods over UDP, with a node port, and waits until it works from a
// node.
func exposeUDP(t *testing.T, l *Lab) *corev1.Service {
	t.Helper()
	ctx := testContext(t)
	policy := corev1.IPFamilyPolicyPreferDualStack
	service, err := l.Client().CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web-udp", Namespace: "default"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, IPFamilyPolicy: &policy, Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Port: 53, NodePort: 30053, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromInt32(WebPort)}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.AwaitEndpoints(ctx, "default", "web-udp", 2*len(service.Spec.ClusterIPs)); err != nil {
		t.Fatal(err)
	}
	for _, n := range l.Nodes() {
		for _, ip := range service.Spec.ClusterIPs {
			awaitAnswers(t, n, netip.AddrPortFrom(netip.MustParseAddr(ip), 53), "udp")
		}
	}
	return service
}

// awaitAnswers waits until connections from a node are answered: kube-proxy takes a moment.
func awaitAnswers(t *testing.T, n *Node, to netip.AddrPort, protocol string) {
	t.Helper()
	ctx := testContext(t)
	err := until(ctx, pollEvery, func() (bool, error) {
		got, err := n.Connect(ctx, to, ConnectOptions{Protocol: protocol, Count: 8, Timeout: 300 * time.Millisecond})
		return got.All(Answered), err
	})
	if err != nil {
		t.Fatalf("%v from %s: %v", to, n, err)
	}
}

// testReach connects to the worked example over every access path, from everywhere that it is meant for.
func testReach(t *testing.T, l *Lab, web Demo, client *Pod) {
	ctx := testContext(t)
	udp := exposeUDP(t, l)
	inside := []place{client, l.Node(1), l.Node(2)}
	outside := []place{l.Outside(), l.Beyond()}
	reach := func(from []place, to netip.AddrPort, protocol string) {
		for _, p := range from {
			bothAnswer(t, p, to, connect(t, p, to, ConnectOptions{Protocol: protocol, Count: 30}))
		}
	}
	for i, to := range web.ClusterIPs {
		reach(inside, to, "tcp")
		reach(inside, netip.AddrPortFrom(netip.MustParseAddr(udp.Spec.ClusterIPs[i]), 53), "udp")
		reach(slices.Concat(inside, outside), web.LoadBalancers[i], "tcp")
		for _, n := range l.Nodes() {
			reach(slices.Concat(inside, outside), netip.AddrPortFrom(n.Addresses[i], web.NodePort), "tcp")
		}
		reach(slices.Concat(inside, outside), netip.AddrPortFrom(l.Node(2).Addresses[i], 30053), "udp")

		// more than fits into one packet
		for _, protocol := range []string{"tcp", "udp"} {
			if got := connect(t, client, podOn(t, web, "node2", i), ConnectOptions{Protocol: protocol, Size: 8000}); !got.All(Answered) {
				t.Errorf("8000 bytes over %s: %+v", protocol, got[0])
			}
		}

		// whoever is its own endpoint reaches itself as well as the other
		own := l.Pod("default", web.Pods[0].Name)
		bothAnswer(t, own, to, connect(t, own, to, ConnectOptions{Count: 30}))
	}

	// between pods nothing is masqueraded, whichever way leads there
	addrs, err := client.Addresses(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, to := range web.ClusterIPs {
		got := connect(t, client, to, ConnectOptions{Count: 30})
		if sources := got.BySource(); sources[addrs[i]] != len(got) {
			t.Errorf("servers saw %v, want %v alone", sources, addrs[i])
		}
	}
}

// podOn is the worked example's endpoint on a node, in family i of the lab.
func podOn(t *testing.T, web Demo, node string, i int) netip.AddrPort {
	t.Helper()
	for _, p := range web.Pods {
		if p.Spec.NodeName == node {
			return netip.AddrPortFrom(netip.MustParseAddr(p.Status.PodIPs[i].IP), WebPort)
		}
	}
	t.Fatalf("no pod on %s", node)
	return netip.AddrPort{}
}

func testSidecar(t *testing.T, l *Lab, web Demo, client *Pod) {
	ctx := testContext(t)
	pod, err := l.SidecarPod(ctx, "meshed", l.Node(2))
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := pod.Addresses(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, addr := range addrs {
		got := connect(t, client, netip.AddrPortFrom(addr, WebPort), ConnectOptions{Count: 10, Size: 20000})
		if got.ByPod()["meshed"] != 10 || got.BySource()[sidecarSource(addr)] != 10 {
			t.Errorf("to %v: %v, from %v; first %+v", addr, got.ByResult(), got.BySource(), got[0])
		}
		// the sidecar takes any connection, and resets those that it cannot make: nothing is refused
		if got := connect(t, client, netip.AddrPortFrom(addr, 1), ConnectOptions{}); !got.All(Reset) {
			t.Errorf("to %v port 1: %+v, want a reset", addr, got[0])
		}
		udp := connect(t, client, netip.AddrPortFrom(addr, WebPort), ConnectOptions{Protocol: "udp"})
		if !udp.All(Answered) || udp.BySource()[sidecarSource(addr)] != 0 {
			t.Errorf("UDP to %v: %+v", addr, udp[0])
		}
		bothAnswer(t, pod, web.ClusterIPs[i], connect(t, pod, web.ClusterIPs[i], ConnectOptions{Count: 30}))
		closed := netip.AddrPortFrom(l.Node(1).Addresses[i], 1)
		if got := connect(t, pod, closed, ConnectOptions{}); !got.All(Reset) {
			t.Errorf("from the pod to %v: %+v, want a reset", closed, got[0])
		}
	}
}

func testHostNetwork(t *testing.T, l *Lab) {
	ctx := testContext(t)
	const port = 9090
	server, err := l.RunPod(ctx, "host-web", l.Node(2), HostNetworkWebPodSpec(port))
	if err != nil {
		t.Fatal(err)
	}
	client, err := l.HostNetworkClientPod(ctx, "host-client", l.Node(1))
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := server.Addresses(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(addrs, l.Node(2).Addresses) {
		t.Errorf("the server has addresses %v, want node2's", addrs)
	}
	service, err := l.Client().CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "host-web", Namespace: "default"},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "host-web"},
			Ports:    []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(port)}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(netip.MustParseAddr(service.Spec.ClusterIP), 80)
	awaitAnswers(t, l.Node(1), to, "tcp")
	awaitAnswers(t, l.Node(2), to, "tcp")
	for _, from := range []place{client, server} {
		got := connect(t, from, to, ConnectOptions{Count: 10})
		if got.ByPod()["host-web"] != 10 || got.ByServer()[netip.AddrPortFrom(addrs[0], port)] != 10 {
			t.Errorf("from %s: %v at %v", from, got.ByResult(), got.ByServer())
		}
	}
}

// testPodLeavesNothing: with a pod go its routes, and its end on the node.
func testPodLeavesNothing(t *testing.T, l *Lab) {
	ctx := testContext(t)
	node := l.Node(1)
	ends := func() int {
		t.Helper()
		out, err := node.Run(ctx, "ip", "-o", "link", "show", "type", "veth")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(out, "cali")
	}
	before := ends()
	pod, err := l.ClientPod(ctx, "brief", node)
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := pod.Addresses(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := ends(); got != before+1 {
		t.Errorf("%d ends on %s, want %d and the pod's", got, node, before)
	}
	if err := l.Client().CoreV1().Pods("default").Delete(ctx, "brief", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	allocated := func() bool {
		_, err := node.Run(ctx, "test", "-e", "/var/lib/cni/networks/lab/"+addrs[0].String())
		return err == nil
	}
	if !allocated() {
		t.Errorf("%v is not allocated", addrs[0])
	}
	if err := until(ctx, pollEvery, func() (bool, error) { return ends() == before && !allocated(), nil }); err != nil {
		t.Errorf("of the pod there stays: %d ends, allocated %v", ends()-before, allocated())
	}
	for _, addr := range addrs {
		out, err := node.Run(ctx, "ip", "route", "show", "exact", alone(addr))
		if err != nil || out != "" {
			t.Errorf("route %q, %v", out, err)
		}
	}
}

// alone is the range of one address, as ip writes it.
func alone(addr netip.Addr) string { return netip.PrefixFrom(addr, addr.BitLen()).String() }

// testSmallCable: where the nodes' network carries 1450 bytes, what was made to fit 1500 with the tunnel is lost.
func testSmallCable(t *testing.T, l *Lab, web Demo, client *Pod) {
	ctx := testContext(t)
	check := func(large Result) {
		t.Helper()
		for i := range web.ClusterIPs {
			to := podOn(t, web, "node2", i)
			if got := connect(t, client, to, ConnectOptions{}); !got.All(Answered) {
				t.Errorf("small, to %v: %+v", to, got[0])
			}
			got := connect(t, client, to, ConnectOptions{Size: 8000, Timeout: time.Second})
			if !got.All(large) || !got[0].Established {
				t.Errorf("large, to %v: %+v, want %s", to, got[0], large)
			}
		}
	}
	check(Answered)
	restore, err := l.Node(2).CableMTU(ctx, switchMTU-vxlanOverhead4)
	if err != nil {
		t.Fatal(err)
	}
	check(Timeout)
	if err := restore(ctx); err != nil {
		t.Fatal(err)
	}
	check(Answered)
}

// testLargePodMTU: pods whose MTU forgets the tunnel's overhead depend on their node's telling them.
func testLargePodMTU(t *testing.T, l *Lab, web Demo, client *Pod) {
	ctx := testContext(t)
	for _, n := range l.Nodes() {
		if _, err := n.RunInput(ctx, `table ip silent { chain output {
			type filter hook output priority 0; icmp type destination-unreachable icmp code frag-needed drop; }; }`, "nft", "-f", "-"); err != nil {
			t.Fatal(err)
		}
	}
	to := podOn(t, web, "node2", 0)
	got := connect(t, client, to, ConnectOptions{Size: 8000, Timeout: time.Second})
	if !got.All(Timeout) || !got[0].Established {
		t.Errorf("without ICMP: %+v, want a timeout", got[0])
	}
	for _, n := range l.Nodes() {
		if _, err := n.Run(ctx, "nft", "delete", "table", "ip", "silent"); err != nil {
			t.Fatal(err)
		}
	}
	if got := connect(t, client, to, ConnectOptions{Size: 8000}); !got.All(Answered) {
		t.Errorf("with ICMP: %+v", got[0])
	}
}
