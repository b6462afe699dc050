//go:build linux

// Package kmem reads structures of the running kernel that no interface tells, where BPF is allowed.
//
// It has one small BPF program that copies bytes of the kernel's memory to its caller when it is called (a program of type
// syscall). Where members lie the kernel tells itself: when it loads the program it answers relocations ("CO-RE") from its
// own types, those of modules included. So nothing of the kernel's BTF is read here, which has some megabytes.
package kmem

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/bpf"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
)

// ErrFault is in the chain of errors about an address that is not readable.
var ErrFault = errors.New("no readable kernel memory")

// Reader reads kernel memory. It attaches to nothing, and is not safe for concurrent use.
type Reader struct {
	// Layout tells where things are.
	Layout Layout

	program int
	ctx     []byte
	count   *nlsock.Counter
}

// Open loads the program; count, which may be nil, counts its runs. It returns node.ErrPermission in the chain without
// CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN), and node.ErrNotSupported where the kernel is too old (relocations came with
// Linux 5.17), has no BTF, or is locked down.
func Open(count *nlsock.Counter) (*Reader, error) {
	r := &Reader{program: -1, ctx: make([]byte, ctxSize), count: count}
	if err := r.open(); err != nil {
		return nil, bpf.Explain("kernel memory", err)
	}
	return r, nil
}

func (r *Reader) open() error {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		return errors.New("the machine is not little-endian")
	}
	b, questions := describe(&r.Layout)
	return r.load(b, questions)
}

// load loads the program and has it answer the questions. Most kernels have all that is asked for, so that the program
// without guards is tried first: each question costs some microseconds.
func (r *Reader) load(b *bpf.Blob, questions []bpf.Question) error {
	if len(questions) > maxQuestions {
		return fmt.Errorf("%d questions, at most %d can be answered", len(questions), maxQuestions)
	}
	function := b.Function("run")
	format, err := bpf.NewConstant([]byte("%ps\x00\x00\x00\x00\x00"))
	if err != nil {
		return fmt.Errorf("making a BPF map: %w", err)
	}
	defer unix.Close(format)
	p := bpf.Program{Name: "svctrace_read", Type: unix.BPF_PROG_TYPE_SYSCALL, Flags: unix.BPF_F_SLEEPABLE, Types: b, Functions: []bpf.Function{{Type: function}}}
	p.Code, p.Relocations = program(b, questions, format, false)
	fd, err := p.Load()
	if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
		p.Code, p.Relocations = program(b, questions, format, true)
		fd, err = p.Load()
	}
	if err != nil {
		return err
	}
	r.program = fd
	if err := r.run(doDescribe, 0, 4*len(questions)); err != nil {
		return errors.Join(err, r.Close())
	}
	for i, q := range questions {
		*q.Answer = int(int32(binary.NativeEndian.Uint32(r.ctx[ctxData+4*i:])))
	}
	return nil
}

// maxQuestions is how many answers there is room for.
const maxQuestions = chunk / 4

// Ask has the kernel answer questions about its structures. Its errors are those of Open.
func Ask(b *bpf.Blob, questions []bpf.Question) error {
	r := &Reader{program: -1, ctx: make([]byte, ctxSize)}
	if err := r.load(b, questions); err != nil {
		return bpf.Explain("the layout of the kernel's structures", err)
	}
	return r.Close()
}

// Close unloads the program.
func (r *Reader) Close() error { return unix.Close(r.program) }

// run runs the program in the calling thread. length is the room for the answer.
func (r *Reader) run(do, address uint64, length int) error {
	binary.NativeEndian.PutUint64(r.ctx[ctxDo:], do)
	binary.NativeEndian.PutUint64(r.ctx[ctxAddress:], address)
	binary.NativeEndian.PutUint64(r.ctx[ctxLength:], uint64(length))
	binary.NativeEndian.PutUint64(r.ctx[ctxResult:], 1<<63)
	if _, err := bpf.Run(r.program, r.ctx, nil); err != nil {
		return err
	}
	r.count.Add(length)
	return nil
}

// result is what the helper returned in the last run: for most a length, below 0 an error.
func (r *Reader) result() int64 { return int64(binary.NativeEndian.Uint64(r.ctx[ctxResult:])) }

// Task returns the address of the calling thread's struct task_struct.
func (r *Reader) Task() (uint64, error) {
	err := r.run(doDescribe, 0, 8)
	return binary.NativeEndian.Uint64(r.ctx[ctxTask:]), err
}

// Bytes fills b from an address on.
func (r *Reader) Bytes(address uint64, b []byte) error {
	for len(b) > 0 {
		n := min(len(b), chunk)
		if err := r.run(doRead, address, n); err != nil {
			return err
		}
		if e := r.result(); e != 0 {
			return fmt.Errorf("%d bytes at %#x: %w", n, address, ErrFault)
		}
		copy(b, r.ctx[ctxData:ctxData+n])
		b, address = b[n:], address+uint64(n)
	}
	return nil
}

// Pointer reads a pointer.
func (r *Reader) Pointer(address uint64) (uint64, error) {
	var b [8]byte
	err := r.Bytes(address, b[:])
	return binary.NativeEndian.Uint64(b[:]), err
}

// maxText bounds a string, in bytes.
const maxText = 4 * chunk

// Text reads a string up to its zero byte.
func (r *Reader) Text(address uint64) (string, error) {
	var out []byte
	for len(out) < maxText {
		if err := r.run(doText, address, chunk); err != nil {
			return "", err
		}
		n := r.result()
		if n < 1 || n > chunk {
			return "", fmt.Errorf("a string at %#x: %w", address, ErrFault)
		}
		// The helper writes a zero byte at the end, in place of what it has no room for.
		out, address = append(out, r.ctx[ctxData:ctxData+n-1]...), address+uint64(n)-1
		if n < chunk {
			return string(out), nil
		}
	}
	return "", fmt.Errorf("a string at %#x has more than %d bytes", address, maxText)
}

// Symbol names the function at an address as the kernel prints it: "nf_confirm", "ip_vs_out_hook [ip_vs]" for one of a
// module, and the address in hexadecimal when it has no name.
func (r *Reader) Symbol(address uint64) (string, error) {
	if err := r.run(doSymbol, address, chunk); err != nil {
		return "", err
	}
	n := r.result()
	if n < 1 || n > chunk {
		return "", fmt.Errorf("the name of the function at %#x has %d bytes", address, n)
	}
	return string(r.ctx[ctxData : ctxData+n-1]), nil
}
