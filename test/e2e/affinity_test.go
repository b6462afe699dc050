package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// TestAffinityIsTracedFromTheKernelsOwnMemory traces a Service with session affinity before its clients have connected,
// when chance decides, and after, when each client's endpoint is certain; on every node, of every proxy mode.
func TestAffinityIsTracedFromTheKernelsOwnMemory(t *testing.T) {
	c := newCluster(t, "affinity", lab.Dual)
	ctx := within(t, 10*time.Minute)
	sticky := []service{{name: "sticky", affinity: true}}
	if err := c.makeWeb(ctx, sticky); err != nil {
		t.Fatal(err)
	}
	f, err := c.follower(ctx)
	if err != nil {
		t.Fatal(err)
	}

	// the kernel remembers a client by its address, whichever way in it takes
	first := map[string]fate{}
	kept := map[keptClient]netip.AddrPort{}
	client := func(k task) string {
		return fmt.Sprintf("%s on %s, %v", k.walk.Client.Kind, k.on, k.to.Addr().Is4())
	}
	for _, k := range c.traceAll(ctx, t, sticky) {
		p, err := f.predict(ctx, k.on, k.walk.Trace)
		if err != nil {
			t.Fatalf("%s: %v\n%s", k.name, err, describe(k.walk.Trace))
		}
		if len(p) != len(webPods) && k.walk.Expected.Fate == "translated" {
			t.Errorf("%s: before the client has connected:\n%s\n%s", k.name, p, describe(k.walk.Trace))
		}
		if _, done := first[client(k)]; done || k.walk.Client.Kind == "outside" {
			continue
		}
		o, err := count(ctx, k.from, k.to, lab.ConnectOptions{Timeout: answerPatience})
		if err != nil {
			t.Fatal(err)
		}
		for seen := range o.counts {
			if p[seen] == nil {
				t.Errorf("%s: the first connection: %s was not traced:\n%s", k.name, seen, p)
			}
			first[client(k)] = seen
			if k.walk.Client.Kind == "pod" {
				kept[keptClient{k.on.Name, k.walk.Client.Address}] = seen.server
			}
		}
	}
	c.checkKept(ctx, t, kept)

	var sums sum
	compared := 0
	for _, k := range c.traceAll(ctx, t, sticky) {
		was, connected := first[client(k)]
		if !connected {
			continue
		}
		p, err := f.predict(ctx, k.on, k.walk.Trace)
		if err != nil {
			t.Errorf("%s: %v\n%s", k.name, err, describe(k.walk.Trace))
			continue
		}
		for then := range p {
			if !p.certain() || then.server != was.server {
				t.Errorf("%s: after the client has connected to %s:\n%s\n%s", k.name, was.server, p, describe(k.walk.Trace))
			}
		}
		if err := c.compare(ctx, f, k, &sums); err != nil {
			t.Errorf("%s: %v", k.name, err)
		}
		compared++
	}
	if want := len(c.Nodes()) * len(c.families()) * 2; compared < want {
		t.Errorf("%d walks compared, want at least %d", compared, want)
	}
}

// keptClient is a client that a node keeps with an endpoint.
type keptClient struct {
	node    string
	address netip.Addr
}

// affinitySeconds is how long a Service keeps its clients by default.
const affinitySeconds = 10800

// checkKept requires that the plugin lists exactly these pods as kept, each with its endpoint, for most of the time that
// is left of the Service's: kube-proxy's lists, in every mode, as the kernel has them.
func (c *cluster) checkKept(ctx context.Context, t *testing.T, want map[keptClient]netip.AddrPort) {
	t.Helper()
	pods, err := c.podAddresses(ctx)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := c.trace(ctx, t, c.traceArgs("sticky")...)
	got := map[keptClient]netip.AddrPort{}
	for _, e := range a.Affinity {
		if !e.Current || e.LeftSeconds > affinitySeconds || e.LeftSeconds < affinitySeconds-600 {
			t.Errorf("%+v", e)
		}
		if pods[e.Client] != "" { // the nodes' own processes are kept too
			got[keptClient{e.Node, e.Client}] = e.Endpoint
		}
	}
	if !maps.Equal(got, want) || len(want) != len(c.Nodes())*len(c.families()) {
		t.Errorf("the plugin lists %v\nwant %v", got, want)
	}
	for _, n := range a.Nodes {
		if n.AffinityError != "" || n.AffinityTotal == 0 {
			t.Errorf("%s: %d clients, %s", n.Name, n.AffinityTotal, n.AffinityError)
		}
	}
}
