//go:build linux

package live

import (
	"errors"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

func change(t *testing.T, command string) {
	t.Helper()
	if out, err := exec.Command("nft", command).CombinedOutput(); err != nil {
		t.Fatalf("nft %s: %v\n%s", command, err, out)
	}
}

func TestHooksOfANode(t *testing.T) {
	runtime.LockOSThread() // for good: the thread and its namespace end with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	change(t, "add table ip a; add chain ip a c { type filter hook input priority 0; }")
	n, err := OpenNode()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	ns, _, err := n.Namespace(t.Context(), node.Home)
	if err != nil {
		t.Fatal(err)
	}
	if same, err := ns.SameHooks(t.Context()); err != nil || !same {
		t.Errorf("nothing was read: %v, %v", same, err)
	}
	before, _ := n.Reads()
	hooks, err := ns.Hooks(t.Context(), node.NFTIPv4)
	if err != nil || len(hooks) != 5 || len(hooks[1]) != 1 || hooks[1][0].Name != "c" {
		t.Fatalf("got %v, %v", hooks, err)
	}
	if after, _ := n.Reads(); after <= before {
		t.Error("reading hooks was not counted")
	}
	if same, err := ns.SameHooks(t.Context()); err != nil || !same {
		t.Errorf("nothing has changed: %v, %v", same, err)
	}
	change(t, "delete table ip a")
	if same, err := ns.SameHooks(t.Context()); err != nil || same {
		t.Errorf("the chain is gone: %v, %v", same, err)
	}
}

func TestHooksWithoutBPF(t *testing.T) {
	n, err := OpenNode(WithoutBPF())
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	ns, _, err := n.Namespace(t.Context(), node.Home)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ns.Hooks(t.Context(), node.NFTIPv4); !errors.Is(err, node.ErrNotSupported) {
		t.Errorf("got %v, want %v", err, node.ErrNotSupported)
	}
	if same, err := ns.SameHooks(t.Context()); err != nil || !same {
		t.Errorf("nothing was read: %v, %v", same, err)
	}
}
