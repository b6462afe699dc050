package e2e

import (
	"context"
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/proofs"
)

// goneEndpointFails shows that on every node a part of the connections fails, and that the rest reach the endpoint that
// is left.
func (f *faulty) goneEndpointFails(ctx context.Context, t *testing.T) {
	pods, err := f.client.CoreV1().Pods(lab.DemoNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + lab.DemoName})
	if err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) != 1 {
		t.Fatalf("%d pods are left", len(pods.Items))
	}
	for _, n := range f.Nodes() {
		o, err := count(ctx, n, f.web.ClusterIPs[0], lab.ConnectOptions{Count: few, Parallel: few, Timeout: silencePatience})
		if err != nil {
			t.Fatal(err)
		}
		by := o.attempts.ByPod()
		if answered := by[pods.Items[0].Name]; len(by) != 1 || answered == few {
			t.Errorf("on %s, with a rule for a pod that is gone:\n%s", n, o)
		}
	}
}

// TestStaleFlowIsFound lets UDP flows to a node port outlive the Service's last endpoint: kube-proxy leaves them, a client
// that goes on gets no answer, and the plugin finds them.
func TestStaleFlowIsFound(t *testing.T) {
	c := newCluster(t, "stale", lab.Dual)
	ctx := within(t, 10*time.Minute)
	lonely := map[string]string{"app": "lonely"}
	if err := c.webPod(ctx, "lonely", c.Node(2), lonely); err != nil {
		t.Fatal(err)
	}
	s := service{name: "datagrams", selects: lonely, protocols: tcpAndUDP[1:]}
	if err := c.makeService(ctx, s, 1); err != nil {
		t.Fatal(err)
	}
	if err := c.awaitRules(ctx, []service{s}); err != nil {
		t.Fatal(err)
	}
	object, err := c.client.CoreV1().Services(namespace).Get(ctx, s.name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(object.Spec.Ports[0].NodePort)
	for i, n := range c.Nodes() {
		for _, a := range n.Addresses {
			local := netip.AddrPortFrom(unspecified(a), 40000)
			got, err := c.clients[i].Connect(ctx, netip.AddrPortFrom(a, port), lab.ConnectOptions{Protocol: "udp", Local: local})
			if err != nil || !got.All(lab.Answered) {
				t.Fatalf("on %s: %v, %v", n, got, err)
			}
		}
	}
	c.removePods(ctx, t, []service{s}, "lonely")
	a, r := c.trace(ctx, t, c.traceArgs(s.name)...)
	found := findings(a)
	if f, ok := found["stale-udp-conntrack"]; !ok || f.Severity != "error" || len(f.Nodes) != len(c.Nodes()) || len(found) != 2 || r.code != exitFindings {
		t.Errorf("exit code %d, findings %+v", r.code, a.Findings)
	}
	if !t.Failed() {
		keep(t, []proofs.Record{{Finding: "stale-udp-conntrack", Test: "TestStaleFlowIsFound", Where: "nodes of every mode",
			Caused: "UDP flows to a node port that outlive the Service's last endpoint", Seen: "clients that go on get no answer"}})
	}
	for i, n := range c.Nodes() {
		for _, a := range n.Addresses {
			local := netip.AddrPortFrom(unspecified(a), 40000)
			got, err := c.clients[i].Connect(ctx, netip.AddrPortFrom(a, port), lab.ConnectOptions{Protocol: "udp", Local: local, Timeout: silencePatience})
			if err != nil || got.ByResult()[lab.Refused]+got.ByResult()[lab.Answered] > 0 {
				t.Errorf("a flow that is known on %s: %v, %v", n, got, err)
			}
		}
	}
	if err := c.forgetFlows(ctx); err != nil {
		t.Fatal(err)
	}
	a, _ = c.trace(ctx, t, c.traceArgs(s.name)...)
	if found := findings(a); len(found) != 1 || found["no-ready-endpoints"].ID == "" {
		t.Errorf("after the flows were forgotten: %+v", a.Findings)
	}
}

// unspecified is the unspecified address of the same family.
func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
