package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/proofs"
)

// Sizes of this test, in bytes: of pods that know nothing of the tunnel and of pods that do, of the nodes' network, and of
// one that carries less than the tunnel was made for.
const (
	forgetfulMTU = 1500
	podMTU       = 1430
	nodeMTU      = 1500
	lessMTU      = 1400
)

// TestSizesThatForgetTheTunnelAreFound gives pods the MTU of the nodes' network although a tunnel is between them, and
// then the tunnel a network that its packets do not fit, which loses fragments. Each time the first large datagram is
// lost for real where a small one is answered, and exactly that is found; and nothing after the repair.
func TestSizesThatForgetTheTunnelAreFound(t *testing.T) {
	c := newClusterOf(t, "mtu", lab.Options{
		Nodes: 2, Between: lab.VXLAN, Family: lab.Dual, Proxy: []lab.ProxyMode{lab.NFTables, lab.IPTables}, PodMTU: forgetfulMTU,
	})
	ctx := within(t, 5*time.Minute)
	one := service{name: "one-endpoint", selects: map[string]string{"only": "yes"}, protocols: tcpAndUDP, clusterOnly: true}
	if err := c.makeWeb(ctx, []service{one}); err != nil {
		t.Fatal(err)
	}
	args := append(fromPod(one.name, c.clients[0].Name), "--to", "clusterip") // web-c, on node 2
	requireSizes := func(what string, code int, ids ...string) {
		t.Helper()
		a, r := c.trace(ctx, t, append(args, "--fail-on", "warning")...)
		if got := slices.Sorted(maps.Keys(findings(a))); !slices.Equal(got, ids) || r.code != code {
			t.Errorf("%s: found %q, exit code %d, want %q, %d: %+v", what, got, r.code, ids, code, a.Findings)
		}
		for _, f := range a.Findings {
			if !strings.HasPrefix(f.Subject, "flannel") || len(f.Evidence) < 2 || f.Fix == "" {
				t.Errorf("%s: %+v", what, f)
			}
		}
		c.requireLoss(ctx, t, what, a, ids)
	}
	requireSizes("pods above the tunnel", exitOK, "mtu-above-tunnel")

	set := func(nodes int) {
		t.Helper()
		for _, n := range c.Nodes() {
			if _, err := n.Run(ctx, "ip", "link", "set", "eth0", "mtu", fmt.Sprint(nodes)); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{c.clients[0].Name, "web-c"} {
			if _, err := c.Pod(namespace, name).RunTool(ctx, "ip", "link", "set", "eth0", "mtu", fmt.Sprint(podMTU)); err != nil {
				t.Fatal(err)
			}
		}
	}
	restore, err := c.DropFragments(ctx)
	if err != nil {
		t.Fatal(err)
	}
	set(lessMTU)
	requireSizes("a network below that carries less", exitFindings, "mtu-too-small")
	if err := restore(ctx); err != nil {
		t.Fatal(err)
	}
	set(nodeMTU)
	requireSizes("repaired", exitOK)
	if !t.Failed() {
		keep(t, []proofs.Record{{Finding: "mtu-above-tunnel", Test: t.Name(), Where: "VXLAN, both families", Caused: "pods with the MTU of the nodes' network, although a tunnel is between them",
			Seen: "the first large datagram is lost, a small one is answered"}})
	}
}

// requireLoss sends a small and a large datagram by every walk over UDP, in a world that has learnt nothing about sizes.
func (c *cluster) requireLoss(ctx context.Context, t *testing.T, what string, a *render.ServiceTrace, ids []string) {
	t.Helper()
	for _, w := range a.Walks {
		k, err := c.taskFrom(a, w)
		if err != nil {
			t.Fatal(err)
		}
		if k.protocol != "udp" {
			continue
		}
		for size, answered := range map[int]bool{200: true, c.largest(t, a, w, k.to.Addr()): len(ids) == 0} {
			if err := c.forgetSizes(ctx); err != nil {
				t.Fatal(err)
			}
			o := lab.ConnectOptions{Protocol: "udp", Size: size, Timeout: answerPatience}
			if !answered {
				o.Timeout = silencePatience // or the sender is told that the datagram was too large
			}
			got, err := k.from.Connect(ctx, k.to, o)
			if err != nil {
				t.Fatal(err)
			}
			if got.All(lab.Answered) != answered {
				t.Errorf("%s: %s: a datagram of %d bytes: %v, want an answer: %t", what, k.name, size, got.ByResult(), answered)
			}
		}
	}
}

// largest is the payload of the largest datagram that the client's own interface lets it send in one packet, as traced.
func (c *cluster) largest(t *testing.T, a *render.ServiceTrace, w render.Walk, to netip.Addr) int {
	t.Helper()
	mtu := 0
	for _, i := range w.Trace.Outcomes[0].Path {
		if mtu = w.Trace.Hops[i].MTU; mtu != 0 {
			break
		}
	}
	if mtu < 1280 {
		t.Fatalf("the walk begins with the size %d", mtu)
	}
	if to.Is4() {
		return mtu - 20 - 8
	}
	return mtu - 40 - 8
}

// forgetSizes makes every namespace on the way forget what it has learnt about paths.
func (c *cluster) forgetSizes(ctx context.Context) error {
	for _, family := range []string{"-4", "-6"} {
		for _, n := range c.Nodes() {
			if _, err := n.Run(ctx, "ip", family, "route", "flush", "cache"); err != nil {
				return err
			}
		}
		for _, name := range []string{c.clients[0].Name, "web-c"} {
			if _, err := c.Pod(namespace, name).RunTool(ctx, "ip", family, "route", "flush", "cache"); err != nil {
				return err
			}
		}
	}
	return nil
}
