//go:build linux

package cthash

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/bpf"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// The kernel's functions that programs of type XDP may call (net/netfilter/nf_conntrack_bpf.c, Linux 5.18).
const (
	lookupFunction  = "bpf_xdp_ct_lookup"
	releaseFunction = "bpf_ct_release"
)

// conntrackFunctions are the numbers of the two functions; module is a file descriptor of the types of nf_conntrack, -1
// where it is no module.
//
// The kernel itself has bpf_rdonly_cast since Linux 6.2, by which memory is read with less effort; cast is 0 elsewhere. plain
// is a structure that begins with some bytes, struct new_utsname with 65.
type conntrackFunctions struct {
	find, release, module int
	cast, plain           int
}

const typesDir = "/sys/kernel/btf/"

func findFunctions() (f conntrackFunctions, err error) {
	f.module = -1
	read := func(name string) (kernelTypes, error) {
		b, err := os.ReadFile(typesDir + name)
		if err != nil {
			return kernelTypes{}, err
		}
		return parseTypes(b)
	}
	kernel, err := read("vmlinux")
	if err != nil {
		return f, err
	}
	wanted := []wantedType{{kindFunction, lookupFunction}, {kindFunction, releaseFunction}, {kindFunction, "bpf_rdonly_cast"}, {kindStruct, "new_utsname"}}
	ids, count, err := findTypes(kernel, kernelTypes{}, 0, wanted)
	if err != nil {
		return f, err
	}
	f.cast, f.plain = ids[2], ids[3]
	if ids[0] == 0 {
		module, err := read("nf_conntrack")
		if err != nil {
			return f, err
		}
		if ids, _, err = findTypes(module, kernel, count, wanted[:2]); err != nil {
			return f, err
		}
		if ids[0] != 0 && ids[1] != 0 {
			if f.module, err = moduleTypes("nf_conntrack"); err != nil {
				return f, err
			}
		}
	}
	if ids[0] == 0 || ids[1] == 0 {
		return f, errors.New("the kernel has no " + lookupFunction)
	}
	f.find, f.release = ids[0], ids[1]
	return f, nil
}

// moduleTypes opens the types of a module, which takes CAP_SYS_ADMIN.
func moduleTypes(name string) (int, error) {
	h, err := btf.FindHandle(func(info *btf.HandleInfo) bool { return info.IsModule() && info.Name == name })
	if err != nil {
		return -1, err
	}
	defer h.Close()
	return unix.FcntlInt(uintptr(h.FD()), unix.F_DUPFD_CLOEXEC, 0)
}

// Options of a lookup, struct bpf_ct_opts: its network namespace (that of the packet's device), and whether there is a zone
// in it (6.11).
const (
	currentNamespace = -1
	sizeWithoutZone  = 12
	sizeWithZone     = 16
)

// call calls a function of the kernel, or of the module at a place among a program's modules.
func call(id int, module int16) asm.Instruction {
	return asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoKfuncCall, Constant: int64(id), Offset: module}
}

// assemble makes a program of its functions, the first of which is called first: of type XDP, which may call the kernel's
// functions, gets a packet without meaning, and is attached to no device.
func (f conntrackFunctions) assemble(name string, parts ...part) *bpf.Program {
	p := &bpf.Program{Name: name, Type: unix.BPF_PROG_TYPE_XDP, Types: bpf.NewBlob()}
	for _, x := range parts {
		p.Functions = append(p.Functions, bpf.Function{Instruction: uint32(bpf.Length(p.Code)), Type: p.Types.Function(x.name)})
		x.code[0] = x.code[0].WithSymbol(x.name)
		p.Code = append(p.Code, x.code...)
	}
	if f.module >= 0 {
		p.Modules = []int{f.module}
	}
	return p
}

// lookup has the kernel find the entry that a tuple belongs to, in the namespace of the calling thread. It takes the program's
// context in R1, and leaves 1 in R0, or 0 when there is none; in R6 the address of the element of the array map, and there
// that of the struct nf_conn.
func (f conntrackFunctions) lookup(answer int, s sizes) asm.Instructions {
	module := int16(0)
	if f.module >= 0 {
		module = 1
	}
	return asm.Instructions{
		asm.LoadMapValue(asm.R6, answer, 0),
		asm.Mov.Reg(asm.R2, asm.R6),
		asm.Add.Imm(asm.R2, headTuple),
		asm.Mov.Imm(asm.R3, int32(s.tuple)),
		asm.Mov.Reg(asm.R4, asm.R6),
		asm.Add.Imm(asm.R4, headOptions),
		asm.Mov.Imm(asm.R5, int32(s.options)),
		call(f.find, module),
		asm.Mov.Reg(asm.R1, asm.R0),
		asm.JEq.Imm(asm.R1, 0, "none"),
		asm.StoreMem(asm.R6, headConn, asm.R1, asm.DWord),
		call(f.release, module),
		asm.Mov.Imm(asm.R0, 1),
		asm.Ja.Label("looked"),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("none"),
		asm.Mov.Imm(asm.R1, 0).WithSymbol("looked"),
	}
}

// sizes are how large a tuple and the options of a lookup are.
type sizes struct{ tuple, options int }

// write writes an anchor's tuple and options where programs look for them.
func (k Key) write(shared []byte) sizes {
	tuple := slices.Concat(k.Tuple.Src.Addr().AsSlice(), k.Tuple.Dst.Addr().AsSlice())
	tuple = binary.BigEndian.AppendUint16(tuple, k.Tuple.Src.Port())
	tuple = binary.BigEndian.AppendUint16(tuple, k.Tuple.Dst.Port())
	options := make([]byte, sizeWithZone) // __s32 netns_id, error; __u8 l4proto, dir; __u16 ct_zone_id; __u8 ct_zone_dir
	none := int32(currentNamespace)
	binary.NativeEndian.PutUint32(options, uint32(none))
	options[8] = k.Tuple.Proto
	size := sizeWithoutZone
	if k.Zone != 0 {
		size = sizeWithZone
		binary.NativeEndian.PutUint16(options[10:], k.Zone)
		options[12] = 1<<0 | 1<<1 // NF_CT_DEFAULT_ZONE_DIR
	}
	copy(shared[headTuple:], tuple)
	copy(shared[headOptions:], options)
	return sizes{len(tuple), size}
}

// find has the kernel find an anchor in the calling thread's namespace, and returns where the table begins and in which of
// its buckets the anchor's reply is. found is false when there is no such entry, or it goes meanwhile.
func (r *Reader) find(k Key) (address uint64, bucket uint64, found bool, err error) {
	program, err := r.finderOf(k.write(r.shared))
	if err != nil {
		return 0, 0, false, err
	}
	got, err := bpf.Run(program, nil, packet())
	if err != nil {
		return 0, 0, false, err
	}
	r.count.Add(16)
	end, address := binary.NativeEndian.Uint64(r.shared[headNode:]), binary.NativeEndian.Uint64(r.shared[headTable:])
	return address, end >> 1, got != 0 && end&1 == 1 && address != 0, nil
}

// packet is what a program of type XDP gets.
func packet() []byte { return make([]byte, 64) }

// finderOf loads a finder, once.
func (r *Reader) finderOf(s sizes) (int, error) {
	if fd, ok := r.finders[s]; ok {
		return fd, nil
	}
	fd, err := r.functions.assemble("svctrace_find", r.finder(s)...).Load()
	if err != nil {
		return -1, fmt.Errorf("%s: %w", lookupFunction, err)
	}
	r.finders[s] = fd
	return fd, nil
}

// findable tells whether the kernel's function takes a tuple at all.
func findable(t skb.Tuple) bool { return t.Proto == skb.TCP || t.Proto == skb.UDP }
