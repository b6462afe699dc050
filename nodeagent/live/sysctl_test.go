//go:build linux

package live

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

func TestSysctlIsReadOnce(t *testing.T) {
	runtime.LockOSThread() // not given back
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("making a network namespace (needs root): %v", err)
	}
	ns, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	const name = "net/ipv4/ip_forward"
	for _, set := range []string{"1", "0"} {
		if err := os.WriteFile("/proc/sys/"+name, []byte(set), 0); err != nil {
			t.Fatal(err)
		}
		if got, err := ns.Sysctl(t.Context(), name); err != nil || got != "1" {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	if n, _ := ns.Reads(); n != 1 {
		t.Errorf("%d reads were counted", n)
	}
	another, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer another.Close()
	if got, err := another.Sysctl(t.Context(), name); err != nil || got != "0" {
		t.Errorf("then %s is %q, %v", name, got, err)
	}
	if _, err := ns.Sysctl(t.Context(), "net/ipv4/absent"); !errors.Is(err, node.ErrNotFound) {
		t.Errorf("a value that is not there: %v", err)
	}
	if _, err := ns.Sysctl(t.Context(), "net/../kernel/osrelease"); err == nil {
		t.Error("it went up")
	}
}
