package e2e

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// cableMTU is what the nodes' network carries where it is too small: less than what the tunnel's MTU and its overhead
// make together.
const cableMTU = 1400

// tagBytes are what a virtual cable lets pass beyond its MTU: room for a VLAN tag (is_skb_forwardable in net/core/dev.c).
const tagBytes = 4

// tunnelSays is how a trace describes a tunnel's size.
var tunnelSays = regexp.MustCompile(`(\d+) bytes more; MTU of the tunnel (\d+)`)

// narrowCable lets the nodes' network carry less than the nodes believe. Then connections come about as traced, and
// packets get lost that are larger than what the network carries without the overhead that the trace says, to the byte.
func (c *cluster) narrowCable(ctx context.Context, t *testing.T) {
	// web-c, on node 2
	a, _ := c.trace(ctx, t, append(fromPod("one-endpoint", c.clients[0].Name), "--to", "clusterip")...)
	restore, err := c.Node(2).CableMTU(ctx, cableMTU)
	if err != nil {
		t.Fatal(err)
	}
	c.compareWalks(ctx, t, a, &sum{})
	compared := 0
	for _, w := range a.Walks {
		k, err := c.taskFrom(a, w)
		if err != nil {
			t.Fatal(err)
		}
		overhead, mtu, err := tunnelOf(w.Trace)
		if err != nil {
			t.Fatalf("%s: %v\n%s", k.name, err, describe(w.Trace))
		}
		headers := 20 + 8 // of IP and UDP
		if k.to.Addr().Is6() {
			headers += 20
		}
		fits := cableMTU + tagBytes - overhead - headers
		if overhead+mtu > 1500 || overhead+mtu <= cableMTU {
			t.Errorf("%s: a tunnel with MTU %d adds %d bytes to its packets, and the nodes' own MTU is 1500", k.name, mtu, overhead)
		}
		if k.protocol == "tcp" {
			fits = 0 // a segment is as large as the pods' MTU lets it be
		}
		for size, want := range map[int]lab.Result{fits: lab.Answered, fits + 1: lab.Timeout} {
			o := lab.ConnectOptions{Protocol: k.protocol, Size: size, Count: few, Parallel: few, Timeout: answerPatience}
			if k.protocol == "tcp" && want != lab.Answered {
				o.Size = 8000
			}
			if want == lab.Timeout {
				o.Timeout = 2 * silencePatience
			}
			got, err := k.from.Connect(ctx, k.to, o)
			if err != nil {
				t.Fatal(err)
			}
			if !got.All(want) {
				t.Errorf("%s: %d bytes: %v, want %s; the tunnel adds %d bytes", k.name, o.Size, got.ByResult(), want, overhead)
			}
		}
		compared++
	}
	if want := 2 * len(c.families()); compared != want {
		t.Errorf("%d walks compared, want %d", compared, want)
	}
	if err := restore(ctx); err != nil {
		t.Fatal(err)
	}
}

// tunnelOf reads a tunnel's overhead and MTU out of the steps of a trace, which has one way.
func tunnelOf(t *trace.Trace) (overhead, mtu int, err error) {
	for _, h := range t.Hops {
		m := tunnelSays.FindStringSubmatch(h.Says)
		if m == nil {
			continue
		}
		if overhead, err = strconv.Atoi(m[1]); err != nil {
			return 0, 0, err
		}
		mtu, err = strconv.Atoi(m[2])
		return overhead, mtu, err
	}
	return 0, 0, fmt.Errorf("no step of the trace is a tunnel")
}
