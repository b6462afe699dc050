package faults

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// fault is one thing to break on one node.
type fault struct {
	name string
	// want is the ID of the only finding that is to be there, on the node.
	want string
	node int
	// service is the Service that is traced; empty for web.
	service string
	cause   func(context.Context, *bed, *lab.Node) error
	repair  func(context.Context, *bed, *lab.Node) error
	// real sees what the fault does; it returns an error when that does not happen.
	real func(context.Context, *bed, *lab.Node) error
	// proof are parts of the evidence or of the sentence.
	proof []string
	// quiet is for findings that are information only.
	quiet bool
}

// run causes a fault, looks, repairs it, and looks again.
func (f fault) run(t *testing.T, b *bed) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	n := b.Node(f.node)
	service := f.service
	if service == "" {
		service = lab.DemoName
	}
	err := f.cause(ctx, b, n)
	if err == nil && f.real != nil {
		err = f.real(ctx, b, n)
	}
	if err != nil {
		t.Errorf("the fault: %v", err)
	} else if r, err := b.diagnose(ctx, service); err != nil {
		t.Error(err)
	} else {
		f.check(t, n, r.Report)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 40*time.Second) // however long the fault took
	defer cancel()
	if err := sequence(f.repair, forget)(ctx, b, n); err != nil {
		t.Fatalf("the repair: %v", err)
	}
	b.awaitHealthy(t, ctx, f.want)
}

func (f fault) check(t *testing.T, n *lab.Node, r diagnose.Report) {
	t.Log("\n" + text(r.Findings))
	got := loud(r)
	if f.quiet {
		if len(got) > 0 {
			t.Errorf("warnings or errors %v, want none", got)
		}
	} else if len(got) == 0 || slices.ContainsFunc(got, func(id string) bool { return id != f.want }) {
		t.Errorf("findings %v, want %s", got, f.want)
	}
	i := slices.IndexFunc(r.Findings, func(x diagnose.Finding) bool { return x.ID == f.want })
	if i < 0 {
		t.Errorf("no %s", f.want)
		return
	}
	if !slices.Equal(r.Findings[i].Nodes, []string{n.Name}) {
		t.Errorf("found on %v, want %s", r.Findings[i].Nodes, n.Name)
	}
	all := text(r.Findings[i : i+1])
	for _, p := range f.proof {
		if !strings.Contains(all, p) {
			t.Errorf("%q is not in the proof", p)
		}
	}
}

// awaitHealthy waits until web gives no warning, no error, and no finding of the ID.
func (b *bed) awaitHealthy(t *testing.T, ctx context.Context, id string) {
	t.Helper()
	var last diagnose.Report
	for range 8 {
		r, err := b.diagnose(ctx, lab.DemoName)
		if err != nil {
			t.Fatal(err)
		}
		last = r.Report
		if len(loud(last)) == 0 && !slices.ContainsFunc(last.Findings, func(f diagnose.Finding) bool { return f.ID == id }) {
			return
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
	}
	t.Fatalf("after the repair:\n%s", text(last.Findings))
}

// shell runs a script in all of the node's namespaces.
func shell(script string) func(context.Context, *bed, *lab.Node) error {
	return func(ctx context.Context, _ *bed, n *lab.Node) error {
		_, err := n.Run(ctx, "sh", "-ec", script)
		return err
	}
}

// forget empties the node's connection tracking: what the fault did to real connections is in it for two minutes.
func forget(ctx context.Context, _ *bed, n *lab.Node) error {
	_, err := n.Run(ctx, "conntrack", "-F")
	return err
}

// sequence does one thing after the other, up to the first error.
func sequence(steps ...func(context.Context, *bed, *lab.Node) error) func(context.Context, *bed, *lab.Node) error {
	return func(ctx context.Context, b *bed, n *lab.Node) error {
		for _, s := range steps {
			if err := s(ctx, b, n); err != nil {
				return err
			}
		}
		return nil
	}
}

// set sets a kernel parameter, on the node.
func set(name, value string) func(context.Context, *bed, *lab.Node) error {
	return func(ctx context.Context, _ *bed, n *lab.Node) error {
		_, err := n.Sysctl(ctx, name, value)
		return err
	}
}

func stopProxy(ctx context.Context, _ *bed, n *lab.Node) error  { return n.StopKubeProxy(ctx) }
func startProxy(ctx context.Context, _ *bed, n *lab.Node) error { return n.StartKubeProxy(ctx) }

var restartProxy = sequence(stopProxy, startProxy)

// from is where real connections come from.
type from func(*bed, *lab.Node) *lab.Place

func clientPod(b *bed, n *lab.Node) *lab.Place { return b.clients[n.Index-1].Place }
func outside(b *bed, _ *lab.Node) *lab.Place   { return b.Outside() }
func itself(_ *bed, n *lab.Node) *lab.Place    { return n.Place }

// webPod is the Service's own pod on the node.
func webPod(b *bed, n *lab.Node) *lab.Place { return b.Pod(namespace, b.podOn(n.Name).Name).Place }

var (
	clusterIP = netip.MustParseAddrPort("10.96.0.25:80")
	localhost = netip.MustParseAddrPort("127.0.0.1:30080")
)

// fails requires that connections to an address end badly, at least some of them.
func fails(who from, to netip.AddrPort) func(context.Context, *bed, *lab.Node) error {
	return func(ctx context.Context, b *bed, n *lab.Node) error {
		got, err := who(b, n).Connect(ctx, to, lab.ConnectOptions{Count: 12, Timeout: 700 * time.Millisecond})
		if err != nil {
			return err
		}
		if got.All(lab.Answered) {
			return fmt.Errorf("connections from %s to %s still work: %v", who(b, n), to, got.ByPod())
		}
		return nil
	}
}

// nodePortFails is fails for the Service's port at the node's own address.
func nodePortFails(who from, port uint16) func(context.Context, *bed, *lab.Node) error {
	return func(ctx context.Context, b *bed, n *lab.Node) error {
		return fails(who, netip.AddrPortFrom(n.Addresses[0], port))(ctx, b, n)
	}
}

var errNothing = errors.New("nothing of it is seen")
