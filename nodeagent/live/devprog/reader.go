//go:build linux

// Package devprog finds the programs and filters attached to a network interface outside netfilter: XDP, tc filters
// (clsact and ingress qdiscs) and tcx.
package devprog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// Parents of tc filters (include/uapi/linux/pkt_sched.h: TC_H_CLSACT with TC_H_MIN_INGRESS and TC_H_MIN_EGRESS).
const (
	parentIngress = 0xfffffff2
	parentEgress  = 0xfffffff3
)

// Attributes of an interface's XDP program and of a filter.
const (
	iflaXDP         = 43
	iflaXDPAttached = 2
	tcaKind         = 1
	tcaOptions      = 2
	tcaBPFName      = 7
)

const tcmsgSize = 20 // struct tcmsg

// Reader answers node.DevicePrograms. It is not safe for concurrent use.
type Reader struct{ sock *nlsock.Socket }

// New opens a reader in the calling thread's network namespace. count may be nil.
func New(count *nlsock.Counter) (*Reader, error) {
	s, err := nlsock.Open(unix.NETLINK_ROUTE, count)
	if err != nil {
		return nil, err
	}
	return &Reader{s}, nil
}

// Close closes the reader's socket.
func (r *Reader) Close() error { return r.sock.Close() }

// DevicePrograms names what is attached to an interface, for packets that arrive or, with egress, that leave.
func (r *Reader) DevicePrograms(ctx context.Context, index int, egress bool) ([]string, error) {
	var out []string
	if !egress {
		attached, err := r.xdp(ctx, index)
		if err != nil {
			return nil, err
		}
		if attached {
			out = append(out, "XDP program")
		}
	}
	tcx, err := tcxPrograms(index, egress)
	if err != nil {
		return nil, err
	}
	out = append(out, tcx...)
	filters, err := r.filters(ctx, index, egress)
	return append(out, filters...), err
}

func (r *Reader) xdp(ctx context.Context, index int) (bool, error) {
	body := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(body[4:], uint32(index))
	attached := false
	err := r.sock.Get(ctx, unix.RTM_GETLINK, body, func(m nlsock.Message) error {
		if len(m.Data) < unix.SizeofIfInfomsg {
			return errors.New("a short interface message")
		}
		return nlattr.Each(m.Data[unix.SizeofIfInfomsg:], func(typ uint16, b []byte) error {
			if typ != iflaXDP {
				return nil
			}
			return nlattr.Each(b, func(typ uint16, b []byte) error {
				attached = attached || typ == iflaXDPAttached && len(b) > 0 && b[0] != 0
				return nil
			})
		})
	})
	if err != nil {
		return false, &node.ReadError{What: fmt.Sprintf("the XDP program of interface %d", index), Err: err}
	}
	return attached, nil
}

func (r *Reader) filters(ctx context.Context, index int, egress bool) ([]string, error) {
	parent := uint32(parentIngress)
	if egress {
		parent = parentEgress
	}
	body := make([]byte, tcmsgSize)
	binary.NativeEndian.PutUint32(body[4:], uint32(index))
	binary.NativeEndian.PutUint32(body[12:], parent)
	var out []string
	err := nlsock.Retry(ctx, func() { out = nil }, func() error {
		return r.sock.Do(ctx, unix.RTM_GETTFILTER, unix.NLM_F_DUMP, body, func(m nlsock.Message) error {
			if len(m.Data) < tcmsgSize {
				return errors.New("a short filter message")
			}
			// A filter of kind bpf, u32 … with handle 0 is only the head of a list.
			if binary.NativeEndian.Uint32(m.Data[8:]) == 0 {
				return nil
			}
			kind, name := "", ""
			err := nlattr.Each(m.Data[tcmsgSize:], func(typ uint16, b []byte) error {
				switch typ {
				case tcaKind:
					kind = nlattr.Text(b)
				case tcaOptions:
					if kind == "bpf" {
						return nlattr.Each(b, func(typ uint16, b []byte) error {
							if typ == tcaBPFName {
								name = " " + nlattr.Text(b)
							}
							return nil
						})
					}
				}
				return nil
			})
			out = append(out, "tc "+kind+" filter"+name)
			return err
		})
	})
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return nil, &node.ReadError{What: fmt.Sprintf("the tc filters of interface %d", index), Err: err}
	}
	return out, nil
}

// tcxPrograms lists programs attached by tcx (Linux 6.6 and later). An older kernel has none.
func tcxPrograms(index int, egress bool) ([]string, error) {
	attach := ebpf.AttachTCXIngress
	if egress {
		attach = ebpf.AttachTCXEgress
	}
	found, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: attach})
	switch {
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOENT):
		return nil, nil
	case errors.Is(err, unix.EPERM):
		return nil, &node.ReadError{What: fmt.Sprintf("the tcx programs of interface %d", index), Needs: "CAP_NET_ADMIN and CAP_BPF", Err: node.ErrPermission}
	case err != nil:
		return nil, &node.ReadError{What: fmt.Sprintf("the tcx programs of interface %d", index), Err: err}
	}
	var out []string
	for _, p := range found.Programs {
		out = append(out, fmt.Sprintf("tcx program %d", p.ID))
	}
	return out, nil
}
