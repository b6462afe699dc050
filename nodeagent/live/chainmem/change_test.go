//go:build linux

package chainmem

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// TestReadingUnderChange reads while another process replaces the rules. What is read in one generation is what was written
// in one transaction, or an error.
func TestReadingUnderChange(t *testing.T) {
	newNamespace(t)
	var states [2]string
	for i := range states {
		var b strings.Builder
		b.WriteString("add table ip t; flush chain ip t c;\n")
		for n := range 400 - 100*i {
			fmt.Fprintf(&b, "add rule ip t c ip saddr 10.%d.%d.%d meta mark %d accept\n", i, n>>8, n&255, n)
		}
		states[i] = b.String()
	}
	load(t, "table ip t { chain c { type filter hook input priority 0; }; }", "nft", "-f", "-")
	load(t, states[0], "nft", "-f", "-")
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(home)
	r := newReader(t)
	at := r.chain(t, node.NFTIPv4, "t", "c")
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
		for n := range 2000 {
			select {
			case <-stop:
				return
			default:
			}
			cmd := exec.Command("nft", "-f", "-")
			cmd.Stdin = strings.NewReader(states[(n+1)%2])
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
				return
			}
		}
	})
	seen := map[string]int{}
	odd, moved := 0, 0
	for n := 0; n < 2000 || (len(seen) < 2 || odd+moved == 0) && n < 200000; n++ {
		before, err := r.nft.NFTGeneration(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		rules := 0
		err = r.Rules(r.hooks.Network(), at, func(rule Rule) error {
			rules++
			all.Write(rule.Message)
			return nil
		})
		if errors.Is(err, ErrOdd) {
			odd++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		after, err := r.nft.NFTGeneration(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if before != after {
			moved++
			continue
		}
		seen[fmt.Sprint(rules, " ", all.String())]++
	}
	for s := range seen {
		if n, _, _ := strings.Cut(s, " "); n != "400" && n != "300" {
			t.Errorf("there were never %s rules", n)
		}
	}
	if len(seen) != 2 {
		t.Errorf("%d states were seen, want 2", len(seen))
	}
	t.Logf("%d states seen, %d times it did not add up, %d times the generation had changed", len(seen), odd, moved)
}
