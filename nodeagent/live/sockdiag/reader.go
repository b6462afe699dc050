//go:build linux

// Package sockdiag finds listening sockets of a network namespace by sock_diag netlink.
package sockdiag

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

const (
	sockDiagByFamily = 20 // SOCK_DIAG_BY_FAMILY
	requestSize      = 56 // struct inet_diag_req_v2
	messageSize      = 72 // struct inet_diag_msg
	stateClose       = 7  // TCP_CLOSE: an unconnected UDP socket
	stateListen      = 10 // TCP_LISTEN
	attrMemory       = 7  // INET_DIAG_SKMEMINFO: an array of 32-bit numbers (enum sk_meminfo_vars)
	attrV6Only       = 11 // INET_DIAG_SKV6ONLY

	memoryReceived = 0 // SK_MEMINFO_RMEM_ALLOC
	memoryBuffer   = 1 // SK_MEMINFO_RCVBUF
	memoryDrops    = 8 // SK_MEMINFO_DROPS, since Linux 4.6
)

// Reader answers node.Sockets. It is not safe for concurrent use.
type Reader struct {
	sock  *nlsock.Socket
	count *nlsock.Counter
}

// New opens a reader in the calling thread's network namespace. count may be nil.
func New(count *nlsock.Counter) (*Reader, error) {
	s, err := nlsock.Open(unix.NETLINK_SOCK_DIAG, count)
	if err != nil {
		return nil, err
	}
	return &Reader{s, count}, nil
}

// Close closes the reader's socket.
func (r *Reader) Close() error { return r.sock.Close() }

// OnPort returns all listening sockets with that port that take packets of family f, whatever their address.
func (r *Reader) OnPort(ctx context.Context, proto uint8, f skb.Family, port uint16) ([]node.Socket, error) {
	state := stateListen
	if proto != skb.TCP {
		state = stateClose
	}
	families := []byte{unix.AF_INET6}
	if f == skb.IPv4 {
		families = append(families, unix.AF_INET)
	}
	var out []node.Socket
	for _, family := range families {
		req := make([]byte, requestSize)
		req[0], req[1], req[2] = family, proto, 1<<(attrMemory-1)
		binary.NativeEndian.PutUint32(req[4:], 1<<state)
		var part []node.Socket
		err := nlsock.Retry(ctx, func() { part = nil }, func() error {
			return r.sock.Do(ctx, sockDiagByFamily, unix.NLM_F_DUMP, req, func(m nlsock.Message) error {
				s, err := decode(m.Data)
				if err == nil && s.Local.Port() == port {
					part = append(part, s)
				}
				return err
			})
		})
		if errors.Is(err, unix.ENOENT) {
			continue // no sockets of this protocol in this kernel (SCTP without its module)
		}
		if err != nil {
			return nil, &node.ReadError{What: "listening sockets", Err: err}
		}
		for _, s := range part {
			if takes(s, f) {
				out = append(out, s)
			}
		}
	}
	return out, nil
}

// takes reports whether a socket can receive packets of family f.
func takes(s node.Socket, f skb.Family) bool {
	a := s.Local.Addr()
	if f == skb.IPv6 {
		return a.Is6()
	}
	return a.Is4() || a.IsUnspecified() && !s.V6Only
}

// Listening returns the sockets that a packet to dst would reach, those bound to the very address before wildcards.
func (r *Reader) Listening(ctx context.Context, proto uint8, dst netip.AddrPort) ([]node.Socket, error) {
	f := skb.IPv4
	if dst.Addr().Is6() {
		f = skb.IPv6
	}
	all, err := r.OnPort(ctx, proto, f, dst.Port())
	if err != nil {
		return nil, err
	}
	var exact, wild []node.Socket
	for _, s := range all {
		switch a := s.Local.Addr(); {
		case a == dst.Addr():
			exact = append(exact, s)
		case a.IsUnspecified():
			wild = append(wild, s)
		}
	}
	return append(exact, wild...), nil
}

func decode(data []byte) (node.Socket, error) {
	var s node.Socket
	if len(data) < messageSize {
		return s, errors.New("a short socket message")
	}
	size := 4
	if data[0] == unix.AF_INET6 {
		size = 16
	}
	addr, _ := netip.AddrFromSlice(data[8 : 8+size])
	s.Local = netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(data[4:]))
	s.Interface = int(binary.NativeEndian.Uint32(data[40:]))
	s.UID = binary.NativeEndian.Uint32(data[64:])
	s.Inode = uint64(binary.NativeEndian.Uint32(data[68:]))
	if s.Listener = data[1] == stateListen; s.Listener {
		s.Queue, s.QueueMax = binary.NativeEndian.Uint32(data[56:]), binary.NativeEndian.Uint32(data[60:])
	}
	err := nlattr.Each(data[messageSize:], func(typ uint16, b []byte) error {
		switch {
		case typ == attrV6Only && len(b) >= 1:
			s.V6Only = b[0] != 0
		case typ == attrMemory:
			memory := func(i int) uint32 {
				if len(b) < 4*(i+1) {
					return 0
				}
				return binary.NativeEndian.Uint32(b[4*i:])
			}
			s.Drops = memory(memoryDrops)
			if !s.Listener {
				s.Queue, s.QueueMax = memory(memoryReceived), memory(memoryBuffer)
			}
		}
		return nil
	})
	return s, err
}
