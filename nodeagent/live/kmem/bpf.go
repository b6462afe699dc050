//go:build linux

package kmem

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"unsafe"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// attr is a union bpf_attr of bpf(2), with the memory that it points to.
type attr struct {
	fields []byte
	pinned runtime.Pinner
}

func newAttr(size int) *attr { return &attr{fields: make([]byte, size)} }

func (a *attr) u32(off int, v int) { binary.NativeEndian.PutUint32(a.fields[off:], uint32(v)) }

func (a *attr) bytes(off int, b []byte) {
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

// formatMap makes a map of one element, "%ps", that the verifier takes for a constant.
func formatMap() (fd int, err error) {
	const valueSize = 8
	a := newAttr(20)
	a.u32(0, unix.BPF_MAP_TYPE_ARRAY)
	a.u32(4, 4)
	a.u32(8, valueSize)
	a.u32(12, 1)
	a.u32(16, unix.BPF_F_RDONLY_PROG)
	if fd, err = a.do(unix.BPF_MAP_CREATE); err != nil {
		return -1, err
	}
	a = newAttr(32)
	a.u32(0, fd)
	a.bytes(8, make([]byte, 4))
	a.bytes(16, []byte("%ps\x00\x00\x00\x00\x00"))
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

// load loads the program. btf describes it, and what its relocations ask for.
func load(ins asm.Instructions, btf, function int, relocs []relocation) (int, error) {
	var code bytes.Buffer
	if err := ins.Marshal(&code, binary.LittleEndian); err != nil {
		return -1, err
	}
	// struct bpf_func_info. Without one the kernel does not look at relocations.
	info := binary.NativeEndian.AppendUint32(make([]byte, 4), uint32(function))
	a := newAttr(140)
	a.u32(0, unix.BPF_PROG_TYPE_SYSCALL)
	a.u32(4, code.Len()/asm.InstructionSize)
	a.bytes(8, code.Bytes())
	a.bytes(16, []byte("GPL\x00"))
	a.u32(44, unix.BPF_F_SLEEPABLE)
	copy(a.fields[48:], "svctrace_read")
	a.u32(72, btf)
	a.u32(76, len(info))
	a.bytes(80, info)
	a.u32(88, 1)
	a.u32(116, len(relocs))
	a.bytes(128, encode(relocs))
	a.u32(136, 16)
	return a.do(unix.BPF_PROG_LOAD)
}
