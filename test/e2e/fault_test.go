package e2e

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/proofs"
)

// fault is something that goes wrong on every node, each of another proxy mode.
type fault struct {
	name string
	// cause makes it go wrong on one node.
	cause func(f *faulty, ctx context.Context, n *lab.Node) error
	// change is done to the cluster, once, after the fault was caused; nil for nothing.
	change func(ctx context.Context, f *faulty) error
	// undo puts a node right; nil means that kube-proxy does when it is started anew.
	undo func(f *faulty, ctx context.Context, n *lab.Node) error
	// finds are all findings: the IDs, and the proxy modes that have them, none for all. hence are those that are folded
	// under them.
	finds, hence map[string][]lab.ProxyMode
	// proof makes real connections that show it; nil means those of every walk, which must end as traced.
	proof func(f *faulty, ctx context.Context, t *testing.T)
}

// rejecting is the mode that rejects what comes to a ClusterIP and is not translated; the others let it go its way.
var rejecting = []lab.ProxyMode{lab.NFTables}

// faults each show as findings of their own, on every node, and as nothing else.
var faults = []fault{
	{name: "an endpoint's rule deleted", cause: (*faulty).deleteFirst, finds: map[string][]lab.ProxyMode{"endpoint-missing-in-kernel": nil}},
	{name: "the last endpoint's rule deleted", cause: (*faulty).deleteLast, finds: map[string][]lab.ProxyMode{"endpoint-missing-in-kernel": nil, "no-translation": nil, "rejected-though-endpoints": rejecting}},
	{name: "the Service's chain flushed", cause: (*faulty).flushService, finds: map[string][]lab.ProxyMode{"no-translation": nil, "rejected-though-endpoints": rejecting}},
	{name: "the masquerade chain flushed", cause: (*faulty).flushMasquerade, finds: map[string][]lab.ProxyMode{"not-masqueraded": nil}, hence: map[string][]lab.ProxyMode{"reply-not-translated": nil}},
	{name: "kube-proxy stopped, and one replica less", cause: (*faulty).stopProxy, change: scaleTo(1), finds: map[string][]lab.ProxyMode{"kube-proxy-down": nil},
		hence: map[string][]lab.ProxyMode{"endpoint-not-in-api": nil},
		proof: (*faulty).goneEndpointFails},
	{name: "kube-proxy stopped, and one replica more", cause: (*faulty).stopProxy, change: scaleTo(3), finds: map[string][]lab.ProxyMode{"kube-proxy-down": nil},
		hence: map[string][]lab.ProxyMode{"endpoint-missing-in-kernel": nil}},
	{name: "a foreign rule drops what goes to an endpoint", cause: (*faulty).dropForwarded, undo: (*faulty).dropForwardedNoMore,
		finds: map[string][]lab.ProxyMode{"foreign-drop": nil}, hence: map[string][]lab.ProxyMode{"stopped-after-translation": nil}},
	{name: "a foreign rule drops what comes to the ClusterIP", cause: (*faulty).dropEarly, undo: (*faulty).dropEarlyNoMore,
		finds: map[string][]lab.ProxyMode{"foreign-drop": nil}, hence: map[string][]lab.ProxyMode{"dropped-though-endpoints": nil}},
}

// faulty is the cluster that the faults are caused in, with the worked example.
type faulty struct {
	*cluster
	web lab.Demo
	// endpoints are the two that the example has, in order.
	endpoints []netip.AddrPort
}

// TestFaultsAreFound causes each fault by hand on nodes of every proxy mode, requires the findings that belong to it, and
// no others, and sees connections fail as traced. When the fault is undone nothing is found any more.
func TestFaultsAreFound(t *testing.T) {
	f := &faulty{cluster: newCluster(t, "faults", lab.IPv4)}
	ctx := within(t, 15*time.Minute)
	var err error
	if f.web, err = f.Demo(ctx); err != nil {
		t.Fatal(err)
	}
	if err := f.readEndpoints(ctx); err != nil {
		t.Fatal(err)
	}
	f.healthy(ctx, t)
	for _, x := range faults {
		t.Run(x.name, func(t *testing.T) { f.find(ctx, t, x) })
		if t.Failed() && ctx.Err() != nil {
			return
		}
	}
}

func (f *faulty) find(ctx context.Context, t *testing.T, x fault) {
	for _, n := range f.Nodes() {
		if err := x.cause(f, ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	if x.change != nil {
		if err := x.change(ctx, f); err != nil {
			t.Fatal(err)
		}
	}
	a, r := f.trace(ctx, t, f.traceArgs(lab.DemoName)...)
	f.checkFound(t, x, a, r)
	if !t.Failed() {
		defer x.record(t, a)
	}
	switch {
	case x.proof != nil:
		x.proof(f, ctx, t)
	default:
		f.endAsTraced(ctx, t, a)
	}
	if err := f.putRight(ctx, x); err != nil {
		t.Fatal(err)
	}
	f.healthy(ctx, t)
}

// checkFound requires exactly the fault's findings, on every node.
func (f *faulty) checkFound(t *testing.T, x fault, a *render.ServiceTrace, r ran) {
	t.Helper()
	found := findings(a)
	want := slices.Sorted(maps.Keys(x.finds))
	if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
		for _, w := range a.Walks {
			if w.Result != "ok" && w.Trace != nil {
				t.Logf("a walk that is not as it should be:\n%s", describe(w.Trace))
				break
			}
		}
	}
	on := map[string]map[string]bool{}
	for _, d := range withConsequences(a.Findings) {
		if on[d.ID] == nil {
			on[d.ID] = map[string]bool{}
		}
		for _, n := range d.Nodes {
			on[d.ID][n] = true
		}
		if d.Message == "" || d.Fix == "" || len(d.Evidence) == 0 {
			t.Errorf("finding %s has no message, no fix or no evidence: %+v", d.ID, d)
		}
		if _, wanted := x.finds[d.ID]; !wanted && x.hence[d.ID] == nil {
			t.Logf("  %s on %v: %s %+v", d.ID, d.Nodes, d.Message, d.Evidence)
		}
	}
	all := maps.Clone(x.finds)
	maps.Copy(all, x.hence)
	for id, modes := range all {
		for _, n := range f.Nodes() {
			if want := modes == nil || slices.Contains(modes, n.Proxy); on[id][n.Name] != want {
				t.Errorf("%s was found on %v, want on %s (%s): %t", id, slices.Sorted(maps.Keys(on[id])), n, n.Proxy, want)
			}
		}
	}
	if r.code != exitFindings || a.Result != "differs" {
		t.Errorf("exit code %d and result %q, want %d and differs; stderr:\n%s", r.code, a.Result, exitFindings, r.stderr)
	}
}

// record writes down what was proven, unless the rest of the test fails.
func (x fault) record(t *testing.T, a *render.ServiceTrace) {
	if t.Failed() {
		return
	}
	var records []proofs.Record
	var add func(list []render.Finding, under string)
	add = func(list []render.Finding, under string) {
		for _, d := range list {
			r := proofs.Record{Finding: d.ID, Under: under, Test: "TestFaultsAreFound/" + x.name, Where: "nodes of every mode", Caused: x.name, Seen: "connections end as traced"}
			if !slices.ContainsFunc(records, func(o proofs.Record) bool { return o.Finding == r.Finding && o.Under == r.Under }) {
				records = append(records, r)
			}
			add(d.Consequences, d.ID)
		}
	}
	add(a.Findings, "")
	keep(t, records)
}

// withConsequences lists findings and what is folded under them.
func withConsequences(list []render.Finding) []render.Finding {
	var out []render.Finding
	for _, f := range list {
		out = append(append(out, f), withConsequences(f.Consequences)...)
	}
	return out
}

// endAsTraced makes the connections of every walk.
func (f *faulty) endAsTraced(ctx context.Context, t *testing.T, a *render.ServiceTrace) {
	t.Helper()
	var tasks []task
	for _, w := range a.Walks {
		k, err := f.taskOf(a, w)
		if err != nil {
			t.Fatal(err)
		}
		tasks = append(tasks, k)
	}
	f.compareTasks(ctx, t, tasks, &sum{})
}

// putRight undoes a fault on every node.
func (f *faulty) putRight(ctx context.Context, x fault) error {
	if x.change != nil {
		if err := scaleTo(len(f.endpoints))(ctx, f); err != nil {
			return err
		}
	}
	for _, n := range f.Nodes() {
		if x.undo != nil {
			if err := x.undo(f, ctx, n); err != nil {
				return err
			}
			continue
		}
		if err := n.StopKubeProxy(ctx); err != nil {
			return err
		}
		if err := n.StartKubeProxy(ctx); err != nil {
			return err
		}
	}
	if err := f.readEndpoints(ctx); err != nil {
		return err
	}
	return f.sync(ctx)
}

// healthy requires that nothing is found.
func (f *faulty) healthy(ctx context.Context, t *testing.T) {
	t.Helper()
	if err := f.forgetFlows(ctx); err != nil {
		t.Fatal(err)
	}
	a, r := f.trace(ctx, t, f.traceArgs(lab.DemoName)...)
	f.checkHealthy(t, service{name: lab.DemoName}, a, r)
}
