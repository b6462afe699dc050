//go:build linux

package ctnltest

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Still has the kernel's table stay as large as it is until a test ends: go test runs tests of several packages at a time, and
// the table is one.
func Still(t testing.TB) { lock(t, unix.LOCK_SH) }

// Resizing waits until no test needs the table to stay as large as it is, and has others wait until this one ends.
func Resizing(t testing.TB) { lock(t, unix.LOCK_EX) }

func lock(t testing.TB, how int) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "svctrace-conntrack-table.lock"), os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() }) // which unlocks it
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		t.Fatal(err)
	}
}
