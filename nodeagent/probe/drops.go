//go:build linux

package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// dropBuffer is the size of the ring buffer, in bytes; the kernel wants a power of two of pages.
const dropBuffer = 256 << 10

// drop is a packet that the kernel freed as dropped.
type drop struct {
	reason    uint32
	namespace uint32 // inode of the network namespace of its interface, 0 when it had none
	tuple     skb.Tuple
}

// drops watches the tracepoint skb:kfree_skb. Everything it has made goes with its file descriptors.
type drops struct {
	layout  skbLayout
	ports   *ebpf.Map
	events  *ebpf.Map
	program *ebpf.Program
	link    link.Link
	reader  *ringbuf.Reader
}

// watchDrops begins to watch packets of one protocol from or to ports.
func watchDrops(proto uint8, ports []uint16) (*drops, error) {
	d := &drops{}
	err := d.open(proto, ports)
	if err != nil {
		if errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w (needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN)", node.ErrPermission)
		}
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *drops) open(proto uint8, ports []uint16) error {
	var err error
	if d.layout, err = readLayout(); err != nil {
		return err
	}
	d.ports, err = ebpf.NewMap(&ebpf.MapSpec{Name: "svctrace_ports", Type: ebpf.Hash, KeySize: 2, ValueSize: 1, MaxEntries: uint32(len(ports))})
	if err != nil {
		return fmt.Errorf("making a map: %w", err)
	}
	for _, p := range ports {
		if err := d.ports.Put(binary.BigEndian.AppendUint16(nil, p), []byte{1}); err != nil {
			return fmt.Errorf("filling a map: %w", err)
		}
	}
	if d.events, err = ebpf.NewMap(&ebpf.MapSpec{Name: "svctrace_drops", Type: ebpf.RingBuf, MaxEntries: dropBuffer}); err != nil {
		return fmt.Errorf("making a ring buffer: %w", err)
	}
	if d.program, err = ebpf.NewProgram(dropProgram(d.layout, proto, d.ports, d.events)); err != nil {
		return fmt.Errorf("loading the program that watches drops: %w", err)
	}
	if d.link, err = link.AttachTracing(link.TracingOptions{Program: d.program}); err != nil {
		return fmt.Errorf("attaching the program that watches drops: %w", err)
	}
	if d.reader, err = ringbuf.NewReader(d.events); err != nil {
		return fmt.Errorf("reading the ring buffer: %w", err)
	}
	return nil
}

func (d *drops) close() error {
	var errs []error
	if d.link != nil {
		errs = append(errs, d.link.Close())
	}
	if d.reader != nil {
		errs = append(errs, d.reader.Close())
	}
	for _, c := range []interface{ Close() error }{d.program, d.events, d.ports} {
		errs = append(errs, c.Close()) // nil ones are none of their business
	}
	return errors.Join(errs...)
}

// drain calls f for each drop that has come, without waiting.
func (d *drops) drain(f func(drop)) error {
	d.reader.SetDeadline(time.Unix(1, 0))
	var rec ringbuf.Record
	for {
		err := d.reader.ReadInto(&rec)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the ring buffer: %w", err)
		}
		if x, ok := decodeDrop(rec.RawSample); ok {
			f(x)
		}
	}
}

// decodeDrop reads a record of the drop program.
func decodeDrop(b []byte) (drop, bool) {
	if len(b) < recordSize {
		return drop{}, false
	}
	t, ok := headerTuple(b[recordHeader:recordHeader+headerBytes], b[recordPorts:recordPorts+4])
	return drop{
		reason:    binary.NativeEndian.Uint32(b[recordReason:]),
		namespace: binary.NativeEndian.Uint32(b[recordNamespace:]),
		tuple:     t,
	}, ok
}

// reason names a drop reason without its prefix.
func (d *drops) reason(v uint32) string {
	name, ok := d.layout.reasons[v&0xffff]
	if v>>16 != 0 || !ok {
		return strconv.FormatUint(uint64(v), 10) // of a subsystem with reasons of its own
	}
	return strings.TrimPrefix(strings.TrimPrefix(name, "SKB_DROP_REASON_"), "SKB_")
}
