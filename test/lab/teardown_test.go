package lab

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// remains lists what there is of a lab on this machine.
func remains(t *testing.T, s state) []string {
	t.Helper()
	var found []string
	if _, err := os.Lstat(string(s)); err == nil {
		found = append(found, "directory "+string(s))
	}
	mounts, err := mountsBelow(string(s))
	if err != nil {
		t.Fatal(err)
	}
	found = append(found, mounts...)
	hs, err := hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hs {
		err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && d.Name() == s.cgroup() {
				found = append(found, "cgroup "+path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if filepath.Base(p) == fmt.Sprint(os.Getpid()) {
			continue
		}
		for _, file := range []string{"cmdline", "cgroup", "mountinfo"} {
			b, err := os.ReadFile(filepath.Join(p, file))
			// a name that continues is another lab's
			for _, end := range []string{"/", "\x00", " ", "\n"} {
				if err == nil && bytes.Contains(b, []byte(s.cgroup()+end)) {
					found = append(found, fmt.Sprintf("process %s, in its %s", filepath.Base(p), file))
					break
				}
			}
		}
	}
	return found
}

// netNamespaces are the network namespaces that processes are in, each with one of them.
func netNamespaces(t *testing.T) map[string]int {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]int{}
	for _, l := range links {
		pid, err := strconv.Atoi(strings.Split(l, "/")[2])
		if err != nil {
			t.Fatal(err)
		}
		if ns, err := os.Readlink(l); err == nil {
			all[ns] = pid
		}
	}
	return all
}

// descends says whether a process is another's descendant, or that itself.
func descends(pid, ancestor int) bool {
	for depth := 0; pid > 1 && depth < 100; depth++ {
		if pid == ancestor {
			return true
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false
		}
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if pid, err = strconv.Atoi(fields[1]); err != nil {
			return false
		}
	}
	return false
}

// assertGone waits a moment for the last of a lab to go.
func assertGone(t *testing.T, s state) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var left []string
	if err := until(ctx, 50*time.Millisecond, func() (bool, error) {
		left = remains(t, s)
		return len(left) == 0, nil
	}); err != nil {
		t.Errorf("left of lab %s:\n%s", s.name(), strings.Join(left, "\n"))
	}
}

// startHelper starts another process that starts a lab, and waits until that is up with a pod.
func startHelper(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), helperName+"="+name)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "up\n" {
		t.Fatalf("helper said %q, %v", line, err)
	}
	return cmd
}

func TestNothingIsLeftWhenTheParentIsKilled(t *testing.T) {
	s := stateOf(fmt.Sprintf("k%d", os.Getpid()))
	helper := startHelper(t, s.name())
	if found := remains(t, s); len(found) < 10 {
		t.Fatalf("a running lab shows only as %q: the test looks at the wrong things", found)
	}
	l, err := Open(s.name())
	if err != nil {
		t.Fatal(err)
	}
	var own []string // network namespaces of the lab
	for ns, pid := range netNamespaces(t) {
		if descends(pid, l.record.Init.PID) {
			own = append(own, ns)
		}
	}
	if len(own) < 4 { // the switch's, the control plane's, the node's and the pod's
		t.Fatalf("only network namespaces %v were found", own)
	}
	begin := time.Now()
	if err := helper.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = helper.Wait()
	assertGone(t, s)
	t.Logf("gone after %v", time.Since(begin).Round(time.Millisecond))
	for _, ns := range own {
		if pid, left := netNamespaces(t)[ns]; left {
			t.Errorf("process %d is still in the lab's network namespace %s", pid, ns)
		}
	}
}

func TestNothingRunsWhenKeeperAndParentAreKilledAndTheNextLabTidiesUp(t *testing.T) {
	s := stateOf(fmt.Sprintf("q%d", os.Getpid()))
	helper := startHelper(t, s.name())
	r, err := s.record()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Keeper.signal(9); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := until(ctx, 10*time.Millisecond, func() (bool, error) { return !r.Init.alive(), nil }); err != nil {
		t.Fatalf("the lab survives its keeper: %v", err)
	}
	if err := helper.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = helper.Wait()
	sweep(ctx) // as each Start does first
	assertGone(t, s)
}
