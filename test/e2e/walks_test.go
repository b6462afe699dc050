package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// stuckApp is the label of a pod whose program listens and never accepts.
const stuckApp = "stuck"

// TestWalksFromSocketToSocket traces both IP families over VXLAN, and then what is at the two ends of a walk: which of a
// pod's containers sends, a program that does not accept, and connections that are opened for real.
func TestWalksFromSocketToSocket(t *testing.T) {
	c := newClusterOf(t, "walks", lab.Options{Nodes: 2, Between: lab.VXLAN, Family: lab.Dual, Proxy: []lab.ProxyMode{lab.NFTables, lab.IPTables}})
	ctx := within(t, 12*time.Minute)
	used := []service{services[0], services[1]} // plain, and external-local
	if err := c.makeWeb(ctx, used); err != nil {
		t.Fatal(err)
	}
	sums := &sum{}
	t.Run("both families over VXLAN", func(t *testing.T) { c.compareAll(ctx, t, used, sums) })
	t.Run("containers", func(t *testing.T) { c.compareContainers(ctx, t, sums) })
	t.Run("a program that never accepts", func(t *testing.T) { c.compareStuck(ctx, t) })
	t.Run("probe", func(t *testing.T) { c.compareProbes(ctx, t) })
	t.Run("probe killed midway", func(t *testing.T) { c.killProbe(ctx, t) })
}

// compareContainers traces from each container of a pod with a sidecar: the pod's rules send the program's connections to
// the sidecar, and let the sidecar's pass. Neither leaves a condition. Connections are opened as each container's user.
func (c *cluster) compareContainers(ctx context.Context, t *testing.T, sums *sum) {
	if _, err := c.SidecarPod(ctx, meshed, c.Node(1)); err != nil {
		t.Fatal(err)
	}
	for container, sidecar := range map[string]bool{"web": true, "sidecar": false} {
		args := []string{"plain", "-o", "json", "--from", "pod/" + meshed + "/" + container, "--to", "clusterip", "--probe=4"}
		a, r := c.trace(ctx, t, args...)
		if r.code != exitOK || len(a.Findings) > 0 || len(a.Walks) == 0 || len(a.Probes) != len(a.Walks) {
			t.Fatalf("%s: %v\nfindings %+v", container, r, a.Findings)
		}
		for _, w := range a.Walks {
			if tcp := a.AccessPaths[w.AccessPath].Protocol == "tcp"; w.Sidecar != (sidecar && tcp) || w.Client.Container != container {
				t.Errorf("from container %q to %s: taken by the sidecar: %t\n%s", w.Client.Container, w.Destination, w.Sidecar, describe(w.Trace))
			}
			owner := w.Trace.Packet.Owner
			if owner == nil || (owner.User == 1337) == sidecar || !strings.Contains(owner.From, "container "+container+", pid ") {
				t.Errorf("from container %q: sent by %+v", container, owner)
			}
			for _, o := range w.Trace.Outcomes {
				if len(o.Conditions) > 0 {
					t.Errorf("from container %q to %s: a condition is left: %q", container, o.Destination, o.Conditions)
				}
			}
			if w.Sidecar {
				k, err := c.taskFrom(a, w)
				if err != nil {
					t.Fatal(err)
				}
				if err := c.compareSidecar(ctx, k); err != nil {
					t.Errorf("%s: %v", k.name, err)
				}
			}
		}
		for _, p := range a.Probes {
			requireProbe(t, a, p, func(x trace.Tracked) bool { return x.ReplySource.Port() == lab.SidecarOutbound }, sidecar && p.Answer != nil && p.Answer.Protocol == "tcp")
		}
	}
}

// requireProbe requires that the connections of a probe were answered, and whether one of their entries is such.
func requireProbe(t *testing.T, a *render.ServiceTrace, p render.Probe, such func(trace.Tracked) bool, want bool) {
	t.Helper()
	if p.Error != nil || p.Answer == nil || len(p.Answer.Attempts) == 0 {
		t.Errorf("no probe of %+v: %+v", a.AccessPaths[p.AccessPath], p.Error)
		return
	}
	for _, n := range p.Answer.Notes {
		if !strings.Contains(n, "drop reasons") { // the lab's pods may lack what those need
			t.Errorf("%s: %s", p.Answer.Destination, n)
		}
	}
	for _, x := range p.Answer.Attempts {
		if !x.Result.Succeeded() {
			t.Errorf("%s %s: %s %s", p.Answer.Protocol, p.Answer.Destination, x.Result, x.Errno)
		}
		if slices.ContainsFunc(x.Tracked, such) != want {
			t.Errorf("%s %s: entries %+v, want one such: %t", p.Answer.Protocol, p.Answer.Destination, x.Tracked, want)
		}
	}
}

// compareStuck traces a Service whose only program listens with a backlog of one and does nothing: the first connections
// are established, those that follow get no answer, and that is found; over UDP datagrams are lost.
func (c *cluster) compareStuck(ctx context.Context, t *testing.T) {
	spec := lab.WebPodSpec("--stuck", "1")
	spec.Containers[0].ReadinessProbe = nil
	if _, err := c.RunPod(ctx, stuckApp, c.Node(2), spec); err != nil {
		t.Fatal(err)
	}
	stuck := []service{{name: stuckApp, selects: map[string]string{"app": stuckApp}, clusterOnly: true, protocols: []corev1.Protocol{corev1.ProtocolTCP}}}
	if err := c.makeService(ctx, stuck[0], 70); err != nil {
		t.Fatal(err)
	}
	if err := c.awaitRules(ctx, stuck); err != nil {
		t.Fatal(err)
	}
	args := append(fromPod(stuckApp, c.clients[0].Name), "--fail-on", "warning")
	a, r := c.trace(ctx, t, args...)
	if r.code != exitOK || len(a.Findings) > 0 {
		t.Errorf("before anybody connects: %v\n%+v", r, a.Findings)
	}
	if len(a.Walks) == 0 {
		t.Fatal("no walks")
	}
	k, err := c.taskFrom(a, a.Walks[0]) // the queue is one for all
	if err != nil {
		t.Fatal(err)
	}
	got, err := k.from.Connect(ctx, k.to, lab.ConnectOptions{Count: 6, Parallel: 6, Timeout: silencePatience})
	if err != nil || !got.All(lab.Timeout) {
		t.Errorf("%s: %v, %v, want no answer", k.name, got.ByResult(), err)
	}
	a, r = c.trace(ctx, t, args...)
	f, ok := findings(a)["socket-queue-full"]
	if r.code != exitFindings || !ok || len(f.Nodes) != 1 || !strings.Contains(f.Message, "2 connections wait and its backlog is 1") || len(f.Evidence) < 2 {
		t.Errorf("after: %v\n%+v", r, a.Findings)
	}
	for _, w := range a.Walks {
		l := w.Trace.Outcomes[0].Listener
		if l == nil || !l.Full || l.Drops == 0 || l.NamespaceOverflows == 0 {
			t.Errorf("%s: the socket: %+v", w.Destination, l)
		}
	}
}

// compareProbes opens connections from every client to every access path, once and many times: the plugin itself
// compares them with the walks, and finds nothing. Afterwards nothing is left on any node or in any pod.
func (c *cluster) compareProbes(ctx context.Context, t *testing.T) {
	before := c.tables(ctx, t)
	for _, probes := range []int{1, 40} {
		args := append(c.traceArgs("plain"), fmt.Sprintf("--probe=%d", probes))
		if probes == 1 {
			args[len(args)-1] = "--probe"
		}
		r, err := c.run(ctx, args...)
		if err != nil {
			t.Fatal(err)
		}
		a, err := r.answer()
		if err != nil {
			t.Fatal(err)
		}
		if r.code != exitOK || len(a.Findings) > 0 || !strings.Contains(r.stderr, "probe: sending packets") {
			t.Errorf("%d connections: exit code %d\n%s\nfindings %+v", probes, r.code, r.stderr, a.Findings)
		}
		want := 0
		for _, w := range a.Walks {
			if w.Client.Kind != "outside" {
				want++
			}
		}
		if len(a.Probes) != want || want == 0 {
			t.Errorf("%d probes, want %d", len(a.Probes), want)
		}
		for _, p := range a.Probes {
			if p.Answer == nil || len(p.Answer.Attempts) != probes {
				t.Errorf("%+v: %+v, want %d connections", p.Client, p.Answer, probes)
				continue
			}
			requireProbe(t, a, p, func(x trace.Tracked) bool { return x.ReplySource.Port() == lab.WebPort }, true)
		}
	}
	if after := c.tables(ctx, t); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// killProbe kills the plugin while its probes wait for answers that do not come, with the signal that leaves it no time.
// The rules go with the agents, which end when nobody speaks to them any more.
func (c *cluster) killProbe(ctx context.Context, t *testing.T) {
	before := c.tables(ctx, t)
	probing := func(c *cluster, ctx context.Context) (bool, error) {
		return strings.Contains(c.tables(ctx, t), "svctrace-probe"), nil
	}
	if _, err := c.interrupt(ctx, append(fromPod(stuckApp, c.clients[0].Name), "--probe=40"), 9, probing); err != nil {
		t.Fatal(err)
	}
	err := eventually(ctx, "wait until no rule is left", func() (bool, error) { return c.tables(ctx, t) == before, nil })
	if err != nil {
		t.Fatalf("%v\nbefore:\n%s\nafter:\n%s", err, before, c.tables(ctx, t))
	}
	if r, err := c.run(ctx, "cleanup"); err != nil || r.code != exitOK {
		t.Errorf("%v, %v", r, err)
	}
	c.noAgents(ctx, t)
}

// tables lists the nftables tables of every node and of every idle pod.
func (c *cluster) tables(ctx context.Context, t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for i, n := range c.Nodes() {
		out, err := n.Run(ctx, "nft", "list", "tables")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s:\n%s", n, out)
		if out, err = c.clients[i].RunTool(ctx, "nft", "list", "tables"); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s:\n%s", c.clients[i], out)
	}
	return b.String()
}
