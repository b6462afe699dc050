package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func demo(t *testing.T, l *Lab) Demo {
	t.Helper()
	t.Logf("up after %v", l.BringUp.Round(10*time.Millisecond))
	d, err := l.Demo(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// connect makes connections that must all be made, whatever their fate.
func connect(t *testing.T, from interface {
	Connect(context.Context, netip.AddrPort, ConnectOptions) (Attempts, error)
}, to netip.AddrPort, o ConnectOptions) Attempts {
	t.Helper()
	got, err := from.Connect(testContext(t), to, o)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// bothAnswer requires that every connection is answered, by both pods of the worked example between them.
func bothAnswer(t *testing.T, from fmt.Stringer, to netip.AddrPort, got Attempts) {
	t.Helper()
	if !got.All(Answered) || len(got.ByPod()) != 2 {
		t.Errorf("from %s to %v: results %v, pods %v; first %+v", from, to, got.ByResult(), got.ByPod(), got[0])
	}
}

func TestNFTables(t *testing.T) {
	l := New(t, Options{Proxy: []ProxyMode{NFTables}})
	ctx := testContext(t)
	web := demo(t, l)
	client, err := l.ClientPod(ctx, "client", l.Node(1))
	if err != nil {
		t.Fatal(err)
	}
	if nodes := []string{web.Pods[0].Spec.NodeName, web.Pods[1].Spec.NodeName}; nodes[0] == nodes[1] {
		t.Errorf("both pods are on %s", nodes[0])
	}

	t.Run("connect", func(t *testing.T) {
		many := ConnectOptions{Count: 60}
		nodePort := netip.AddrPortFrom(l.Node(2).Addresses[0], web.NodePort)
		for _, to := range []netip.AddrPort{web.ClusterIPs[0], web.LoadBalancers[0], nodePort} {
			bothAnswer(t, l.Node(1), to, connect(t, l.Node(1), to, many))
			bothAnswer(t, client, to, connect(t, client, to, many))
		}
		for _, to := range []netip.AddrPort{web.LoadBalancers[0], nodePort} {
			bothAnswer(t, l.Outside(), to, connect(t, l.Outside(), to, many))
		}
	})
	t.Run("many in one call", func(t *testing.T) {
		got := connect(t, client, web.ClusterIPs[0], ConnectOptions{Count: 200})
		if len(got) != 200 || !got.All(Answered) {
			t.Errorf("%d attempts, %v", len(got), got.ByResult())
		}
	})
	t.Run("source address", func(t *testing.T) {
		// a pod is not masqueraded on its way to a pod on another node; the outside is, by the node it comes to
		pod, err := l.client.CoreV1().Pods("default").Get(ctx, "client", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		got := connect(t, client, web.ClusterIPs[0], ConnectOptions{Count: 30})
		if sources := got.BySource(); len(sources) != 1 || sources[netip.MustParseAddr(pod.Status.PodIP)] != 30 {
			t.Errorf("servers saw %v, want %s alone", sources, pod.Status.PodIP)
		}
		for _, a := range got {
			if a.Client != a.Local || a.Server.Port() != WebPort {
				t.Errorf("server saw %v of %v and accepted at %v", a.Client, a.Local, a.Server)
			}
		}
		for _, a := range connect(t, l.Outside(), web.LoadBalancers[0], ConnectOptions{Count: 30}) {
			if a.Node == "node2" && a.Client.Addr() != l.Node(1).Addresses[0] {
				t.Errorf("node2's pod saw %v, want node1's address", a.Client)
			}
		}
	})
	t.Run("failures", func(t *testing.T) {
		quick := ConnectOptions{Timeout: 300 * time.Millisecond}
		closed := netip.AddrPortFrom(l.Node(1).Addresses[0], 1)
		for name, tc := range map[string]struct {
			from *Place
			to   string
			udp  bool
			want Result
		}{
			"closed port":            {l.Outside(), closed.String(), false, Refused},
			"closed port, UDP":       {l.Outside(), closed.String(), true, Refused},
			"nowhere":                {l.Node(1).Place, "192.0.2.1:80", false, Timeout},
			"no route":               {l.Node(1).Place, "[2001:db8::1]:80", false, Unreachable},
			"not the lab's server":   {l.Node(1).Place, "10.250.0.10:6443", false, Error},
			"cluster IP, outside":    {l.Outside(), "10.96.0.25:80", false, Timeout},
			"cluster IP, other port": {l.Node(1).Place, "10.96.0.25:81", false, Refused},
		} {
			o := quick
			if tc.udp {
				o.Protocol = "udp"
			}
			if got := connect(t, tc.from, netip.MustParseAddrPort(tc.to), o); !got.All(tc.want) {
				t.Errorf("%s: %+v, want %s", name, got[0], tc.want)
			}
		}
	})
	t.Run("UDP", func(t *testing.T) {
		service := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "web-udp", Namespace: "default"},
			Spec: corev1.ServiceSpec{
				ClusterIP: "10.96.0.26", Selector: map[string]string{"app": "web"},
				Ports: []corev1.ServicePort{{Port: 53, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromInt32(WebPort)}},
			},
		}
		if _, err := l.Client().CoreV1().Services("default").Create(ctx, service, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := l.AwaitEndpoints(ctx, "default", "web-udp", 2); err != nil {
			t.Fatal(err)
		}
		to := netip.MustParseAddrPort("10.96.0.26:53")
		err := until(ctx, pollEvery, func() (bool, error) {
			got, err := client.Connect(ctx, to, ConnectOptions{Protocol: "udp", Timeout: 200 * time.Millisecond})
			return got.All(Answered), err
		})
		if err != nil {
			t.Fatal(err)
		}
		bothAnswer(t, client, to, connect(t, client, to, ConnectOptions{Protocol: "udp", Count: 60}))
	})
	t.Run("listening on loopback only", func(t *testing.T) {
		spec := WebPodSpec("--listen", "127.0.0.1:8080,127.0.0.1:8081")
		spec.NodeName = "node1"
		spec.Containers[0].ReadinessProbe = nil
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "loopback", Namespace: "default"}, Spec: spec}
		if _, err := l.Client().CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := l.AwaitPod(ctx, "default", "loopback"); err != nil {
			t.Fatal(err)
		}
		inside := l.Pod("default", "loopback")
		if got := connect(t, inside, netip.MustParseAddrPort("127.0.0.1:8081"), ConnectOptions{}); !got.All(Answered) {
			t.Errorf("from inside: %+v", got)
		}
		listening, err := inside.RunTool(ctx, "ip", "-json", "-4", "address", "show", "eth0")
		if err != nil {
			t.Fatal(err)
		}
		address, ok := cutBetween(listening, `"local":"`, `"`)
		if !ok {
			t.Fatalf("no address in %s", listening)
		}
		to := netip.AddrPortFrom(netip.MustParseAddr(address), WebPort)
		if got := connect(t, l.Node(1), to, ConnectOptions{}); !got.All(Refused) {
			t.Errorf("from the node: %+v", got)
		}
	})
	t.Run("faults", func(t *testing.T) { testFaults(t, l, client, web) })
	t.Run("commands", func(t *testing.T) { testCommands(t, l, client) })
	t.Run("power cut", func(t *testing.T) {
		if err := l.Node(2).Kill(ctx); err != nil {
			t.Fatal(err)
		}
		err := until(ctx, pollEvery, func() (bool, error) {
			_, err := l.Node(2).Run(ctx, "true")
			return err != nil, nil
		})
		if err != nil {
			t.Error("node2 still runs commands")
		}
		got := connect(t, client, web.ClusterIPs[0], ConnectOptions{Count: 20, Timeout: 300 * time.Millisecond})
		if results := got.ByResult(); results[Answered] == 0 || results[Timeout] == 0 {
			t.Errorf("with one of two nodes dead: %v", results)
		}
	})
}

func testFaults(t *testing.T, l *Lab, client *Pod, web Demo) {
	ctx := testContext(t)
	node := l.Node(1)
	quick := ConnectOptions{Timeout: 300 * time.Millisecond}
	if err := node.StopKubeProxy(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := node.Run(ctx, "nft", "delete", "table", "ip", "kube-proxy"); err != nil {
		t.Fatal(err)
	}
	if got := connect(t, client, web.ClusterIPs[0], quick); got.All(Answered) {
		t.Error("the Service works without rules")
	}
	if err := node.StartKubeProxy(ctx); err != nil {
		t.Fatal(err)
	}
	if got := connect(t, client, web.ClusterIPs[0], quick); !got.All(Answered) {
		t.Errorf("after kube-proxy's start: %+v", got)
	}

	restore, err := node.DropRoute(ctx, l.Node(2).PodRanges[0])
	if err != nil {
		t.Fatal(err)
	}
	got := connect(t, client, web.ClusterIPs[0], ConnectOptions{Count: 20, Timeout: 300 * time.Millisecond})
	if got.ByResult()[Answered] == len(got) {
		t.Error("connections to node2's pod work without a route")
	}
	if err := restore(ctx); err != nil {
		t.Fatal(err)
	}
	bothAnswer(t, client, web.ClusterIPs[0], connect(t, client, web.ClusterIPs[0], ConnectOptions{Count: 40}))

	old, err := l.Node(2).Sysctl(ctx, "net.ipv4.ip_forward", "0")
	if err != nil || old != "1" {
		t.Fatalf("ip_forward was %q, %v", old, err)
	}
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); err != nil {
		t.Error(err)
	} else if now, err := l.Node(1).Run(ctx, "cat", "/proc/sys/net/ipv4/ip_forward"); err != nil || strings.TrimSpace(now) != "1" {
		t.Errorf("node1's ip_forward is %q, %v (the machine's %q)", now, err, b)
	}
	got = connect(t, client, web.ClusterIPs[0], ConnectOptions{Count: 20, Timeout: 300 * time.Millisecond})
	if pods := got.ByPod(); len(pods) != 1 {
		t.Errorf("with node2 not forwarding, answers came from %v", pods)
	}
	if _, err := l.Node(2).Sysctl(ctx, "net.ipv4.ip_forward", old); err != nil {
		t.Fatal(err)
	}
}

func testCommands(t *testing.T, l *Lab, client *Pod) {
	ctx := testContext(t)
	for name, tc := range map[string]struct {
		place   *Place
		command []string
		want    string
	}{
		"node":          {l.Node(2).Place, []string{"hostname"}, "node2"},
		"pod":           {client.Place, []string{"hostname"}, "client"},
		"control plane": {l.ControlPlane(), []string{"kubectl", "get", "nodes", "-o", "name"}, "node/node1\nnode/node2"},
		"kubectl exec":  {l.ControlPlane(), []string{"kubectl", "exec", "client", "--", "echo", "hello"}, "hello"},
		"kubectl logs":  {l.ControlPlane(), []string{"sh", "-c", "kubectl logs deployment/web 2>/dev/null"}, "listening on :8080"},
		"no way out":    {l.Outside(), []string{"ip", "route", "get", "192.0.2.1"}, "192.0.2.1 via 10.250.0.1 dev eth0 src 10.250.0.100 uid 0 \n    cache"},
	} {
		got, err := tc.place.Run(ctx, tc.command[0], tc.command[1:]...)
		if err != nil || strings.TrimSpace(got) != tc.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, tc.want)
		}
	}
	if got, err := client.RunInput(ctx, "typed", "cat"); err != nil || got != "typed" {
		t.Errorf("input: %q, %v", got, err)
	}
	var failure *RunError
	if _, err := l.Node(1).Run(ctx, "sh", "-c", "echo no >&2; exit 3"); !errors.As(err, &failure) || failure.Stderr != "no\n" {
		t.Errorf("failure: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := l.Node(1).Run(short, "sleep", "60"); err == nil || time.Since(begin) > 5*time.Second {
		t.Errorf("a command outlived its context by %v: %v", time.Since(begin), err)
	}
	if out, err := l.Node(1).Run(ctx, "ps", "-e", "-o", "args"); err != nil || strings.Contains(out, "sleep 60") {
		t.Errorf("the killed command still runs, %v", err)
	}
}

func TestDualStackWithLegacyIPTables(t *testing.T) {
	l := New(t, Options{Family: Dual, Proxy: []ProxyMode{IPTablesLegacy, IPTables}})
	web := demo(t, l)
	for _, n := range l.Nodes() {
		for _, to := range slices.Concat(web.ClusterIPs, web.LoadBalancers) {
			bothAnswer(t, n, to, connect(t, n, to, ConnectOptions{Count: 40}))
		}
		for _, addr := range n.Addresses {
			to := netip.AddrPortFrom(addr, web.NodePort)
			bothAnswer(t, l.Outside(), to, connect(t, l.Outside(), to, ConnectOptions{Count: 40}))
		}
	}
	ctx := testContext(t)
	for i, want := range []string{"legacy", "nf_tables"} {
		for _, program := range []string{"iptables", "ip6tables"} {
			out, err := l.Node(i+1).Run(ctx, program, "--version")
			if err != nil || !strings.Contains(out, want) {
				t.Errorf("node%d: %s is %q, %v; want %s", i+1, program, out, err, want)
			}
			rules, err := l.Node(i+1).Run(ctx, program+"-save", "-t", "nat")
			if err != nil || !strings.Contains(rules, "KUBE-SERVICES") {
				t.Errorf("node%d: %s has no rules of kube-proxy: %v", i+1, program, err)
			}
		}
	}
}

func TestIPv6AndASecondLabAtTheSameTime(t *testing.T) {
	six := New(t, Options{Family: IPv6})
	four := New(t, Options{Family: IPv4, Nodes: 3, Proxy: []ProxyMode{IPTables}})
	webSix, webFour := demo(t, six), demo(t, four)
	bothAnswer(t, six.Node(1), webSix.ClusterIPs[0], connect(t, six.Node(1), webSix.ClusterIPs[0], ConnectOptions{Count: 40}))
	bothAnswer(t, four.Node(3), webFour.ClusterIPs[0], connect(t, four.Node(3), webFour.ClusterIPs[0], ConnectOptions{Count: 40}))
	names, err := List()
	if err != nil || !slices.Contains(names, six.Name()) || !slices.Contains(names, four.Name()) {
		t.Errorf("List: %v, %v", names, err)
	}
	// one ends, the other stays
	ctx := testContext(t)
	if err := six.Down(ctx); err != nil {
		t.Fatal(err)
	}
	assertGone(t, six.state)
	bothAnswer(t, four.Node(3), webFour.ClusterIPs[0], connect(t, four.Node(3), webFour.ClusterIPs[0], ConnectOptions{Count: 40}))
	if _, err := Start(ctx, Options{Name: four.Name()}); err == nil {
		t.Error("a second lab of the same name was started")
	}
	if err := four.Down(ctx); err != nil {
		t.Fatal(err)
	}
	assertGone(t, four.state)
}

// cutBetween is the text between two marks.
func cutBetween(s, before, after string) (string, bool) {
	_, s, ok := strings.Cut(s, before)
	if !ok {
		return "", false
	}
	s, _, ok = strings.Cut(s, after)
	return s, ok
}
