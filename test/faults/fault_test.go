package faults

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/proofs"
)

// step does something to the cluster, or looks at it.
type step = func(context.Context, *bed, *lab.Node) error

// fault is one thing to break: on one node, or with node 0 in the API.
type fault struct {
	name string
	// want is the ID of the only finding that is to be at the top, on the node.
	want string
	node int
	// hence are IDs that must be folded under it.
	hence []string
	// service is the Service that is traced; empty for web.
	service string
	cause   step
	repair  step
	// mend puts the Service itself right, before repair takes it away; the finding must then be gone.
	mend step
	// real sees what the fault does; it returns an error when that does not happen. sees says what it is.
	real step
	sees string
	// proof are parts of the evidence or of the sentence.
	proof []string
	// beside are other findings that the fault accounts for.
	beside []string
	// quiet is for findings that are information only.
	quiet bool
	// stays is for what the kernel counts and never forgets.
	stays bool
	// probed is for what only real connections show.
	probed bool
	// untraced is for Services that no node translates: the API alone is looked at.
	untraced bool
}

// run causes a fault, looks, repairs it, and looks again.
func (f fault) run(t *testing.T, b *bed) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	n := b.Node(max(f.node, 1))
	err := f.cause(ctx, b, n)
	if err == nil && f.real != nil {
		err = f.real(ctx, b, n)
	}
	if err != nil {
		t.Errorf("the fault: %v", err)
	} else if a, err := f.look(ctx, b); err != nil {
		t.Error(err)
	} else if f.check(t, n, a.Report); !t.Failed() {
		f.record(t, b, n, a)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 40*time.Second) // however long the fault took
	defer cancel()
	if f.mend != nil && err == nil {
		if err := f.mend(ctx, b, n); err != nil {
			t.Errorf("mending the Service: %v", err)
		}
		f.awaitGone(ctx, t, b)
	}
	if err := sequence(f.repair, forget)(ctx, b, n); err != nil {
		t.Fatalf("the repair: %v", err)
	}
	gone := f.want
	if f.stays {
		gone = ""
	}
	b.awaitHealthy(t, ctx, gone)
}

// look traces the Service.
func (f fault) look(ctx context.Context, b *bed) (*render.Answer, error) {
	service := f.service
	if service == "" {
		service = lab.DemoName
	}
	if f.untraced {
		return b.untraced(ctx, service)
	}
	a, err := b.diagnose(ctx, service)
	if err == nil && f.probed {
		err = b.probe(ctx, a, b.Node(f.node))
	}
	return a, err
}

func (f fault) check(t *testing.T, n *lab.Node, r diagnose.Report) {
	t.Log("\n" + text(r.Findings))
	got := slices.DeleteFunc(loud(r), func(id string) bool { return slices.Contains(f.beside, id) })
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
	found := r.Findings[i]
	if f.node > 0 && !slices.Equal(found.Nodes, []string{n.Name}) {
		t.Errorf("found on %v, want %s", found.Nodes, n.Name)
	}
	all := text(r.Findings[i : i+1])
	for _, p := range f.proof {
		if !strings.Contains(all, p) {
			t.Errorf("%q is not in the proof", p)
		}
	}
	for _, id := range f.hence {
		if !slices.ContainsFunc(diagnose.All(found.Consequences), func(x diagnose.Finding) bool { return x.ID == id }) {
			t.Errorf("%s is not folded under it", id)
		}
	}
	if !slices.ContainsFunc(found.Evidence, isData) {
		t.Error("none of the evidence is data")
	}
}

// isData reports whether evidence is more than words.
func isData(e diagnose.Evidence) bool {
	return e.Rule != nil || e.Sysctl != nil || e.Object != nil || e.Flow != nil || e.Route != nil || e.Value != nil
}

// root is the repository's.
var root = filepath.Join("..", "..")

// suite is the name of this module's records.
const suite = "faults"

// record writes down what was proven, or holds it against what is written.
func (f fault) record(t *testing.T, b *bed, n *lab.Node, a *render.Answer) {
	r := proofs.Record{Finding: f.want, Test: f.name, Where: "API", Caused: f.name, Seen: f.sees}
	if f.node > 0 {
		r.Where = string(n.Proxy)
	}
	if r.Seen == "" {
		r.Seen = "the risk itself"
		if f.real != nil {
			r.Seen = "connections fail"
		}
	}
	records := []proofs.Record{r}
	for _, id := range f.hence {
		h := r
		h.Finding, h.Under = id, f.want
		records = append(records, h)
	}
	if *update {
		if err := proofs.Write(root, suite, records); err != nil {
			t.Error(err)
		}
		f.sample(t, b, a)
		return
	}
	missing, err := proofs.Missing(root, suite, records)
	if err != nil {
		t.Error(err)
	}
	for _, m := range missing {
		t.Errorf("the records do not have %+v; go test -update writes them", m)
	}
}

// sample keeps what the plugin prints for people from FINDINGS on.
func (f fault) sample(t *testing.T, _ *bed, a *render.Answer) {
	var out strings.Builder
	if f.untraced {
		for _, x := range a.Report.Findings {
			fmt.Fprintf(&out, "found: %s %s: %s\nfix:   %s\n", x.Severity, x.ID, x.Sentence, x.Fix)
		}
	} else {
		var b strings.Builder
		if err := render.Write(&b, a, render.Human, false); err != nil {
			t.Fatal(err)
		}
		_, found, ok := strings.Cut(b.String(), "\nFINDINGS\n")
		if !ok {
			t.Fatalf("no findings in\n%s", b.String())
		}
		out.WriteString(found)
	}
	if err := os.WriteFile(filepath.Join(root, "docs", "findings", "samples", f.want+".txt"), []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// awaitGone waits until the Service gives no warning or error that is not accounted for, and not the finding.
func (f fault) awaitGone(ctx context.Context, t *testing.T, b *bed) {
	t.Helper()
	b.await(t, ctx, f.want, f.beside, func() (*render.Answer, error) {
		if err := b.forgetEverywhere(ctx); err != nil {
			return nil, err
		}
		return f.look(ctx, b)
	})
}

// awaitHealthy waits until web gives no warning, no error, and no finding of the ID.
func (b *bed) awaitHealthy(t *testing.T, ctx context.Context, id string) {
	t.Helper()
	b.await(t, ctx, id, nil, func() (*render.Answer, error) { return b.diagnose(ctx, lab.DemoName) })
}

func (b *bed) await(t *testing.T, ctx context.Context, id string, beside []string, look func() (*render.Answer, error)) {
	t.Helper()
	var last diagnose.Report
	for range 8 {
		a, err := look()
		if err != nil {
			t.Fatal(err)
		}
		last = a.Report
		if !slices.ContainsFunc(loud(last), func(id string) bool { return !slices.Contains(beside, id) }) && !slices.ContainsFunc(last.Findings, func(f diagnose.Finding) bool { return f.ID == id }) {
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
func shell(script string) step {
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

// forgetEverywhere empties the connection tracking of every node.
func (b *bed) forgetEverywhere(ctx context.Context) error {
	for _, n := range b.Nodes() {
		if err := forget(ctx, b, n); err != nil {
			return err
		}
	}
	return nil
}

// sequence does one thing after the other, up to the first error.
func sequence(steps ...step) step {
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
func set(name, value string) step {
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
func fails(who from, to netip.AddrPort) step {
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
func nodePortFails(who from, port uint16) step {
	return func(ctx context.Context, b *bed, n *lab.Node) error {
		return fails(who, netip.AddrPortFrom(n.Addresses[0], port))(ctx, b, n)
	}
}

var errNothing = errors.New("nothing of it is seen")
