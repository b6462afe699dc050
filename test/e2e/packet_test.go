package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// packet is one that the plugin does not ask about, and that svctrace-agent packet evaluates on a node.
type packet struct {
	name     string
	from     connector
	source   netip.Addr
	on       *lab.Node
	protocol string
	to       netip.AddrPort
}

// selves are pods that are each an endpoint of one Service, one on each node.
var selves = service{name: "self", selects: map[string]string{"app": "self"}}

// compareFurther compares what the plugin does not ask about: a pod that reaches itself through its Service, a pod that
// uses another node's port, a port that a ClusterIP does not have, and an address that no Service has.
func (c *cluster) compareFurther(ctx context.Context, t *testing.T, sums *sum) {
	if err := c.makeSelves(ctx); err != nil {
		t.Fatal(err)
	}
	packets, err := c.furtherPackets(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.follower(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	g.SetLimit(6)
	for _, p := range packets {
		g.Go(func() error {
			tr, err := c.packet(ctx, p.on, p.protocol, netip.AddrPortFrom(p.source, 0), p.to, "")
			if err == nil {
				err = c.compareTrace(ctx, f, p.from, p.on, p.protocol, p.to, tr, sums)
			}
			if err != nil {
				t.Errorf("%s, %s from %s to %s on %s (%s): %v", p.name, p.protocol, p.source, p.to, p.on, p.on.Proxy, err)
			}
			return nil
		})
	}
	_ = g.Wait() // the failures are reported
	// what got no answer has left half-open flows, which the plugin would rightly find when their endpoint goes
	if err := c.forgetFlows(ctx); err != nil {
		t.Fatal(err)
	}
}

// makeSelves makes a pod on each node and their Service.
func (c *cluster) makeSelves(ctx context.Context) error {
	g, making := errgroup.WithContext(ctx)
	for _, n := range c.Nodes() {
		g.Go(func() error { return c.webPod(making, "self-"+n.Name, n, selves.selects) })
	}
	g.Go(func() error { return c.makeService(making, selves, 50) })
	if err := g.Wait(); err != nil {
		return err
	}
	return c.awaitRules(ctx, []service{selves})
}

func (c *cluster) furtherPackets(ctx context.Context) ([]packet, error) {
	api := c.client.CoreV1().Services(namespace)
	self, err := api.Get(ctx, selves.name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	local, err := api.Get(ctx, "external-local", metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	pods, err := c.podAddresses(ctx)
	if err != nil {
		return nil, err
	}
	addressOf := func(pod string, is4 bool) netip.Addr {
		for a, name := range pods {
			if name == pod && a.Is4() == is4 {
				return a
			}
		}
		return netip.Addr{}
	}
	virtual := append(append([]string{}, self.Spec.ClusterIPs...), c.virtual(50)...)
	var out []packet
	for i, n := range c.Nodes() {
		me, next := c.Pod(namespace, "self-"+n.Name), c.Nodes()[(i+1)%len(c.Nodes())]
		for _, ip := range virtual {
			a := netip.MustParseAddr(ip)
			out = append(out, packet{"itself", me, addressOf(me.Name, a.Is4()), n, "tcp", netip.AddrPortFrom(a, 80)})
		}
		for _, a := range n.Addresses {
			client := addressOf(c.clients[i].Name, a.Is4())
			out = append(out,
				packet{"itself by node port", me, addressOf(me.Name, a.Is4()), n, "tcp", netip.AddrPortFrom(a, uint16(self.Spec.Ports[0].NodePort))},
				packet{"another node's port", c.clients[i], client, n, "tcp",
					netip.AddrPortFrom(nodeAddress(next, a.Is4()), uint16(local.Spec.Ports[0].NodePort))})
			for _, protocol := range []string{"tcp", "udp"} {
				out = append(out, packet{"no Service's address", c.clients[i], client, n, protocol, netip.AddrPortFrom(unallocated(a.Is4()), 80)})
			}
		}
		for _, ip := range self.Spec.ClusterIPs {
			a := netip.MustParseAddr(ip)
			for _, protocol := range []string{"tcp", "udp"} {
				out = append(out,
					packet{"a port that the ClusterIP does not have", c.clients[i], addressOf(c.clients[i].Name, a.Is4()), n, protocol, netip.AddrPortFrom(a, 81)},
					packet{"the same from the node", n, nodeAddress(n, a.Is4()), n, protocol, netip.AddrPortFrom(a, 81)})
			}
		}
	}
	return out, nil
}

// unallocated is an address of the Services' range that the lab gives to none: the API server takes addresses from the
// upper part of the range, and this is in the lower.
func unallocated(is4 bool) netip.Addr {
	if is4 {
		return netip.MustParseAddr("10.96.0.77")
	}
	return netip.MustParseAddr("fd00:96::77")
}

// packet evaluates a packet with the agent on a node, on to the pod's socket. in is the interface it arrives by, empty to
// let the agent choose.
func (c *cluster) packet(ctx context.Context, on *lab.Node, protocol string, from, to netip.AddrPort, in string) (*trace.Trace, error) {
	args := []string{"packet", "--follow", "--proto", protocol, "--from", from.Addr().String(), "--to", to.String(), "--output", "json"}
	if from.Port() != 0 {
		args = append(args, "--sport", fmt.Sprint(from.Port()))
	}
	if in != "" {
		args = append(args, "--in", in)
	}
	out, err := on.Run(ctx, c.agent, args...)
	if err != nil {
		return nil, err
	}
	return decodeTrace(strings.NewReader(out))
}
