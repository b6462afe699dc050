//go:build linux

package walk_test

import (
	"context"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/walk"
)

// namespace moves the test's thread into a network namespace of its own, which the commands set up. The thread is not
// given back.
func namespace(t *testing.T, commands ...string) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("making a network namespace (needs root): %v", err)
	}
	for _, c := range commands {
		shell(t, c)
	}
}

func shell(t *testing.T, command string) string {
	t.Helper()
	f := strings.Fields(command)
	out, err := exec.Command(f[0], f[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

// walkHere walks a packet from the thread's namespace on.
func walkHere(t *testing.T, s walk.Start) *trace.Trace {
	t.Helper()
	w := walk.Walker{Open: func(context.Context) (node.Node, func() error, error) {
		n, err := live.OpenNode()
		if err != nil {
			return nil, nil, err
		}
		return n, n.Close, nil
	}}
	got, err := w.Walk(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func start(from, to string) walk.Start {
	return walk.Start{Proto: skb.TCP, Source: netip.MustParseAddrPort(from), Destination: netip.MustParseAddrPort(to), Follow: true}
}

// onTheWay are the hops of the only outcome.
func onTheWay(t *testing.T, x *trace.Trace) []trace.Hop {
	t.Helper()
	if len(x.Outcomes) != 1 {
		t.Fatalf("%d outcomes, want 1: %+v", len(x.Outcomes), x.Outcomes)
	}
	var out []trace.Hop
	for _, i := range x.Outcomes[0].Path {
		out = append(out, x.Hops[i])
	}
	return out
}
