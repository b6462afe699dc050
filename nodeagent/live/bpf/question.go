//go:build linux

package bpf

import (
	"encoding/binary"

	"github.com/cilium/ebpf/asm"
)

// Kinds of questions (enum bpf_core_relo_kind, include/uapi/linux/bpf.h).
const (
	ByteOffset = 0 // where a member is
	exists     = 2
	Left       = 4 // by how much to shift eight bytes to the left, then to the right, to have the value of a bit field
	Right      = 5
	Size       = 9 // of a structure
)

// Absent is the answer about what the running kernel does not have, or has in a module that is not loaded.
const Absent = -1

// Question is one number that the kernel is asked for.
type Question struct {
	// Answer is where it is to be written.
	Answer *int
	Kind   uint32
	// Structure and Way, the place of each member in the one before, are what it is about.
	Structure string
	Way       []int
	// Optional questions may be about what is not there. The others make the program unloadable.
	Optional bool
}

// Relocation is struct bpf_core_relo: before the kernel loads the program it writes its answer into an instruction.
type Relocation struct {
	instruction, typ, access, kind uint32
}

// Ask appends an instruction that the kernel changes so that it moves the answer to a question into a register. Guarded, it
// may be about what is not there; each guard is one more question.
func (b *Blob) Ask(ins asm.Instructions, relocs []Relocation, q Question, guarded bool, to asm.Register) (asm.Instructions, []Relocation) {
	asked := func(kind uint32, to asm.Register) {
		structure := b.structs[q.Structure]
		access, offset, typ := b.find(structure, q.Way...)
		relocs = append(relocs, Relocation{uint32(asm.InstructionSize * Length(ins)), structure, b.name(access), kind})
		// The kernel wants to find what is true of the blob.
		value := int32(1)
		switch kind {
		case ByteOffset:
			value = int32(offset)
		case Size:
			value = int32(b.size[typ])
		case Left, Right:
			value = 64 - 8*int32(b.size[typ])
		}
		ins = append(ins, asm.Mov.Imm(to, value))
	}
	if q.Optional && guarded {
		// The kernel turns an instruction that asks for what it does not have into one that must not be reached.
		ins = append(ins, asm.Mov.Imm(to, Absent))
		asked(exists, asm.R1)
		ins = append(ins, asm.Instruction{OpCode: asm.JEq.Op(asm.ImmSource), Dst: asm.R1, Offset: 1})
	}
	asked(q.Kind, to)
	return ins, relocs
}

// Length counts instructions as the kernel does: a load of 64 bits takes two.
func Length(ins asm.Instructions) int {
	n := 0
	for _, i := range ins {
		n++
		if i.OpCode.IsDWordLoad() {
			n++
		}
	}
	return n
}

func encode(rs []Relocation) []byte {
	var out []byte
	for _, r := range rs {
		for _, v := range []uint32{r.instruction, r.typ, r.access, r.kind} {
			out = binary.NativeEndian.AppendUint32(out, v)
		}
	}
	return out
}
