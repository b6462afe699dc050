//go:build linux

package kmem

import (
	"github.com/cilium/ebpf/asm"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/bpf"
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

// program assembles the program. format is an array map that holds "%ps". Guarded, it can be loaded though the kernel does not
// have what optional questions are about.
func program(b *bpf.Blob, questions []bpf.Question, format int, guarded bool) (asm.Instructions, []bpf.Relocation) {
	var relocs []bpf.Relocation
	ins := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1), asm.Mov.Imm(asm.R0, 0)}
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
		ins, relocs = b.Ask(ins, relocs, q, guarded, asm.R2)
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
