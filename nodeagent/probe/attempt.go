//go:build linux

package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// attempt is one connection: a socket that is bound before anything is sent, so that its tuple is known.
type attempt struct {
	fd      int
	proto   uint8
	src     netip.AddrPort
	started time.Time
	done    bool
	out     wire.ProbeAttempt
	// tuples are those that packets of this connection are known to have, by its conntrack entries.
	tuples []skb.Tuple
	// drops counts the packets of this connection that were dropped.
	drops map[drop]int
}

// bind opens a socket at an address in the calling thread's namespace; the kernel chooses the port.
func bind(proto uint8, source netip.Addr) (*attempt, error) {
	domain, typ := unix.AF_INET, unix.SOCK_STREAM
	if source.Is6() {
		domain = unix.AF_INET6
	}
	if proto == skb.UDP {
		typ = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(domain, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(proto))
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	a := &attempt{fd: fd, proto: proto, out: wire.ProbeAttempt{Events: []wire.ProbeEvent{}}, drops: map[drop]int{}}
	if err := a.prepare(source); err != nil {
		unix.Close(fd)
		return nil, err
	}
	a.out.Source = a.src
	return a, nil
}

func (a *attempt) prepare(source netip.Addr) error {
	// The error queue tells who sent an ICMP message. An old kernel without it tells the error alone.
	if source.Is6() {
		_ = unix.SetsockoptInt(a.fd, unix.SOL_IPV6, unix.IPV6_RECVERR, 1)
	} else {
		_ = unix.SetsockoptInt(a.fd, unix.SOL_IP, unix.IP_RECVERR, 1)
	}
	if err := unix.Bind(a.fd, sockaddr(netip.AddrPortFrom(source, 0))); err != nil {
		return fmt.Errorf("binding to %s: %w", source, err)
	}
	sa, err := unix.Getsockname(a.fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	a.src = addrPort(sa)
	return nil
}

// start sends the first packet.
func (a *attempt) start(dst netip.AddrPort, payload string) {
	a.started = time.Now()
	err := unix.Connect(a.fd, sockaddr(dst))
	if a.proto == skb.UDP && err == nil {
		_, err = unix.Write(a.fd, []byte(payload))
	}
	if peer, e := unix.Getpeername(a.fd); e == nil {
		// A program at the socket (BPF at cgroup/connect4) may have put another destination in place.
		if p := addrPort(peer); p != dst {
			a.out.Peer = p
		}
	}
	switch {
	case err == nil && a.proto != skb.UDP:
		a.finish(wire.ProbeConnected)
	case err == nil, errors.Is(err, unix.EINPROGRESS):
	default:
		a.fail(err)
	}
}

// events are what the socket is polled for.
func (a *attempt) events() int16 {
	if a.proto == skb.UDP {
		return unix.POLLIN
	}
	return unix.POLLOUT
}

// ready looks at a socket that poll reported.
func (a *attempt) ready() {
	if a.proto == skb.UDP {
		var b [1]byte
		_, _, err := unix.Recvfrom(a.fd, b[:], unix.MSG_DONTWAIT)
		switch {
		case err == nil:
			a.finish(wire.ProbeAnswered)
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			a.fail(err)
		default:
			// What an ICMP message says that is not fatal lies in the error queue only: without taking it poll returns at once.
			a.out.By = a.refusal()
		}
		return
	}
	e, err := unix.GetsockoptInt(a.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		a.fail(err)
	case e != 0:
		a.fail(unix.Errno(e))
	default:
		if _, err := unix.Getpeername(a.fd); err != nil {
			a.fail(err) // reset at once
			return
		}
		a.finish(wire.ProbeConnected)
	}
}

func (a *attempt) finish(r wire.ProbeResult) {
	a.done, a.out.Result, a.out.Micros = true, r, time.Since(a.started).Microseconds()
}

// fail ends the attempt by an error of the kernel.
func (a *attempt) fail(err error) {
	r := wire.ProbeFailed
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		r = wire.ProbeRefused
	case errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE), errors.Is(err, unix.ENOTCONN):
		r = wire.ProbeReset
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTDOWN), errors.Is(err, unix.ENETDOWN),
		errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOPROTOOPT):
		r = wire.ProbeUnreachable
	case errors.Is(err, unix.ETIMEDOUT):
		r = wire.ProbeTimeout
	}
	a.finish(r)
	var errno unix.Errno
	if errors.As(err, &errno) {
		a.out.Errno = unix.ErrnoName(errno)
	}
	if by := a.refusal(); by != "" {
		a.out.By = by
	}
	if a.out.By == "" && r == wire.ProbeRefused && a.proto == skb.TCP {
		a.out.By = "tcp reset"
	}
}

// close ends the connection.
func (a *attempt) close() {
	if a.fd >= 0 {
		unix.Close(a.fd)
		a.fd = -1
	}
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func addrPort(s unix.Sockaddr) netip.AddrPort {
	switch s := s.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(s.Addr), uint16(s.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(s.Addr).Unmap(), uint16(s.Port))
	}
	return netip.AddrPort{}
}
