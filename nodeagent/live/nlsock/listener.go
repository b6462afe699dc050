//go:build linux

package nlsock

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// listenBuffer is the room for messages that were not read yet, in bytes.
const listenBuffer = 4 << 20

// Listener receives what the kernel sends to a multicast group, in the network namespace it was opened in. It is not safe
// for concurrent use.
type Listener struct {
	fd  int
	buf []byte
}

// Listen joins a group of a netlink family.
func Listen(family, group int) (*Listener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, family)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	// Without CAP_NET_ADMIN over the first user namespace the buffer stays at the system's limit.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, listenBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, listenBuffer)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("binding a netlink socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("joining netlink group %d: %w", group, err)
	}
	return &Listener{fd: fd, buf: make([]byte, receiveBuffer)}, nil
}

// FD is the socket, to poll for input.
func (l *Listener) FD() int { return l.fd }

// Close leaves the group.
func (l *Listener) Close() error { return unix.Close(l.fd) }

// Drain calls f for each message that has come, without waiting. lost is true when messages came faster than they were read.
func (l *Listener) Drain(f func(Message) error) (lost bool, err error) {
	for {
		n, _, err := unix.Recvfrom(l.fd, l.buf, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return lost, nil
		case errors.Is(err, unix.ENOBUFS):
			lost = true
			continue
		case err != nil:
			return lost, fmt.Errorf("receiving from netlink: %w", err)
		case n > len(l.buf):
			lost = true
			continue
		}
		if _, err := each(l.buf[:n], func(_ uint32, m Message) (bool, error) { return false, f(m) }); err != nil {
			return lost, err
		}
	}
}
