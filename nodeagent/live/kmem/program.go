//go:build linux

package kmem

import (
	"encoding/binary"

	"github.com/cilium/ebpf/asm"
)

// chunk is how many bytes one run of the program reads at most. They lie on its stack of 512 bytes: before Linux 6.1 no
// helper could write into the context.
const chunk = 128

// The program's context: what is asked, and the answer behind it.
const (
	ctxDo      = 0  // what to do: one of the do constants
	ctxAddress = 8  // where to read
	ctxLength  = 16 // how much
	ctxResult  = 24 // what the helper returned
	ctxTask    = 32 // the calling thread's struct task_struct
	ctxData    = 40 // what was read
	ctxSize    = ctxData + chunk
)

const (
	doDescribe = 0 // answer the questions, as 32-bit numbers
	doRead     = 1 // copy bytes
	doText     = 2 // copy a string up to its end
	doSymbol   = 3 // name the function at an address
)

// relocation is struct bpf_core_relo: before the kernel loads the program it writes its answer into an instruction.
type relocation struct {
	instruction, typ, access, kind uint32
}

// program assembles the program. format is an array map that holds "%ps". Guarded, it can be loaded though the kernel does not
// have what optional questions are about; each guard is one more question.
func program(b *blob, questions []question, format int, guarded bool) (asm.Instructions, []relocation) {
	var relocs []relocation
	ins := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1), asm.Mov.Imm(asm.R0, 0)}
	asked := func(q question, kind uint32, to asm.Register) {
		structure := b.structs[q.structure]
		access, offset, typ := b.find(structure, q.way...)
		relocs = append(relocs, relocation{uint32(asm.InstructionSize * length(ins)), structure, b.name(access), kind})
		// The kernel wants to find what is true of the blob.
		value := int32(1)
		switch kind {
		case reloByteOffset:
			value = int32(offset)
		case reloTypeSize:
			value = int32(b.size[typ])
		case reloLeft, reloRight:
			value = 64 - 8*int32(b.size[typ])
		}
		ins = append(ins, asm.Mov.Imm(to, value))
	}
	const buffer, argument = -chunk, -chunk - 8
	for at := int16(buffer); at < 0; at += 8 {
		ins = append(ins, asm.StoreMem(asm.RFP, at, asm.R0, asm.DWord))
	}
	ins = append(ins,
		asm.LoadMem(asm.R7, asm.R6, ctxDo, asm.DWord),
		asm.JEq.Imm(asm.R7, doRead, "read"),
		asm.JEq.Imm(asm.R7, doText, "read"),
		asm.JEq.Imm(asm.R7, doSymbol, "symbol"),
		asm.FnGetCurrentTask.Call(),
		asm.StoreMem(asm.R6, ctxTask, asm.R0, asm.DWord),
	)
	for i, q := range questions {
		if q.optional && guarded {
			// The kernel turns an instruction that asks for what it does not have into one that must not be reached.
			ins = append(ins, asm.Mov.Imm(asm.R2, Absent))
			asked(q, reloExists, asm.R1)
			ins = append(ins, asm.Instruction{OpCode: asm.JEq.Op(asm.ImmSource), Dst: asm.R1, Offset: 1})
		}
		asked(q, q.kind, asm.R2)
		ins = append(ins, asm.StoreMem(asm.R6, int16(ctxData+4*i), asm.R2, asm.Word))
	}
	ins = append(ins,
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),

		asm.Mov.Reg(asm.R1, asm.RFP).WithSymbol("read"),
		asm.Add.Imm(asm.R1, buffer),
		asm.LoadMem(asm.R2, asm.R6, ctxLength, asm.DWord),
		asm.JGT.Imm(asm.R2, chunk, "out"),
		asm.LoadMem(asm.R3, asm.R6, ctxAddress, asm.DWord),
		asm.JEq.Imm(asm.R7, doText, "text"),
		asm.FnProbeReadKernel.Call(),
		asm.Ja.Label("answer"),
		asm.FnProbeReadKernelStr.Call().WithSymbol("text"),
		asm.Ja.Label("answer"),

		asm.LoadMem(asm.R1, asm.R6, ctxAddress, asm.DWord).WithSymbol("symbol"),
		asm.StoreMem(asm.RFP, argument, asm.R1, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, buffer),
		asm.Mov.Imm(asm.R2, chunk),
		asm.LoadMapValue(asm.R3, format, 0),
		asm.Mov.Reg(asm.R4, asm.RFP),
		asm.Add.Imm(asm.R4, argument),
		asm.Mov.Imm(asm.R5, 8),
		asm.FnSnprintf.Call(),

		asm.StoreMem(asm.R6, ctxResult, asm.R0, asm.DWord).WithSymbol("answer"),
	)
	for at := int16(0); at < chunk; at += 8 {
		ins = append(ins,
			asm.LoadMem(asm.R1, asm.RFP, buffer+at, asm.DWord),
			asm.StoreMem(asm.R6, ctxData+at, asm.R1, asm.DWord))
	}
	return append(ins, asm.Mov.Imm(asm.R0, 0).WithSymbol("out"), asm.Return()), relocs
}

// length counts instructions as the kernel does: a load of 64 bits takes two.
func length(ins asm.Instructions) int {
	n := 0
	for _, i := range ins {
		n++
		if i.OpCode.IsDWordLoad() {
			n++
		}
	}
	return n
}

func encode(rs []relocation) []byte {
	var out []byte
	for _, r := range rs {
		for _, v := range []uint32{r.instruction, r.typ, r.access, r.kind} {
			out = binary.NativeEndian.AppendUint32(out, v)
		}
	}
	return out
}
