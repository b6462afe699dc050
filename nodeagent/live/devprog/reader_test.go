//go:build linux

package devprog

import (
	"context"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// inNamespace moves the test to a network namespace of its own, with a veth pair v0, v1. The thread is not given back.
func inNamespace(t *testing.T) (v0 int) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("making a network namespace (needs root): %v", err)
	}
	if out, err := exec.Command("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1").CombinedOutput(); err != nil {
		t.Fatalf("making a veth pair: %v: %s", err, out)
	}
	i, err := net.InterfaceByName("v0")
	if err != nil {
		t.Fatal(err)
	}
	return i.Index
}

func program(t *testing.T, typ ebpf.ProgramType, code int32) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "drop_all", Type: typ, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.LoadImm(asm.R0, int64(code), asm.DWord), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestProgramsOnAnInterfaceAreNamed(t *testing.T) {
	index := inNamespace(t)
	r, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	check := func(egress bool, want ...string) {
		t.Helper()
		got, err := r.DevicePrograms(context.Background(), index, egress)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Fatalf("got %q, want %q", got, want)
		}
		for i := range want {
			if !strings.HasPrefix(got[i], want[i]) {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	}
	check(false)
	check(true)

	tcx, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: program(t, ebpf.SchedCLS, 2), Attach: ebpf.AttachTCXEgress})
	if err != nil {
		t.Fatal(err)
	}
	check(false)
	check(true, "tcx program")
	if err := tcx.Close(); err != nil {
		t.Fatal(err)
	}
	check(true)

	xdp, err := link.AttachXDP(link.XDPOptions{Interface: index, Program: program(t, ebpf.XDP, 1), Flags: link.XDPGenericMode})
	if err != nil {
		t.Fatal(err)
	}
	check(false, "XDP program")
	check(true)
	if err := xdp.Close(); err != nil {
		t.Fatal(err)
	}
	check(false)
}

func TestClassicTCFiltersAreNamed(t *testing.T) {
	index := inNamespace(t)
	p := program(t, ebpf.SchedCLS, 2)
	pin := t.TempDir() + "/bpf"
	if out, err := exec.Command("mkdir", pin).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := unix.Mount("bpf", pin, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(pin, 0)
	if err := p.Pin(pin + "/drop_all"); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"qdisc", "add", "dev", "v0", "clsact"},
		{"filter", "add", "dev", "v0", "ingress", "bpf", "direct-action", "object-pinned", pin + "/drop_all"},
	} {
		if out, err := exec.Command("tc", args...).CombinedOutput(); err != nil {
			t.Fatalf("tc %v: %v: %s", args, err, out)
		}
	}
	r, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := r.DevicePrograms(context.Background(), index, false)
	if err != nil || len(got) != 1 || !strings.HasPrefix(got[0], "tc bpf filter") {
		t.Errorf("got %q, %v, want one tc bpf filter", got, err)
	}
	if got, err := r.DevicePrograms(context.Background(), index, true); err != nil || len(got) != 0 {
		t.Errorf("on egress: got %q, %v, want none", got, err)
	}
}
