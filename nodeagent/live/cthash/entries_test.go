//go:build linux

package cthash

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/kmem"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
)

// namespace moves the calling thread into a network namespace of its own, which ends with the thread.
func namespace(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("making a network namespace (needs root): %v", err)
	}
}

// elsewhere runs f in another network namespace, which stays until the test ends.
func elsewhere(t testing.TB, f func()) {
	t.Helper()
	done, end := make(chan bool), make(chan bool)
	go func() {
		runtime.LockOSThread()
		ok := unix.Unshare(unix.CLONE_NEWNET) == nil
		if ok {
			f()
		}
		done <- ok
		<-end
	}()
	t.Cleanup(func() { close(end) })
	if !<-done {
		t.Fatal("no network namespace was made")
	}
}

// open returns readers of the calling thread's namespace, and its address. With aCast false memory is read as in kernels
// before Linux 6.2.
func open(t testing.TB, aCast bool) (*Reader, uint64) {
	t.Helper()
	m, err := kmem.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	var count nlsock.Counter
	r, err := New(m, &count)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	if before(t, 6, 2) != (r.functions.cast == 0) || r.functions.plain == 0 {
		t.Errorf("the kernel's functions: %+v", r.functions)
	}
	if !aCast {
		r.functions.cast = 0
	}
	net, err := m.Namespace()
	if err != nil {
		t.Fatal(err)
	}
	return r, net
}

// before tells whether the kernel is older than a version.
func before(t testing.TB, major, minor int) bool {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var a, b int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b); err != nil {
		t.Fatal(err)
	}
	return a < major || a == major && b < minor
}

// bothWays runs a test with both ways of reading memory.
func bothWays(t *testing.T, test func(t *testing.T, aCast bool)) {
	t.Run("bpf_rdonly_cast", func(t *testing.T) { test(t, true) })
	t.Run("bpf_probe_read_kernel", func(t *testing.T) { test(t, false) })
}

func netlink(t testing.TB) *nlsock.Socket {
	t.Helper()
	s, err := nlsock.Open(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// numbered is an address by a kind and a number, of IPv4 or IPv6.
func numbered(is6 bool, kind byte, n int) netip.Addr {
	a := netip.AddrFrom4([4]byte{10, kind, byte(n >> 8), byte(n)})
	if !is6 {
		return a
	}
	b := netip.MustParseAddr("fd00::").As16()
	copy(b[12:], a.AsSlice())
	return netip.AddrFrom16(b)
}
