//go:build linux

package cthash

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf/asm"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/bpf"
)

// The one element of the array map that programs work on: a head, the state of a walk, and behind it the addresses of the
// entries' nodes that were found.
//
// The state is kept there, and not on the program's stack, because the verifier knows nothing about it there: it would
// follow all that it knows.
const (
	headRounds  = 0   // how many rounds a run took
	headConn    = 8   // an anchor: its struct nf_conn,
	headTuple   = 16  // its tuple, as the kernel's function takes it,
	headOptions = 56  // with its options
	headNode    = 72  // where a way along a chain is,
	headWanted  = 80  // and the node that it goes to
	headBack    = 88  // where a way back along a chain is,
	headOffset  = 96  // how far behind the table's beginning the chain begins,
	headTable   = 104 // and the table's beginning
	stateAt     = 112
	foundAt     = stateAt + stateSize
	foundSize   = 8
	answerSize  = foundAt + maxFound*foundSize
)

// What stateCode says.
const (
	codeFine  = iota
	codeOdd   // a chain did not come to its own end
	codeMany  // there is no room for what was found
	codeMoved // the anchor is not where it should be
)

// maxFound bounds how many entries are found. With more of them it is quicker to have the kernel send all.
const maxFound = 16 << 10

// lanes is how many chains are walked at the same time: most of the time goes into waiting for memory, which a processor
// does for several reads at once.
const lanes = 8

// maxRounds bounds a run, which holds its processor, to about a millisecond; most take less than half of that. In each round
// every lane takes one step.
const maxRounds = 4 << 10

// maxRetries bounds the walks through chains again in one run.
const maxRetries = 1000

// The state of a walk. For each lane: the address that was read last, of a node, or what a chain ends with, 0 for a lane that
// has no chain any more; and the chain's number.
const (
	stateNode    = 0
	stateBucket  = 8
	stateLane    = 16
	stateNext    = lanes * stateLane // the next chain to begin
	stateEnd     = stateNext + 8     // the one not to begin
	stateCount   = stateNext + 16    // how many entries were found
	stateRetries = stateNext + 24    // how many chains were walked again
	stateIdle    = stateNext + 32    // lanes without a chain
	stateCode    = stateNext + 40    // how it went
	stateSize    = stateNext + 48
)

// begin writes the state in which a run begins: all lanes at the end of a chain.
func begin(state []byte, first, end, count int) {
	clear(state[:stateSize])
	put := binary.NativeEndian.PutUint64
	for i := range lanes {
		put(state[i*stateLane+stateNode:], 1)
	}
	put(state[stateNext:], uint64(first))
	put(state[stateEnd:], uint64(end))
	put(state[stateCount:], uint64(count))
}

// part is one function of a program.
type part struct {
	name string
	code asm.Instructions
}

// walker assembles the program that walks through chains and notes the nodes that may be asked for.
//
// It is of type XDP, which the kernel runs in an RCU read-side section (bpf_test_run), and is attached to no device.
func (r *Reader) walker(t table, f Filter) *bpf.Program { return r.guarded(t, r.step(t.address, f)) }

// guarded is a program that takes steps, between two looks at the table: the kernel finds the anchor, and it is in the table.
func (r *Reader) guarded(t table, step asm.Instructions) *bpf.Program {
	main := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMapValue(asm.R7, r.answer, 0),
		asm.Call.Label("anchored"),
		asm.JNE.Imm(asm.R0, 0, "failed"),
	}
	main = append(main, rounds()...)
	main = append(main,
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Call.Label("anchored"),
		asm.JEq.Imm(asm.R0, 0, "done"),
		asm.Mov.Imm(asm.R1, codeMoved).WithSymbol("failed"),
		asm.StoreMem(asm.R7, stateAt+stateCode, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("done"),
		asm.Return())
	return r.functions.assemble("svctrace_walk", part{"walk", main}, part{"anchored", r.anchored(t)}, part{"follow", r.follow()}, part{"step", step})
}

// rounds walks, with the address of the element of the array map in R7.
func rounds() asm.Instructions {
	return append(loop("step"), asm.StoreMem(asm.R7, headRounds, asm.R0, asm.DWord))
}

// step is one round.
func (r *Reader) step(table uint64, f Filter) asm.Instructions {
	ins := asm.Instructions{asm.LoadMapValue(asm.R6, r.answer, stateAt)}
	for i := range lanes {
		ins = append(ins, r.lane(i, table, f)...)
	}
	return append(ins,
		asm.LoadMem(asm.R1, asm.R6, stateIdle, asm.DWord),
		asm.JGE.Imm(asm.R1, lanes, "stop"),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
		asm.Mov.Imm(asm.R1, codeOdd).WithSymbol("odd"),
		asm.Ja.Label("code"),
		asm.Mov.Imm(asm.R1, codeMany).WithSymbol("many"),
		asm.StoreMem(asm.R6, stateCode, asm.R1, asm.DWord).WithSymbol("code"),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("stop"),
		asm.Return())
}

// loop calls one of the program's functions until it returns 1, up to maxRounds times. How often is in R0 then.
func loop(function string) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm(asm.R1, maxRounds),
		asm.Instruction{OpCode: asm.LoadImmOp(asm.DWord), Dst: asm.R2, Src: asm.PseudoFunc, Constant: -1}.WithReference(function),
		asm.Mov.Imm(asm.R3, 0),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnLoop.Call(),
	}
}

// anchored returns 0 when the kernel finds the anchor, and the node of its reply is in its chain of the table.
func (r *Reader) anchored(t table) asm.Instructions {
	ins := append(r.functions.lookup(r.answer, t.anchor), asm.JEq.Imm(asm.R0, 0, "not anchored"))
	ins = append(ins, r.replyNode(headWanted)...)
	ins = append(ins, asm.LoadImm(asm.R1, int64(t.address+8*uint64(t.bucket)), asm.DWord))
	view, base, zero := r.functions.view(8)
	ins = append(ins, view...)
	ins = append(ins, asm.LoadMem(asm.R1, base, zero, asm.DWord), asm.StoreMem(asm.R6, headNode, asm.R1, asm.DWord))
	ins = append(ins, loop("follow")...)
	return append(ins,
		asm.LoadMem(asm.R1, asm.R6, headNode, asm.DWord),
		asm.LoadMem(asm.R2, asm.R6, headWanted, asm.DWord),
		asm.JNE.Reg(asm.R1, asm.R2, "not anchored"),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("not anchored"),
		asm.Return())
}

// lane is what a round does for one lane: a look at a node, or the way to the next chain.
func (r *Reader) lane(i int, table uint64, f Filter) asm.Instructions {
	l := r.layout
	node, bucket := int16(i*stateLane+stateNode), int16(i*stateLane+stateBucket)
	label := func(s string) string { return fmt.Sprintf("%s %d", s, i) }
	ins := asm.Instructions{
		asm.LoadMem(asm.R8, asm.R6, node, asm.DWord),
		asm.JEq.Imm(asm.R8, 0, label("out")),
		asm.JSet.Imm(asm.R8, 1, label("end")),
		asm.Mov.Reg(asm.R1, asm.R8),
		asm.Sub.Imm(asm.R1, int32(l.node)),
	}
	view, base, zero := r.functions.view(l.size)
	ins = append(ins, view...)
	tuple := zero + int16(l.tuple)
	ins = append(ins,
		asm.LoadMem(asm.R1, base, zero+int16(l.node+l.next), asm.DWord),
		asm.JEq.Imm(asm.R1, 0, label("again")), // what cannot be read is 0
		asm.StoreMem(asm.R6, node, asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, base, tuple+int16(l.dstPort), asm.Word))
	if f.Port == 0 {
		ins = append(ins, asm.RSh.Imm(asm.R1, 16), asm.JNE.Imm(asm.R1, int32(f.Protocol), label("out")))
	} else {
		// Port, protocol and direction, the original one being 0.
		word := binary.NativeEndian.Uint32([]byte{byte(f.Port >> 8), byte(f.Port), f.Protocol, 0})
		ins = append(ins, asm.JNE.Imm32(asm.R1, int32(word), label("out")))
	}
	// Addresses differ at their ends. The whole is compared later.
	end := int16(0)
	if f.Addresses[0].Is6() {
		end = 12
	}
	ins = append(ins, asm.LoadMem(asm.R1, base, tuple+int16(l.dst)+end, asm.Word))
	for _, a := range f.Addresses {
		word := binary.NativeEndian.Uint32(a.AsSlice()[end:])
		ins = append(ins, asm.JEq.Imm32(asm.R1, int32(word), label("found")))
	}
	ins = append(ins,
		asm.Ja.Label(label("out")),
		asm.LoadMem(asm.R1, asm.R6, stateCount, asm.DWord).WithSymbol(label("found")),
		asm.JGE.Imm(asm.R1, maxFound, "many"),
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.Add.Imm(asm.R2, 1),
		asm.StoreMem(asm.R6, stateCount, asm.R2, asm.DWord),
		asm.LSh.Imm(asm.R1, 3),
		asm.LoadMapValue(asm.R2, r.answer, foundAt),
		asm.Add.Reg(asm.R2, asm.R1),
		asm.StoreMem(asm.R2, 0, asm.R8, asm.DWord),
		asm.Ja.Label(label("out")),

		// What a chain ends with tells which it was. An entry that was moved to another while it was looked at leads away.
		asm.LoadMem(asm.R1, asm.R6, bucket, asm.DWord).WithSymbol(label("end")),
		asm.LSh.Imm(asm.R1, 1),
		asm.Or.Imm(asm.R1, 1),
		asm.JNE.Reg(asm.R1, asm.R8, label("again")),
		asm.LoadMem(asm.R7, asm.R6, stateNext, asm.DWord),
		asm.LoadMem(asm.R2, asm.R6, stateEnd, asm.DWord),
		asm.JGE.Reg(asm.R7, asm.R2, label("idle")),
		asm.StoreMem(asm.R6, bucket, asm.R7, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R6, stateNext, asm.R1, asm.DWord),

		asm.LSh.Imm(asm.R7, 3).WithSymbol(label("begin")),
		asm.LoadImm(asm.R1, int64(table), asm.DWord),
		asm.Add.Reg(asm.R1, asm.R7))
	view, base, zero = r.functions.view(8)
	ins = append(ins, view...)
	return append(ins,
		asm.LoadMem(asm.R1, base, zero, asm.DWord),
		asm.JEq.Imm(asm.R1, 0, "odd"),
		asm.StoreMem(asm.R6, node, asm.R1, asm.DWord),
		asm.Ja.Label(label("out")),

		asm.LoadMem(asm.R1, asm.R6, stateRetries, asm.DWord).WithSymbol(label("again")),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R6, stateRetries, asm.R1, asm.DWord),
		asm.JGT.Imm(asm.R1, maxRetries, "odd"),
		asm.LoadMem(asm.R7, asm.R6, bucket, asm.DWord),
		asm.Ja.Label(label("begin")),

		asm.Mov.Imm(asm.R1, 0).WithSymbol(label("idle")),
		asm.StoreMem(asm.R6, node, asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, asm.R6, stateIdle, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R6, stateIdle, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R1, 0).WithSymbol(label("out")),
	)
}

// view makes memory at the address in R1 readable at a register and an offset; what cannot be read is 0 there.
func (f conntrackFunctions) view(size int) (ins asm.Instructions, base asm.Register, offset int16) {
	if f.cast != 0 && f.plain != 0 {
		// A load that faults gives 0. The verifier is told that there is a string.
		return asm.Instructions{asm.Mov.Imm(asm.R2, int32(f.plain)), call(f.cast, 0)}, asm.R0, 0
	}
	offset = -maxSize
	return asm.Instructions{
		asm.Mov.Reg(asm.R3, asm.R1),
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, int32(offset)),
		asm.Mov.Imm(asm.R2, int32(size)),
		asm.FnProbeReadKernel.Call(),
	}, asm.RFP, offset
}
