package xtables

import (
	"fmt"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// bpfMax is XT_BPF_MAX_NUM_INSTR, the room for instructions in struct xt_bpf_info.
const bpfMax = 64

// Modes of struct xt_bpf_info_v1.
const (
	bpfBytecode = 0
	bpfPinned   = 1
)

// bpfProgram returns the classic BPF instructions of a match; ok is false when it holds none.
func bpfProgram(rev uint8, info []byte) (program []byte, ok bool) {
	if rev == 0 {
		return info[4 : 4+8*min(int(u16(info, 0)), bpfMax)], true
	}
	return info[8 : 8+8*min(int(u16(info, 2)), bpfMax)], u16(info, 0) == bpfBytecode
}

// matchBPF runs the program over what is known of the packet: a result of 0 is no match.
func matchBPF(c *call) (bool, error) {
	program, ok := bpfProgram(c.rev, c.info)
	if !ok {
		return c.ch.Unknown("bpf match with program "+cstring(c.info[8:8+8*bpfMax]), c.where()), nil
	}
	return c.decide(c.runBPF(program), fmt.Sprintf("bpf bytecode %s", bpfText(program))), nil
}

// Ancillary data offsets of include/uapi/linux/filter.h.
const (
	bpfAncillary = -0x1000
	bpfNetOffset = -0x100000
	bpfProto     = 0
	bpfPkttype   = 4
	bpfMark      = 20
)

// bpfWord is a 32-bit register of which some bits may not be known.
type bpfWord struct{ v, k uint32 }

func (w bpfWord) certain() bool { return w.k == ^uint32(0) }

// runBPF interprets classic BPF (Documentation/networking/filter.rst). Every jump is forward, so it ends.
func (c *call) runBPF(program []byte) tri {
	var a, x bpfWord
	a.k, x.k = ^uint32(0), ^uint32(0)
	var mem [16]bpfWord
	n := len(program) / 8
	for pc := 0; pc < n; pc++ {
		i := program[8*pc:]
		code, jt, jf, k := u16(i, 0), int(i[2]), int(i[3]), u32(i, 4)
		operand := bpfWord{k, ^uint32(0)}
		if code&8 != 0 {
			operand = x
		}
		switch code & 7 {
		case 0, 1: // BPF_LD, BPF_LDX
			w, in := c.bpfLoad(code, k, x, &mem)
			if in == no {
				return no // a load outside the packet ends the program with 0
			}
			if in == maybe {
				return maybe
			}
			if code&7 == 0 {
				a = w
			} else {
				x = w
			}
		case 2: // BPF_ST
			mem[k&15] = a
		case 3: // BPF_STX
			mem[k&15] = x
		case 4: // BPF_ALU
			w, ok := bpfALU(code, a, operand)
			if !ok {
				return no // division by zero
			}
			a = w
		case 5: // BPF_JMP
			if code&0xf0 == 0 {
				pc += int(min(k, bpfMax))
				continue
			}
			switch bpfCompare(code, a, operand) {
			case yes:
				pc += jt
			case no:
				pc += jf
			default:
				if jt != jf {
					return maybe
				}
				pc += jt
			}
		case 6: // BPF_RET
			result := bpfWord{k, ^uint32(0)}
			if code&0x18 == 0x10 {
				result = a
			}
			if result.v&result.k != 0 {
				return yes
			}
			if result.certain() {
				return no
			}
			return maybe
		case 7: // BPF_MISC
			if code&0xf8 == 0x80 {
				a = x
			} else {
				x = a
			}
		}
	}
	return no
}

// bpfLoad is BPF_LD and BPF_LDX; no means outside the packet.
func (c *call) bpfLoad(code uint16, k uint32, x bpfWord, mem *[16]bpfWord) (bpfWord, tri) {
	size := map[uint16]int{0: 4, 8: 2, 0x10: 1}[code&0x18]
	switch code & 0xe0 {
	case 0: // BPF_IMM
		return bpfWord{k, ^uint32(0)}, yes
	case 0x60: // BPF_MEM
		return mem[k&15], yes
	case 0x80: // BPF_LEN
		l := c.length()
		return bpfWord{uint32(l.value), uint32(l.known) | ^uint32(l.width)}, yes
	case 0xa0: // BPF_MSH: 4 * (the low 4 bits of a byte)
		w, in := c.bpfBytes(int64(int32(k)), 1)
		return bpfWord{(w.v & 15) << 2, (w.k&15)<<2 | ^uint32(0x3c)}, in
	case 0x40: // BPF_IND
		if !x.certain() {
			return bpfWord{}, maybe
		}
		return c.bpfBytes(int64(int32(k))+int64(int32(x.v)), size)
	}
	return c.bpfBytes(int64(int32(k)), size) // BPF_ABS
}

func (c *call) bpfBytes(off int64, size int) (bpfWord, tri) {
	switch {
	case off >= bpfAncillary && off < 0:
		switch off - bpfAncillary {
		case bpfProto:
			proto := uint32(0x0800)
			if c.family == skb.IPv6 {
				proto = 0x86dd
			}
			return bpfWord{proto, ^uint32(0)}, yes
		case bpfPkttype:
			return bpfWord{uint32(c.p.PktType), ^uint32(0)}, yes
		case bpfMark:
			return bpfWord{c.p.Mark, ^uint32(0)}, yes
		}
		return bpfWord{}, yes // not known, but there
	case off >= bpfNetOffset && off < bpfAncillary:
		off -= bpfNetOffset
	case off < 0:
		return bpfWord{}, maybe // the link layer header
	}
	if in := c.loaded(uint64(off), uint64(size)); in != yes {
		return bpfWord{}, in
	}
	n := numberOf(c.network(int(off), size))
	return bpfWord{uint32(n.value), uint32(n.known) | ^uint32(n.width)}, yes
}

// bpfALU is BPF_ALU; ok is false on division by zero. What is not known bit by bit becomes unknown as a whole.
func bpfALU(code uint16, a, b bpfWord) (w bpfWord, ok bool) {
	all := ^uint32(0)
	known := a.certain() && b.certain()
	switch code & 0xf0 {
	case 0x40: // or
		return bpfWord{a.v | b.v, a.k&b.k | a.k&a.v | b.k&b.v}, true
	case 0x50: // and
		return bpfWord{a.v & b.v, a.k&b.k | a.k&^a.v | b.k&^b.v}, true
	case 0xa0: // xor
		return bpfWord{a.v ^ b.v, a.k & b.k}, true
	case 0x60: // lsh
		if b.certain() {
			return bpfWord{a.v << (b.v & 31), a.k<<(b.v&31) | (1<<(b.v&31) - 1)}, true
		}
	case 0x70: // rsh
		if b.certain() {
			return bpfWord{a.v >> (b.v & 31), a.k>>(b.v&31) | ^(all >> (b.v & 31))}, true
		}
	case 0x00:
		return bpfWord{a.v + b.v, boolMask(known)}, true
	case 0x10:
		return bpfWord{a.v - b.v, boolMask(known)}, true
	case 0x20:
		return bpfWord{a.v * b.v, boolMask(known)}, true
	case 0x30, 0x90: // div, mod
		if b.certain() && b.v == 0 {
			return w, false
		}
		if known && code&0xf0 == 0x30 {
			return bpfWord{a.v / b.v, all}, true
		}
		if known {
			return bpfWord{a.v % b.v, all}, true
		}
	case 0x80: // neg
		return bpfWord{-a.v, boolMask(a.certain())}, true
	}
	return bpfWord{}, true
}

func boolMask(b bool) uint32 {
	if b {
		return ^uint32(0)
	}
	return 0
}

// bpfCompare is the condition of BPF_JMP.
func bpfCompare(code uint16, a, b bpfWord) tri {
	if code&0xf0 == 0x40 { // jset
		if a.v&b.v&a.k&b.k != 0 {
			return yes
		}
		if (^a.k|a.v)&(^b.k|b.v) == 0 {
			return no
		}
		return maybe
	}
	least, most := uint64(a.v&a.k), uint64(a.v&a.k|^a.k)
	if !b.certain() {
		if a.certain() && code&0xf0 == 0x10 && (a.v^b.v)&b.k != 0 {
			return no
		}
		return maybe
	}
	want := uint64(b.v)
	switch code & 0xf0 {
	case 0x10: // jeq
		if (a.v^b.v)&a.k != 0 {
			return no
		}
		if a.certain() {
			return yes
		}
		return maybe
	case 0x20: // jgt
		want++
		fallthrough
	case 0x30: // jge
		if least >= want {
			return yes
		}
		if most < want {
			return no
		}
	}
	return maybe
}

func bpfText(program []byte) string {
	parts := []string{fmt.Sprint(len(program) / 8)}
	for i := 0; i+8 <= len(program); i += 8 {
		parts = append(parts, fmt.Sprintf("%d %d %d %d", u16(program, i), program[i+2], program[i+3], u32(program, i+4)))
	}
	return `"` + strings.Join(parts, ",") + `"`
}

func textBPF(w *writer, info []byte) {
	if program, ok := bpfProgram(w.rev, info); ok {
		w.word("--bytecode", bpfText(program))
	} else if u16(info, 0) == bpfPinned {
		w.word("--object-pinned", cstring(info[8:8+8*bpfMax]))
	}
}
