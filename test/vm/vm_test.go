//go:build linux

package vm_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/vm"
)

// sh runs a shell script in a machine.
func sh(t *testing.T, o vm.Options, script string) vm.Result {
	t.Helper()
	o.Command = []string{"sh", "-c", script}
	r, err := vm.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCommandRunsOnDebiansKernelAsRoot(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "of the host"), []byte("read me\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := sh(t, vm.Options{Dir: dir, Env: []string{"WORD=it's \"so\""}, Modules: []string{"dummy", "ip_vs"}}, `
		uname -r; id -u; echo "$WORD"; cat 'of the host'; echo mine >'of the host'; cat 'of the host'
		ip link add d0 type dummy && ip link add wg0 type wireguard && ip -o link | wc -l; ls /proc/net/ip_vs
		echo complaint >&2; exit 203`)
	want := fmt.Sprintf("%s\n0\nit's \"so\"\nread me\nmine\n", r.Kernel)
	if !strings.HasPrefix(r.Stdout, want) || !strings.HasSuffix(r.Stdout, "\n/proc/net/ip_vs\n") || r.Stderr != "complaint\n" || r.Status != 203 {
		t.Errorf("status %d, want 203; stdout %q, want it to begin with %q and to end with /proc/net/ip_vs; stderr %q", r.Status, r.Stdout, want, r.Stderr)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "of the host")); err != nil || string(b) != "read me\n" {
		t.Errorf("the machine wrote to the host's file: %q %v", b, err)
	}
}

func TestWhatHangsIsEnded(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		commandRuns(tmp)
	}()
	_, err := vm.Run(ctx, vm.Options{Command: []string{"sh", "-c", "echo so far; sleep 1000"}})
	var ended *vm.EndedError
	if !errors.As(err, &ended) || !errors.Is(err, context.Canceled) || ended.Stdout != "so far\n" {
		t.Errorf("%v", err)
	}
	leavesNothing(t)
}

func TestTimeIsBounded(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	_, err := vm.Run(t.Context(), vm.Options{Command: []string{"true"}, Timeout: 100 * time.Millisecond})
	var ended *vm.EndedError
	if !errors.As(err, &ended) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	leavesNothing(t)
}

func TestMachineThatStopsIsNoSuccess(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	_, err := vm.Run(t.Context(), vm.Options{Command: []string{"sh", "-c", "echo so far; echo c >/proc/sysrq-trigger"}})
	var ended *vm.EndedError
	if !errors.As(err, &ended) || ended.Stdout != "so far\n" || !strings.Contains(ended.Console, "sysrq triggered crash") {
		t.Errorf("%v", err)
	}
	leavesNothing(t)
}

func TestModuleThatIsNotThereIsAnError(t *testing.T) {
	_, err := vm.Run(t.Context(), vm.Options{Command: []string{"true"}, Modules: []string{"no_such_module"}})
	var ended *vm.EndedError
	if !errors.As(err, &ended) || !strings.Contains(ended.Console, "no_such_module") {
		t.Errorf("%v", err)
	}
}

// TestMachineEndsWithItsProcess kills the process that has a machine, which is this test's own program.
func TestMachineEndsWithItsProcess(t *testing.T) {
	if os.Getenv("SVCTRACE_HANGS") != "" {
		_, err := vm.Run(t.Context(), vm.Options{Command: []string{"sh", "-c", "echo so far; sleep 1000"}})
		t.Fatal(err)
	}
	tmp := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "SVCTRACE_HANGS=1", "TMPDIR="+tmp)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !commandRuns(tmp) {
		t.Error("the command never ran")
	}
	before := len(machines(t, tmp))
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	after := 0
	for range 100 {
		if after = len(machines(t, tmp)); after == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, pid := range machines(t, tmp) { // so that a failure leaves none either
		if n, err := strconv.Atoi(pid); err == nil {
			_ = syscall.Kill(n, syscall.SIGKILL)
		}
	}
	if before != 1 || after != 0 {
		t.Errorf("%d machines before its process is killed and %d after, want 1 and 0", before, after)
	}
}

// machines are the processes whose command line names a directory: those of machines that work in it.
func machines(t *testing.T, dir string) (pids []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if b, _ := os.ReadFile(f); strings.HasPrefix(string(b), "qemu") && strings.Contains(string(b), dir) {
			pids = append(pids, filepath.Base(filepath.Dir(f)))
		}
	}
	return pids
}

// commandRuns waits until the command of the machine that works below a directory has written something, for a minute.
func commandRuns(tmp string) bool {
	for range 1200 {
		found, _ := filepath.Glob(filepath.Join(tmp, "*", "stdout"))
		if len(found) == 1 {
			if b, _ := os.ReadFile(found[0]); len(b) > 0 {
				return true
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return false
}

// leavesNothing requires that no process of this one's lives on, and that its temporary directory is empty.
func leavesNothing(t *testing.T) {
	t.Helper()
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if left := machines(t, os.Getenv("TMPDIR")); len(left) != 0 {
		t.Errorf("machines left behind: %v", left)
	}
}
