package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// TestTraceIsWhatConnectionsDo traces every access path of every Service from every kind of client on a node of each
// proxy mode, makes real connections along each, and requires that they end as traced: at which endpoint, with which
// share, under which source address, refused, or without an answer. It does so again after an endpoint is gone, and after
// all are.
func TestTraceIsWhatConnectionsDo(t *testing.T) {
	for _, family := range []lab.Family{lab.IPv4, lab.IPv6, lab.Dual} {
		t.Run(string(family), func(t *testing.T) {
			c := newCluster(t, string(family), family)
			ctx := within(t, 15*time.Minute)
			if err := c.makeWeb(ctx, services); err != nil {
				t.Fatal(err)
			}
			sums := &sum{}
			t.Run("three endpoints", func(t *testing.T) { c.compareAll(ctx, t, services, sums) })
			t.Run("further packets", func(t *testing.T) { c.compareFurther(ctx, t, sums) })
			t.Run("one endpoint less", func(t *testing.T) {
				c.removePods(ctx, t, services, "web-b")
				c.compareAll(ctx, t, named("plain", "external-local", "internal-local"), sums)
			})
			t.Run("none left", func(t *testing.T) {
				c.removePods(ctx, t, services, "web-a", "web-c")
				// UDP flows to node ports outlive the last endpoint: kube-proxy leaves them (TestStaleFlowIsFound)
				if err := c.forgetFlows(ctx); err != nil {
					t.Fatal(err)
				}
				c.compareAll(ctx, t, named("plain", "external-local", "internal-local", "one-endpoint"), sums)
			})
			// what one sample is too small to tell, the sum over all does
			if tail := sums.shares.tail(); tail < rare {
				t.Errorf("all shares together are off: chi-square %.1f with %d degrees of freedom has a probability of %.2g",
					sums.shares.statistic, sums.shares.freedom, tail)
			}
			t.Logf("%d comparisons, %d connections; chi-square of all shares %.1f, %d degrees of freedom, tail %.3f",
				sums.comparisons, sums.connections, sums.shares.statistic, sums.shares.freedom, sums.shares.tail())
		})
	}
}

// sum is what all comparisons of a lab add up to.
type sum struct {
	mu                       sync.Mutex
	shares                   shares
	comparisons, connections int
}

func (s *sum) add(o observation, more shares) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shares = s.shares.add(more)
	s.comparisons++
	s.connections += len(o.attempts)
}

// named picks Services of the table.
func named(names ...string) []service {
	var out []service
	for _, n := range names {
		for _, s := range services {
			if s.name == n {
				out = append(out, s)
			}
		}
	}
	return out
}

// removePods deletes pods, waits until they have ended, and until every kube-proxy knows what is left of the Services.
func (c *cluster) removePods(ctx context.Context, t *testing.T, of []service, names ...string) {
	t.Helper()
	for _, n := range names {
		if err := c.client.CoreV1().Pods(namespace).Delete(ctx, n, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range names {
		err := eventually(ctx, "wait until pod "+n+" is gone", func() (bool, error) {
			_, err := c.client.CoreV1().Pods(namespace).Get(ctx, n, metav1.GetOptions{})
			return isNotFound(err), ignoreNotFound(err)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := c.awaitRules(ctx, of); err != nil {
		t.Fatal(err)
	}
}

// forgetFlows empties every node's connection tracking table.
func (c *cluster) forgetFlows(ctx context.Context) error {
	for _, n := range c.Nodes() {
		if _, err := n.Run(ctx, "conntrack", "-F"); err != nil {
			return err
		}
	}
	return nil
}

// task is one walk of the plugin's answer, to be compared with real connections.
type task struct {
	name     string
	from     connector
	on       *lab.Node
	protocol string
	to       netip.AddrPort
	walk     render.Walk
}

// compareAll traces Services on every node and compares every walk with real connections.
func (c *cluster) compareAll(ctx context.Context, t *testing.T, services []service, sums *sum) {
	c.compareTasks(ctx, t, c.traceAll(ctx, t, services), sums)
}

// compareTasks compares walks with real connections.
func (c *cluster) compareTasks(ctx context.Context, t *testing.T, tasks []task, sums *sum) {
	t.Helper()
	f, err := c.follower(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// the outside has one route at a time, so its walks go node by node, beside all others
	var inside []task
	outside := map[int][]task{}
	for _, k := range tasks {
		if k.walk.Client.Kind == "outside" {
			outside[k.on.Index] = append(outside[k.on.Index], k)
			continue
		}
		inside = append(inside, k)
	}
	c.compareTogether(ctx, t, f, inside, sums)
	for _, n := range c.Nodes() {
		if err := c.routeOutside(ctx, n); err != nil {
			t.Fatal(err)
		}
		c.compareTogether(ctx, t, f, outside[n.Index], sums)
	}
}

// traceAll runs the plugin for each Service and lists the walks. On a healthy cluster it finds nothing.
func (c *cluster) traceAll(ctx context.Context, t *testing.T, services []service) []task {
	t.Helper()
	answers := make([]*render.ServiceTrace, len(services))
	var g errgroup.Group
	g.SetLimit(2)
	for i, s := range services {
		g.Go(func() error {
			r, err := c.run(ctx, c.traceArgs(s.name)...)
			if err != nil {
				return err
			}
			if answers[i], err = r.answer(); err != nil {
				return err
			}
			c.checkHealthy(t, s, answers[i], r)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var tasks []task
	for _, a := range answers {
		for _, w := range a.Walks {
			k, err := c.taskOf(a, w)
			if err != nil {
				t.Fatal(err)
			}
			tasks = append(tasks, k)
		}
	}
	return tasks
}

// traceArgs trace a Service on every node, for the client that the lab has outside.
func (c *cluster) traceArgs(name string) []string {
	args := []string{name, "-o", "json"}
	for _, n := range c.Nodes() {
		args = append(args, "--node", n.Name)
	}
	for _, a := range c.outsideAddresses() {
		args = append(args, "--external", a.String())
	}
	return args
}

// outsider is the client that is not part of the cluster: behind a router, where the lab has one.
func (c *cluster) outsider() *lab.Place {
	if c.Options().Beyond {
		return c.Beyond()
	}
	return c.Outside()
}

// outsideAddresses are the outsider's.
func (c *cluster) outsideAddresses() []netip.Addr {
	var out []netip.Addr
	all := []string{"10.250.0.100", "fd00:250::100"}
	if c.Options().Beyond {
		all = []string{"192.0.2.10", "2001:db8:0:2::10"}
	}
	for _, s := range all {
		a := netip.MustParseAddr(s)
		if c.has(intent.FamilyOf(a)) {
			out = append(out, a)
		}
	}
	return out
}

// checkHealthy requires that the plugin finds no difference: the cluster is as the API asks for. That a Service has no
// endpoint is the API's own fault and may be said.
func (c *cluster) checkHealthy(t *testing.T, s service, a *render.ServiceTrace, r ran) {
	allowed := map[string]bool{"no-ready-endpoints": len(a.Endpoints) == 0}
	worst := exitOK
	for id, f := range findings(a) {
		if !allowed[id] && f.Severity != "info" { // what is by design is explained
			t.Errorf("%s: on a healthy cluster: %s (%s): %s\n  places %v\n  evidence %+v", s.name, id, f.Severity, f.Message, f.Places, f.Evidence)
		}
		if f.Severity == "error" {
			worst = exitFindings
		}
	}
	if r.code != worst {
		t.Errorf("%s: exit code %d, want %d; stderr:\n%s", s.name, r.code, worst, r.stderr)
	}
	if a.Result != "ok" {
		t.Errorf("%s: result %s", s.name, a.Result)
	}
	if len(a.NotTraced) > 0 || len(a.Nodes) != len(c.Nodes()) {
		t.Errorf("%s: %d nodes traced, not traced: %v", s.name, len(a.Nodes), a.NotTraced)
	}
	if r.stderr != "" {
		t.Errorf("%s: something on standard error:\n%s", s.name, r.stderr)
	}
}

// taskOf finds the place that a walk's packet starts from. Of a node's pods that is the idle one.
func (c *cluster) taskOf(a *render.ServiceTrace, w render.Walk) (task, error) {
	k, err := c.taskFrom(a, w)
	if err != nil || w.Client.Kind != "pod" {
		return k, err
	}
	if want := namespace + "/" + c.clients[k.on.Index-1].Name; w.Client.Pod != want {
		return k, fmt.Errorf("on %s the walk starts at pod %q (invented: %t), want the idle %s", w.Node, w.Client.Pod, w.Client.Invented, want)
	}
	return k, nil
}

// taskFrom finds the place that a walk's packet starts from, whichever pod that is.
func (c *cluster) taskFrom(a *render.ServiceTrace, w render.Walk) (task, error) {
	p := a.AccessPaths[w.AccessPath]
	k := task{on: c.nodeNamed(w.Node), protocol: p.Protocol, to: w.Destination, walk: w}
	if k.on == nil {
		return k, fmt.Errorf("a walk on %q, which is no node", w.Node)
	}
	switch pod := strings.TrimPrefix(w.Client.Pod, namespace+"/"); {
	case w.Client.Kind == "outside":
		k.from = c.outsider()
	case pod != "":
		k.from = c.Pod(namespace, pod)
	case w.Client.Kind == "node":
		k.from = k.on.Place
	default:
		return k, fmt.Errorf("a client of kind %q without a place", w.Client.Kind)
	}
	k.name = fmt.Sprintf("%s/%s %s %s/%s on %s (%s)", a.Service.Name, p.Kind, p.Protocol, w.Destination, w.Client.Kind, w.Node, k.on.Proxy)
	return k, nil
}

// compareTogether compares several walks at a time.
func (c *cluster) compareTogether(ctx context.Context, t *testing.T, f *follower, tasks []task, sums *sum) {
	var g errgroup.Group
	g.SetLimit(6)
	for _, k := range tasks {
		g.Go(func() error {
			if err := c.compare(ctx, f, k, sums); err != nil {
				t.Errorf("%s: %v", k.name, err)
			}
			return nil
		})
	}
	_ = g.Wait() // the failures are reported
}

// compare makes the real connections of a walk and returns how they differ from it.
func (c *cluster) compare(ctx context.Context, shared *follower, k task, sums *sum) error {
	if k.walk.Trace == nil {
		return fmt.Errorf("not walked: %w", k.walk.Error)
	}
	p, err := shared.predictWalk(k.walk)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, describe(k.walk.Trace))
	}
	return c.holdTo(ctx, p, k.from, k.protocol, k.to, sums, k.walk.Trace)
}

// compareTrace makes the real connections of a trace on a node and returns how they differ from it.
func (c *cluster) compareTrace(ctx context.Context, shared *follower, from connector, on *lab.Node, protocol string, to netip.AddrPort, tr *trace.Trace, sums *sum) error {
	f := &follower{cluster: c, pods: shared.pods}
	p, err := f.predict(ctx, on, tr)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, describe(tr))
	}
	return c.holdTo(ctx, p, from, protocol, to, sums, append([]*trace.Trace{tr}, f.walked...)...)
}

// holdTo makes real connections and returns how they differ from what is predicted, with the traces that say so.
func (c *cluster) holdTo(ctx context.Context, p prediction, from connector, protocol string, to netip.AddrPort, sums *sum, because ...*trace.Trace) error {
	o, err := observe(ctx, from, protocol, to, p)
	if err != nil {
		return err
	}
	wrong, s := differ(p, o)
	sums.add(o, s)
	if wrong == "" {
		return nil
	}
	text := fmt.Sprintf("%s\ntraced:\n%s\nseen by %d connections:\n%s\n", wrong, p, len(o.attempts), o)
	for _, tr := range because {
		text += describe(tr)
	}
	return fmt.Errorf("%s", text)
}
