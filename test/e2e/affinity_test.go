package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// TestAffinityIsTracedFromTheKernelsOwnMemory traces a Service with session affinity before its clients have connected,
// when chance decides, and after, when each client's endpoint is certain; on every node, of every proxy mode.
func TestAffinityIsTracedFromTheKernelsOwnMemory(t *testing.T) {
	c := newCluster(t, "affinity", lab.Dual)
	ctx := within(t, 3*time.Minute)
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
		}
	}

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
