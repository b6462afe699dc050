package e2e

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// TestFlowsAreConntracks requires that the flows of a Service, as the plugin lists them, are those that conntrack(8)
// lists on the same node.
func TestFlowsAreConntracks(t *testing.T) {
	c := newCluster(t, "flows", lab.Dual)
	ctx := within(t, 2*time.Minute)
	plain := named("plain")
	if err := c.makeWeb(ctx, plain); err != nil {
		t.Fatal(err)
	}
	object, err := c.client.CoreV1().Services(namespace).Get(ctx, plain[0].name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// short flows of both protocols and families, from a pod and from the node, by every kind of address
	var virtual []netip.AddrPort
	for _, ip := range append(append([]string{}, object.Spec.ClusterIPs...), c.virtual(1)...) {
		virtual = append(virtual, netip.AddrPortFrom(netip.MustParseAddr(ip), 80))
	}
	for i, n := range c.Nodes() {
		to := slices.Clone(virtual)
		for _, a := range n.Addresses {
			to = append(to, netip.AddrPortFrom(a, uint16(object.Spec.Ports[0].NodePort)))
		}
		for _, a := range to {
			for _, from := range []connector{c.clients[i], n} {
				for _, protocol := range []string{"tcp", "udp"} {
					if protocol == "udp" && a.Port() != 80 {
						continue
					}
					got, err := from.Connect(ctx, a, lab.ConnectOptions{Protocol: protocol, Count: 3})
					if err != nil || !got.All(lab.Answered) {
						t.Fatalf("%s from %s to %s: %v %v", protocol, from, a, got.ByResult(), err)
					}
				}
			}
		}
	}
	// and one that stays open, from each node's pod
	for _, p := range c.clients {
		c.hold(ctx, t, p, virtual[0])
	}

	before := c.conntrack(ctx, t, object.Spec.Ports[0].NodePort, virtual)
	answer, _ := c.trace(ctx, t, c.traceArgs(plain[0].name)...)
	after := c.conntrack(ctx, t, object.Spec.Ports[0].NodePort, virtual)
	for _, n := range answer.Nodes {
		listed := map[flow]bool{}
		open := 0
		for _, f := range n.Flows {
			listed[flow{f.Protocol, f.Source, f.Destination, f.ReplySource, f.ReplyDestination}] = true
			if f.State == "ESTABLISHED" {
				open++
			}
		}
		if n.FlowsError != "" || n.FlowTotal != len(n.Flows) {
			t.Errorf("%s: %d flows listed, %d in all, error %q", n.Name, len(n.Flows), n.FlowTotal, n.FlowsError)
		}
		if open != 1 {
			t.Errorf("%s: %d flows are ESTABLISHED, want the one that is held open", n.Name, open)
		}
		for f := range listed {
			if !before[n.Name][f] && !after[n.Name][f] {
				t.Errorf("%s: the plugin lists %v, which conntrack does not", n.Name, f)
			}
		}
		for f := range before[n.Name] {
			if after[n.Name][f] && !listed[f] {
				t.Errorf("%s: conntrack lists %v, which the plugin does not", n.Name, f)
			}
		}
		if len(before[n.Name]) < 20 {
			t.Errorf("%s: conntrack lists only %d flows", n.Name, len(before[n.Name]))
		}
	}
}

// flow is what tells conntrack entries apart.
type flow struct {
	protocol                                           string
	source, destination, replySource, replyDestination netip.AddrPort
}

func (f flow) String() string {
	return fmt.Sprintf("%s %s -> %s, replies %s -> %s", f.protocol, f.source, f.destination, f.replySource, f.replyDestination)
}

// hold opens a connection from a pod and keeps it open until the test ends.
func (c *cluster) hold(ctx context.Context, t *testing.T, p *lab.Pod, to netip.AddrPort) {
	t.Helper()
	cmd, err := p.Command(ctx, "nc", to.Addr().String(), fmt.Sprint(to.Port()))
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	// a part of a request, so that the server waits for the rest
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(stdin, "GET / HTTP/1.1\r\n"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Cancel()
		_ = cmd.Wait()
	})
}

// conntrack lists, for each node by name, what conntrack(8) knows of flows to a Service.
func (c *cluster) conntrack(ctx context.Context, t *testing.T, nodePort int32, virtual []netip.AddrPort) map[string]map[flow]bool {
	t.Helper()
	out := map[string]map[flow]bool{}
	for _, n := range c.Nodes() {
		out[n.Name] = map[flow]bool{}
		for _, family := range []string{"ipv4", "ipv6"} {
			for _, protocol := range []string{"tcp", "udp"} {
				list, err := n.Run(ctx, "conntrack", "-L", "-f", family, "-p", protocol)
				if err != nil {
					t.Fatal(err)
				}
				for line := range strings.Lines(list) {
					f, err := parseFlow(protocol, line)
					if err != nil {
						t.Fatalf("%s: %q: %v", n, line, err)
					}
					toNode := protocol == "tcp" && slices.Contains(n.Addresses, f.destination.Addr()) && int32(f.destination.Port()) == nodePort
					if toNode || slices.Contains(virtual, f.destination) {
						out[n.Name][f] = true
					}
				}
			}
		}
	}
	return out
}

// parseFlow reads a line of conntrack -L: src= dst= sport= dport= of the original direction, then of the reply.
func parseFlow(protocol, line string) (flow, error) {
	f := flow{protocol: protocol}
	var addresses []netip.Addr
	var ports []uint16
	for _, word := range strings.Fields(line) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "src", "dst":
			a, err := netip.ParseAddr(value)
			if err != nil {
				return f, err
			}
			addresses = append(addresses, a)
		case "sport", "dport":
			var p uint16
			if _, err := fmt.Sscan(value, &p); err != nil {
				return f, err
			}
			ports = append(ports, p)
		}
	}
	if len(addresses) != 4 || len(ports) != 4 {
		return f, fmt.Errorf("%d addresses and %d ports", len(addresses), len(ports))
	}
	ends := make([]netip.AddrPort, 4)
	for i := range ends {
		ends[i] = netip.AddrPortFrom(addresses[i], ports[i])
	}
	f.source, f.destination, f.replySource, f.replyDestination = ends[0], ends[1], ends[2], ends[3]
	return f, nil
}
