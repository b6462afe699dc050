//go:build linux

package kmem

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/bpf"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

func open(t *testing.T) *Reader {
	t.Helper()
	r, err := Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// bits is where a member is in the kernel's own BTF, and how many bits it has: 0 for one that is not a bit field.
func bits(t *testing.T, spec *btf.Spec, structure string, way ...string) (offset, size int) {
	t.Helper()
	var s *btf.Struct
	if err := spec.TypeByName(structure, &s); err != nil {
		t.Fatal(err)
	}
	for i, name := range way {
		found := false
		for _, m := range s.Members {
			if m.Name != name {
				continue
			}
			found = true
			offset, size = offset+int(m.Offset), int(m.BitfieldSize)
			if i < len(way)-1 {
				s = btf.UnderlyingType(m.Type).(*btf.Struct)
			}
			break
		}
		if !found {
			t.Fatalf("%s has no %v", structure, way)
		}
	}
	return offset, size
}

func TestLayoutIsThatOfTheKernelsOwnTypes(t *testing.T) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	l := open(t).Layout
	for _, c := range []struct {
		got int
		of  []string
	}{
		{l.TaskNSProxy, []string{"task_struct", "nsproxy"}},
		{l.NSProxyNet, []string{"nsproxy", "net_ns"}},
		{l.NetInode, []string{"net", "ns", "inum"}},
		{l.HooksIPv4, []string{"net", "nf", "hooks_ipv4"}},
		{l.HooksIPv6, []string{"net", "nf", "hooks_ipv6"}},
		{l.HooksBridge, []string{"net", "nf", "hooks_bridge"}},
		{l.EntriesHooks, []string{"nf_hook_entries", "hooks"}},
		{l.OpsHook, []string{"nf_hook_ops", "hook"}},
		{l.OpsPriv, []string{"nf_hook_ops", "priv"}},
		{l.OpsPF, []string{"nf_hook_ops", "pf"}},
		{l.OpsNumber, []string{"nf_hook_ops", "hooknum"}},
		{l.OpsPriority, []string{"nf_hook_ops", "priority"}},
		{l.ChainTable, []string{"nft_chain", "table"}},
		{l.ChainName, []string{"nft_chain", "name"}},
		{l.TableName, []string{"nft_table", "name"}},
		{l.NATEntries, []string{"nf_nat_lookup_hook_priv", "entries"}},
		{l.XTName, []string{"xt_table", "name"}},
		{l.NetDevices, []string{"net", "dev_index_head"}},
		{l.DeviceNext, []string{"net_device", "index_hlist", "next"}},
		{l.DeviceIndex, []string{"net_device", "ifindex"}},
		{l.DeviceIngress, []string{"net_device", "nf_hooks_ingress"}},
		{l.DeviceEgress, []string{"net_device", "nf_hooks_egress"}},
	} {
		if want, _ := bits(t, spec, c.of[0], c.of[1:]...); c.got*8 != want {
			t.Errorf("%s is at bit %d, not %d", strings.Join(c.of, "."), want, c.got*8)
		}
	}
	offset, size := bits(t, spec, "nf_hook_ops", "hook_ops_type")
	if size == 0 {
		size = 32
	}
	if at := 8*l.OpsKind + 64 - l.OpsKindLeft - size; at != offset || 64-l.OpsKindRight != size {
		t.Errorf("nf_hook_ops.hook_ops_type has %d bits from %d, not %d from %d", size, offset, 64-l.OpsKindRight, at)
	}
}

func TestWhatTheKernelDoesNotHaveIsAbsent(t *testing.T) {
	want := open(t).Layout
	r := &Reader{program: -1, ctx: make([]byte, ctxSize)}
	b, questions := describe(&r.Layout)
	b.Structure("no_such_structure", bpf.Named("a", bpf.Int), bpf.Named("b", bpf.Pointer))
	b.Structure("nsproxy___own", bpf.Named("no_such_member", bpf.Pointer)) // the kernel leaves out what is behind ___
	var structure, member int
	questions = append(questions, bpf.Question{Answer: &structure, Kind: bpf.ByteOffset, Structure: "no_such_structure", Way: []int{1}, Optional: true},
		bpf.Question{Answer: &member, Kind: bpf.ByteOffset, Structure: "nsproxy___own", Way: []int{0}, Optional: true})
	if err := r.load(b, questions); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if structure != bpf.Absent || member != bpf.Absent {
		t.Errorf("a structure is at %d and a member at %d, want both absent", structure, member)
	}
	if r.Layout != want {
		t.Errorf("with guards: %+v, without: %+v", r.Layout, want)
	}
}

func TestWhatIsNeededAndNotThereIsNotSupported(t *testing.T) {
	r := &Reader{program: -1, ctx: make([]byte, ctxSize)}
	b, questions := describe(&r.Layout)
	b.Structure("no_such_structure", bpf.Named("a", bpf.Int))
	var at int
	questions = append(questions, bpf.Question{Answer: &at, Kind: bpf.ByteOffset, Structure: "no_such_structure", Way: []int{0}})
	if err := r.load(b, questions); err == nil {
		t.Error("it was loaded")
	}
}

func TestTheKernelSaysItsName(t *testing.T) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	offset, _ := bits(t, spec, "task_struct", "comm")
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var count nlsock.Counter
	r, err := Open(&count)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	before := count.Messages
	task, err := r.Task()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Prctl(unix.PR_SET_NAME, uintptrOf("reads-itself"), 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if name, err := r.Text(task + uint64(offset/8)); err != nil || name != "reads-itself" {
		t.Errorf("the thread is called %q, %v", name, err)
	}
	if n := count.Messages - before; n != 2 {
		t.Errorf("two runs were counted as %d", n)
	}
}

func TestWhatIsNoMemoryIsAnError(t *testing.T) {
	r := open(t)
	for _, address := range []uint64{0, 8, 1 << 20} {
		if err := r.Bytes(address, make([]byte, 300)); !errors.Is(err, ErrFault) {
			t.Errorf("bytes at %#x: %v", address, err)
		}
		if s, err := r.Text(address); !errors.Is(err, ErrFault) {
			t.Errorf("a string at %#x: %q, %v", address, s, err)
		}
	}
	if s, err := r.Symbol(0x10); err != nil || !strings.HasPrefix(s, "0x") {
		t.Errorf("no function has the name %q, %v", s, err)
	}
}

func TestWithoutCapabilitiesPermissionIsMissing(t *testing.T) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine: it has lost its capabilities
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&header, &data[0]); err != nil {
			done <- err
			return
		}
		for i := range data {
			data[i].Effective = 0
		}
		if err := unix.Capset(&header, &data[0]); err != nil {
			done <- err
			return
		}
		_, err := Open(nil)
		done <- err
	}()
	if err := <-done; !errors.Is(err, node.ErrPermission) {
		t.Errorf("got %v, want %v", err, node.ErrPermission)
	}
}
