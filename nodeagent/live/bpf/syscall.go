//go:build linux

// Package bpf loads small BPF programs, assembled by hand, and runs them when they are called: they are attached to
// nothing. What such a program has to know of the kernel's structures the kernel tells itself: it answers the questions
// (relocations, "CO-RE") that come with a program from its own types, those of modules included.
package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// attr is a union bpf_attr of bpf(2), with the memory that it points to.
type attr struct {
	fields []byte
	pinned runtime.Pinner
}

func newAttr(size int) *attr { return &attr{fields: make([]byte, size)} }

func (a *attr) u32(off int, v int) { binary.NativeEndian.PutUint32(a.fields[off:], uint32(v)) }

func (a *attr) bytes(off int, b []byte) {
	if len(b) == 0 {
		return
	}
	a.pinned.Pin(&b[0])
	binary.NativeEndian.PutUint64(a.fields[off:], uint64(uintptr(unsafe.Pointer(&b[0]))))
}

// do makes the system call and returns its result, a file descriptor for most commands.
func (a *attr) do(cmd int) (int, error) {
	defer a.pinned.Unpin()
	for range 10 {
		r, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(cmd), uintptr(unsafe.Pointer(&a.fields[0])), uintptr(len(a.fields)))
		if errno == 0 {
			return int(r), nil
		}
		// The verifier gives up with EAGAIN, a run with EINTR, when a signal comes: Go sends some to its own threads.
		if errno != unix.EAGAIN && errno != unix.EINTR {
			return -1, errno
		}
	}
	return -1, unix.EAGAIN
}

// NewArray makes an array map of one element of so many bytes and returns its file descriptor. flags are BPF_F_ constants.
func NewArray(size, flags int) (fd int, err error) {
	a := newAttr(20)
	a.u32(0, unix.BPF_MAP_TYPE_ARRAY)
	a.u32(4, 4)
	a.u32(8, size)
	a.u32(12, 1)
	a.u32(16, flags)
	return a.do(unix.BPF_MAP_CREATE)
}

// NewConstant makes an array map of one element that the verifier takes for a constant.
func NewConstant(value []byte) (fd int, err error) {
	if fd, err = NewArray(len(value), unix.BPF_F_RDONLY_PROG); err != nil {
		return -1, err
	}
	a := newAttr(32)
	a.u32(0, fd)
	a.bytes(8, make([]byte, 4))
	a.bytes(16, value)
	if _, err = a.do(unix.BPF_MAP_UPDATE_ELEM); err == nil {
		a = newAttr(4)
		a.u32(0, fd)
		_, err = a.do(unix.BPF_MAP_FREEZE)
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func loadBTF(b []byte) (int, error) {
	a := newAttr(28)
	a.bytes(0, b)
	a.u32(16, len(b))
	return a.do(unix.BPF_BTF_LOAD)
}

// Function tells the kernel which type of a Blob describes the function that begins at an instruction.
type Function struct{ Instruction, Type uint32 }

// Program is what is loaded.
type Program struct {
	Name  string // up to 15 characters
	Type  int    // a BPF_PROG_TYPE_ constant
	Flags int    // BPF_F_ constants
	Code  asm.Instructions
	// Types describe the program: without any the kernel does not look at relocations, and a program cannot have
	// functions of its own. nil for a program that needs neither.
	Types       *Blob
	Functions   []Function
	Relocations []Relocation
	// Modules are file descriptors of the types of modules whose functions are called, by the place in the call.
	Modules []int
}

// Load loads the program and returns its file descriptor.
func (p *Program) Load() (fd int, err error) {
	var code bytes.Buffer
	if err := p.Code.Marshal(&code, binary.LittleEndian); err != nil {
		return -1, err
	}
	a := newAttr(140)
	a.u32(0, p.Type)
	a.u32(4, code.Len()/asm.InstructionSize)
	a.bytes(8, code.Bytes())
	a.bytes(16, []byte("GPL\x00"))
	a.u32(44, p.Flags)
	copy(a.fields[48:63], p.Name)
	if p.Types != nil {
		btf, err := loadBTF(p.Types.bytes())
		if err != nil {
			return -1, fmt.Errorf("loading BTF: %w", err)
		}
		defer unix.Close(btf)
		var info []byte // struct bpf_func_info
		for _, f := range p.Functions {
			info = binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(info, f.Instruction), f.Type)
		}
		a.u32(72, btf)
		a.u32(76, 8)
		a.bytes(80, info)
		a.u32(88, len(p.Functions))
		a.u32(116, len(p.Relocations))
		a.bytes(128, encode(p.Relocations))
		a.u32(136, 16)
	}
	if p.Modules != nil {
		fds := make([]byte, 4) // the first place is that of the kernel itself
		for _, m := range p.Modules {
			fds = binary.NativeEndian.AppendUint32(fds, uint32(m))
		}
		a.bytes(120, fds)
	}
	if fd, err = a.do(unix.BPF_PROG_LOAD); err != nil {
		return -1, fmt.Errorf("loading a BPF program: %w", err)
	}
	return fd, nil
}

// Run runs a program in the calling thread. context is what the program gets, and may write to if it is of type syscall;
// data is the packet of a program that gets one. It returns what the program returned.
func Run(program int, context, data []byte) (uint32, error) {
	a := newAttr(80)
	a.u32(0, program)
	a.u32(8, len(data))
	a.bytes(16, data)
	a.u32(40, len(context))
	a.bytes(48, context)
	if _, err := a.do(unix.BPF_PROG_RUN); err != nil {
		return 0, fmt.Errorf("running a BPF program: %w", err)
	}
	return binary.NativeEndian.Uint32(a.fields[4:]), nil
}

// Explain makes an error of this package one that a caller decides on: node.ErrPermission is in its chain without
// CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN), and node.ErrNotSupported else.
func Explain(what string, err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return &node.ReadError{What: what, Needs: "CAP_BPF and CAP_PERFMON", Err: fmt.Errorf("%w: %w", node.ErrPermission, err)}
	}
	return &node.ReadError{What: what, Err: fmt.Errorf("%w: %w", node.ErrNotSupported, err)}
}
