//go:build linux

package hooklist_test

import (
	"errors"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/hooklist"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/kmem"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

func TestAChangeIsNoticed(t *testing.T) {
	newNamespace(t)
	run(t, "nft add table ip a\nnft add chain ip a c { type filter hook input priority 0; }")
	for _, change := range []string{
		"nft add chain ip a d { type filter hook input priority 1; }",
		"nft delete chain ip a d",
		"nft add chain ip a d { type filter hook output priority 1; }",
		"iptables-legacy -A INPUT -j ACCEPT",
		"nft add table ip a { flags dormant; }",
	} {
		r := newReader(t)
		if _, err := r.Hooks(node.NFTIPv4); err != nil {
			t.Fatal(err)
		}
		if same, err := r.Same(); err != nil || !same {
			t.Fatalf("nothing has changed: %v, %v", same, err)
		}
		run(t, change)
		if same, err := r.Same(); err != nil || same {
			t.Errorf("after %q: the same is %v, %v", change, same, err)
		}
	}
}

// TestReadingUnderChange reads while chains come and go. What was read is one of the states there were, or is refused.
func TestReadingUnderChange(t *testing.T) {
	newNamespace(t)
	run(t, "nft add table ip a\nnft add chain ip a stays { type filter hook input priority 0; }")
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(home)
	var work sync.WaitGroup
	stop := make(chan struct{})
	defer work.Wait()
	defer close(stop)
	work.Go(func() {
		runtime.LockOSThread()
		if err := unix.Setns(home, unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		// Each transaction makes and removes many lists and names of the sizes that are read.
		add, remove := "", ""
		for _, c := range []string{"x", "y", "z"} {
			add += "add chain ip a " + c + " { type filter hook input priority 1; };"
			remove += "delete chain ip a " + c + ";"
		}
		for range 500 {
			for _, command := range []string{add, remove} {
				select {
				case <-stop:
					return
				default:
				}
				if out, err := exec.Command("nft", command).CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
					return
				}
			}
		}
	})
	m, err := kmem.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	read, refused := map[string]int{}, 0
	for range 3000 {
		r, err := hooklist.New(m)
		if err != nil {
			t.Fatal(err)
		}
		hooks, err := r.Hooks(node.NFTIPv4)
		switch {
		case errors.Is(err, hooklist.ErrOdd), errors.Is(err, kmem.ErrFault):
			refused++
			continue
		case err != nil:
			t.Fatal(err)
		}
		same, err := r.Same()
		if err != nil {
			t.Fatal(err)
		}
		if !same {
			refused++
			continue
		}
		read[strings.ReplaceAll(text(hooks[1], ""), "\n", ", ")]++
	}
	// Chains are registered one by one while a transaction is prepared, and go when it is done.
	possible := []string{"0 chain ip a stays, "}
	names := []string{"1 chain ip a x, ", "1 chain ip a y, ", "1 chain ip a z, "}
	for bits := range 1 << len(names) {
		s := "0 chain ip a stays, "
		for i := len(names) - 1; i >= 0; i-- {
			if bits&(1<<i) != 0 {
				s += names[i]
			}
		}
		possible = append(possible, s)
	}
	for s := range read {
		if !slices.Contains(possible, s) {
			t.Errorf("%q was never so", s)
		}
	}
	if len(read) < 2 {
		t.Errorf("nothing changed meanwhile: %v", read)
	}
	t.Logf("read %v, refused %d", read, refused)
}
