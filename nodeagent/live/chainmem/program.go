//go:build linux

package chainmem

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/bpf"
)

// piece is how many bytes one run of the program copies at most.
const piece = 64 << 10

// The one element of the array map that the program answers in: what it was asked about the layout, and what it copied.
const (
	maxQuestions = 64
	answersAt    = 0
	dataAt       = 4 * maxQuestions
	sharedSize   = dataAt + piece
)

// The program's context.
const (
	ctxAddress = 0  // where to read; 0 asks for the layout
	ctxLength  = 8  // how much
	ctxResult  = 16 // what the helper returned
	ctxSize    = 24
)

// program assembles the program, which answers in an array map.
func program(b *bpf.Blob, questions []bpf.Question, shared int) (asm.Instructions, []bpf.Relocation) {
	var relocs []bpf.Relocation
	ins := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMapValue(asm.R7, shared, 0),
		asm.LoadMem(asm.R3, asm.R6, ctxAddress, asm.DWord),
		asm.JNE.Imm(asm.R3, 0, "read"),
	}
	for i, q := range questions {
		ins, relocs = b.Ask(ins, relocs, q, false, asm.R2)
		ins = append(ins, asm.StoreMem(asm.R7, int16(answersAt+4*i), asm.R2, asm.Word))
	}
	return append(ins,
		asm.Ja.Label("out"),
		asm.Mov.Reg(asm.R1, asm.R7).WithSymbol("read"),
		asm.Add.Imm(asm.R1, dataAt),
		asm.LoadMem(asm.R2, asm.R6, ctxLength, asm.DWord),
		asm.JGT.Imm(asm.R2, piece, "out"),
		asm.FnProbeReadKernel.Call(),
		asm.StoreMem(asm.R6, ctxResult, asm.R0, asm.DWord),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
		asm.Return()), relocs
}

// load loads the program and has it tell the layout.
func (r *Reader) load() (err error) {
	if r.answer, err = bpf.NewArray(sharedSize, unix.BPF_F_MMAPABLE); err != nil {
		return fmt.Errorf("making a BPF map: %w", err)
	}
	if r.shared, err = unix.Mmap(r.answer, 0, sharedSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("mapping a BPF map: %w", err)
	}
	b, questions := describe(&r.layout)
	if len(questions) > maxQuestions {
		return fmt.Errorf("%d questions, at most %d can be answered", len(questions), maxQuestions)
	}
	p := bpf.Program{Name: "svctrace_rules", Type: unix.BPF_PROG_TYPE_SYSCALL, Flags: unix.BPF_F_SLEEPABLE, Types: b,
		Functions: []bpf.Function{{Type: b.Function("run")}}}
	p.Code, p.Relocations = program(b, questions, r.answer)
	if r.program, err = p.Load(); err != nil {
		return err
	}
	if _, err := bpf.Run(r.program, r.ctx, nil); err != nil {
		return err
	}
	for i, q := range questions {
		*q.Answer = int(int32(binary.NativeEndian.Uint32(r.shared[answersAt+4*i:])))
		if *q.Answer < 0 {
			return fmt.Errorf("%w: member %v of %s is at %d", ErrOdd, q.Way, q.Structure, *q.Answer)
		}
	}
	if l := &r.layout; l.verdictCode > immediateRegister-4 || l.verdictChain > immediateRegister-8 {
		return fmt.Errorf("%w: %+v", ErrOdd, *l)
	}
	return nil
}

// copied reads n bytes, at most a piece, which are valid until the next call.
func (r *Reader) copied(address uint64, n int) ([]byte, error) {
	binary.NativeEndian.PutUint64(r.ctx[ctxAddress:], address)
	binary.NativeEndian.PutUint64(r.ctx[ctxLength:], uint64(n))
	binary.NativeEndian.PutUint64(r.ctx[ctxResult:], 1<<63)
	if _, err := bpf.Run(r.program, r.ctx, nil); err != nil {
		return nil, err
	}
	r.count.Add(n)
	if binary.NativeEndian.Uint64(r.ctx[ctxResult:]) != 0 {
		return nil, fmt.Errorf("%w: %d bytes at %#x cannot be read", ErrOdd, n, address)
	}
	return r.shared[dataAt : dataAt+n], nil
}
