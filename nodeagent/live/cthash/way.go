//go:build linux

package cthash

import "github.com/cilium/ebpf/asm"

// pageSize is what the table begins at a multiple of: of a page, which may be larger.
const pageSize = 4096

// finder assembles the program that has the kernel find an anchor, follows the chain of its reply's node to the end, which is
// the number of the bucket, and goes back to the beginning, which lies in the table. It returns 1, or 0 when there is none.
func (r *Reader) finder(s sizes) []part {
	find := append(r.functions.lookup(r.answer, s), asm.JEq.Imm(asm.R0, 0, "not found"))
	find = append(find, r.replyNode(headNode)...)
	find = append(find, r.replyNode(headBack)...)
	find = append(find, asm.Mov.Imm(asm.R1, -1), asm.StoreMem(asm.R6, headWanted, asm.R1, asm.DWord))
	find = append(find, loop("follow")...)
	find = append(find,
		asm.LoadMem(asm.R1, asm.R6, headNode, asm.DWord),
		asm.RSh.Imm(asm.R1, 1),
		asm.LSh.Imm(asm.R1, 3),
		asm.StoreMem(asm.R6, headOffset, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.R6, headTable, asm.R1, asm.DWord))
	find = append(find, loop("back")...)
	find = append(find,
		asm.Mov.Imm(asm.R0, 1),
		asm.Return(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("not found"),
		asm.Return())
	return []part{{"find", find}, {"follow", r.follow()}, {"back", r.back()}}
}

// replyNode writes the address of the anchor's reply's node to a member of the head.
func (r *Reader) replyNode(to int16) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R1, asm.R6, headConn, asm.DWord),
		asm.Add.Imm(asm.R1, int32(r.layout.replyNode())),
		asm.StoreMem(asm.R6, to, asm.R1, asm.DWord),
	}
}

// follow is one step along a chain, to the wanted node or to the end.
func (r *Reader) follow() asm.Instructions {
	ins := asm.Instructions{
		asm.LoadMapValue(asm.R6, r.answer, 0),
		asm.LoadMem(asm.R1, asm.R6, headNode, asm.DWord),
		asm.LoadMem(asm.R2, asm.R6, headWanted, asm.DWord),
		asm.JEq.Reg(asm.R1, asm.R2, "follow end"),
		asm.JSet.Imm(asm.R1, 1, "follow end"),
		asm.JEq.Imm(asm.R1, 0, "follow end"),
		asm.Add.Imm(asm.R1, int32(r.layout.next)),
	}
	view, base, zero := r.functions.view(8)
	ins = append(ins, view...)
	return append(ins,
		asm.LoadMem(asm.R1, base, zero, asm.DWord),
		asm.StoreMem(asm.R6, headNode, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("follow end"),
		asm.Return())
}

// back is one step back along a chain, up to what may be in the table.
func (r *Reader) back() asm.Instructions {
	ins := asm.Instructions{
		asm.LoadMapValue(asm.R6, r.answer, 0),
		asm.LoadMem(asm.R1, asm.R6, headBack, asm.DWord),
		asm.Add.Imm(asm.R1, int32(r.layout.back)),
	}
	view, base, zero := r.functions.view(8)
	ins = append(ins, view...)
	return append(ins,
		asm.LoadMem(asm.R7, base, zero, asm.DWord),
		asm.JEq.Imm(asm.R7, 0, "back end"),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.LoadMem(asm.R2, asm.R6, headOffset, asm.DWord),
		asm.Sub.Reg(asm.R1, asm.R2),
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.And.Imm(asm.R2, pageSize-1),
		asm.JEq.Imm(asm.R2, 0, "back found"),
		asm.Sub.Imm(asm.R7, int32(r.layout.next)), // it points to another's next
		asm.StoreMem(asm.R6, headBack, asm.R7, asm.DWord),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
		asm.StoreMem(asm.R6, headTable, asm.R1, asm.DWord).WithSymbol("back found"),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("back end"),
		asm.Return())
}
