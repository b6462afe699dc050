//go:build linux

package vm_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	go func() { // ends the machine once the command runs
		defer cancel()
		for range 1200 {
			found, _ := filepath.Glob(filepath.Join(tmp, "*", "stdout"))
			if len(found) == 1 {
				if b, _ := os.ReadFile(found[0]); len(b) > 0 {
					return
				}
			}
			time.Sleep(50 * time.Millisecond)
		}
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

// leavesNothing requires that no process of this one's lives on, and that its temporary directory is empty.
func leavesNothing(t *testing.T) {
	t.Helper()
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	out, err := exec.Command("ps", "-o", "comm=", "--ppid", fmt.Sprint(os.Getpid())).Output()
	if strings.Contains(string(out), "qemu") {
		t.Errorf("children left behind: %s %v", out, err)
	}
}
