//go:build linux

package bpf

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

func load(t *testing.T, p *Program) int {
	t.Helper()
	fd, err := p.Load()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Close(fd); err != nil {
			t.Error(err)
		}
	})
	return fd
}

func TestAProgramRunsWhenItIsCalled(t *testing.T) {
	fd, err := NewConstant([]byte{7, 0, 0, 0, 0, 0, 0, 0})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	// What it returns, and writes into its context, is the constant and what was in the context.
	p := load(t, &Program{Name: "add", Type: unix.BPF_PROG_TYPE_SYSCALL, Flags: unix.BPF_F_SLEEPABLE, Code: asm.Instructions{
		asm.LoadMapValue(asm.R2, fd, 0),
		asm.LoadMem(asm.R0, asm.R2, 0, asm.DWord),
		asm.LoadMem(asm.R3, asm.R1, 0, asm.DWord),
		asm.Add.Reg(asm.R0, asm.R3),
		asm.StoreMem(asm.R1, 0, asm.R0, asm.DWord),
		asm.Return(),
	}})
	context := []byte{5, 0, 0, 0, 0, 0, 0, 0}
	got, err := Run(p, context, nil)
	if err != nil || got != 12 || context[0] != 12 {
		t.Errorf("got %d, %v in the context, %v", got, context, err)
	}
}

func TestAProgramGetsAPacketAndSharesMemory(t *testing.T) {
	fd, err := NewArray(4096, unix.BPF_F_MMAPABLE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	shared, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(shared)
	p := load(t, &Program{Name: "length", Type: unix.BPF_PROG_TYPE_XDP, Code: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), // xdp_md.data
		asm.LoadMem(asm.R0, asm.R1, 4, asm.Word), // xdp_md.data_end
		asm.Sub.Reg(asm.R0, asm.R2),
		asm.LoadMapValue(asm.R3, fd, 8),
		asm.StoreMem(asm.R3, 0, asm.R0, asm.DWord),
		asm.Return(),
	}})
	got, err := Run(p, nil, make([]byte, 100))
	if err != nil || got != 100 || binary.NativeEndian.Uint64(shared[8:]) != 100 {
		t.Errorf("got %d, %d in memory, %v", got, shared[8], err)
	}
}

// TestAQuestionIsAnswered asks where a member is that the kernel cannot do without, and about one that it does not have.
func TestAQuestionIsAnswered(t *testing.T) {
	b := NewBlob()
	b.Structure("hlist_nulls_node", Named("pprev", Pointer), Named("next", Pointer)) // in the kernel it is the other way round
	b.Structure("no_such_structure", Named("a", Int), Named("b", Int))
	code, relocs := b.Ask(nil, nil, Question{Kind: ByteOffset, Structure: "hlist_nulls_node", Way: []int{0}}, false, asm.R6)
	code, relocs = b.Ask(code, relocs, Question{Kind: ByteOffset, Structure: "no_such_structure", Way: []int{1}, Optional: true}, true, asm.R7)
	code, relocs = b.Ask(code, relocs, Question{Kind: Size, Structure: "hlist_nulls_node"}, false, asm.R8)
	code = append(code, asm.Mov.Reg(asm.R0, asm.R6), asm.LSh.Imm(asm.R0, 8), asm.Or.Reg(asm.R0, asm.R8), asm.Sub.Reg(asm.R0, asm.R7), asm.Return())
	p := load(t, &Program{Name: "ask", Type: unix.BPF_PROG_TYPE_SYSCALL, Flags: unix.BPF_F_SLEEPABLE, Code: code, Types: b, Functions: []Function{{Type: b.Function("ask")}}, Relocations: relocs})
	const pprev, size = 8, 16
	if got, err := Run(p, make([]byte, 8), nil); err != nil || got != pprev<<8|size-Absent {
		t.Errorf("got %#x, %v", got, err)
	}
}

func TestWhatTheVerifierRefusesIsNotSupported(t *testing.T) {
	p := Program{Name: "bad", Type: unix.BPF_PROG_TYPE_XDP, Code: asm.Instructions{asm.Return()}} // R0 holds nothing
	_, err := p.Load()
	if err == nil {
		t.Fatal("it was loaded")
	}
	if err := Explain("x", unix.EINVAL); !errors.Is(err, node.ErrNotSupported) || errors.Is(err, node.ErrPermission) {
		t.Errorf("got %v", err)
	}
	if err := Explain("x", unix.EPERM); errors.Is(err, node.ErrNotSupported) || !errors.Is(err, node.ErrPermission) {
		t.Errorf("got %v", err)
	}
}
