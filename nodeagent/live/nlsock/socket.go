//go:build linux

// Package nlsock is a netlink socket for reading large state: it receives with a big buffer, streams dumps instead of
// collecting them, and notices when the kernel says that a dump was interrupted by a change.
//
// It exists beside github.com/mdlayher/netlink, whose attribute coders the readers use, because that library receives
// dumps in 4 KiB pieces, for each of which the kernel walks its lists from the start, and does not report
// NLM_F_DUMP_INTR.
package nlsock

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInterrupted is returned when the state changed while a dump was read (NLM_F_DUMP_INTR): read it again.
var ErrInterrupted = errors.New("the state changed while it was read")

// ErrBusy is returned when a socket is asked while an answer is being read from it.
var ErrBusy = errors.New("the netlink socket is busy with another answer")

// receiveBuffer is the size of one receive. The kernel fills up to 32 KiB of a dump into one message buffer when the
// receiver offers that much (net/netlink/af_netlink.c, netlink_dump).
const receiveBuffer = 64 << 10

// callTimeout bounds one wait for the kernel's answer when the context has no earlier deadline.
const callTimeout = 30 * time.Second

// Counter counts what sockets received. It is not safe for concurrent use.
type Counter struct {
	Messages int
	Bytes    int64
}

// Add counts one read of n bytes that did not come by netlink.
func (c *Counter) Add(n int) {
	if c != nil {
		c.Messages++
		c.Bytes += int64(n)
	}
}

// Socket is a netlink socket. It is not safe for concurrent use.
type Socket struct {
	fd    int
	seq   uint32
	buf   []byte // what is received, once something is
	sent  []byte // the last request
	count *Counter
	dirty bool // an unfinished dump may still be queued
	proto int
	busy  bool
}

// Open opens a socket of a netlink family (unix.NETLINK_NETFILTER …) in the calling thread's network namespace.
// count may be nil.
func Open(family int, count *Counter) (*Socket, error) {
	s := &Socket{fd: -1, count: count, proto: family}
	return s, s.open()
}

func (s *Socket) open() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, s.proto)
	if err != nil {
		return fmt.Errorf("opening a netlink socket: %w", err)
	}
	// Strict checking makes rtnetlink dumps honour their filters (4.20 and later); older kernels refuse the option.
	if s.proto == unix.NETLINK_ROUTE {
		_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	}
	s.fd, s.dirty = fd, false
	return nil
}

// Close closes the socket.
func (s *Socket) Close() error {
	if s.fd < 0 {
		return nil
	}
	err := unix.Close(s.fd)
	s.fd = -1
	return err
}

// Message is one message of an answer. Data is valid only until the function it was given to returns.
type Message struct {
	Type  uint16
	Flags uint16
	Data  []byte // behind the netlink header
}

// answer is how an answer ends.
type answer int

const (
	dumped       answer = iota // with the end of a dump
	acknowledged               // with an acknowledgement
	single                     // with its first message
)

// Do sends one request (flags without NLM_F_REQUEST, which is added) and calls f for each message of the answer; f may be nil,
// and must not use the socket itself (ErrBusy).
// An error answer of the kernel is returned as a unix.Errno in the chain. With NLM_F_DUMP the answer is a dump; without,
// NLM_F_ACK is added so that the answer has an end.
func (s *Socket) Do(ctx context.Context, typ, flags uint16, body []byte, f func(Message) error) error {
	if flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP {
		return s.exchange(ctx, typ, flags, body, dumped, f)
	}
	return s.exchange(ctx, typ, flags|unix.NLM_F_ACK, body, acknowledged, f)
}

// Get is Do for a request that the kernel answers with one message, or with an error: most that ask for one object. It spares
// the acknowledgement behind it.
func (s *Socket) Get(ctx context.Context, typ uint16, body []byte, f func(Message) error) error {
	return s.exchange(ctx, typ, 0, body, single, f)
}

func (s *Socket) exchange(ctx context.Context, typ, flags uint16, body []byte, ends answer, f func(Message) error) error {
	if s.busy {
		return ErrBusy
	}
	s.busy = true
	defer func() { s.busy = false }()
	if s.dirty {
		s.Close()
		if err := s.open(); err != nil {
			return err
		}
	}
	s.sent = s.message(s.sent[:0], typ, flags, body)
	if err := send(s.fd, s.sent); err != nil {
		return fmt.Errorf("sending a netlink request: %w", err)
	}
	s.dirty = true
	return s.receive(ctx, ends, f)
}

func (s *Socket) receive(ctx context.Context, ends answer, f func(Message) error) error {
	interrupted := false
	for {
		n, err := s.recv(ctx)
		if err != nil {
			return err
		}
		if s.count != nil {
			s.count.Bytes += int64(n)
		}
		for b := s.buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.NLMSG_HDRLEN || size > len(b) {
				return fmt.Errorf("a netlink message of %d bytes in %d", size, len(b))
			}
			m := Message{Type: binary.NativeEndian.Uint16(b[4:]), Flags: binary.NativeEndian.Uint16(b[6:]), Data: b[unix.NLMSG_HDRLEN:size]}
			seq := binary.NativeEndian.Uint32(b[8:])
			b = b[min((size+3)&^3, len(b)):]
			if seq != s.seq {
				continue
			}
			if s.count != nil {
				s.count.Messages++
			}
			if m.Flags&unix.NLM_F_DUMP_INTR != 0 {
				interrupted = true
			}
			switch m.Type {
			case unix.NLMSG_NOOP:
				continue
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				if len(m.Data) >= 4 {
					s.dirty = false
					if e := int32(binary.NativeEndian.Uint32(m.Data)); e < 0 {
						return unix.Errno(-e)
					}
				} else if m.Type == unix.NLMSG_ERROR {
					return fmt.Errorf("a netlink error message of %d bytes", size)
				}
				s.dirty = false
				if interrupted {
					return ErrInterrupted
				}
				return nil
			case unix.NLMSG_OVERRUN:
				return errors.New("netlink overrun")
			}
			s.dirty = ends != single
			if f != nil {
				if err := f(m); err != nil {
					return err
				}
			}
			if ends == single {
				return nil
			}
		}
	}
}

func (s *Socket) recv(ctx context.Context) (int, error) {
	if s.buf == nil {
		s.buf = make([]byte, receiveBuffer)
	}
	var deadline time.Time // once it has to be waited for
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := receive(s.fd, s.buf)
		switch {
		case err == nil:
			if n > len(s.buf) {
				// A single object larger than the buffer: it is lost, so ask for more room next time.
				s.buf = make([]byte, n*2)
				return 0, ErrInterrupted
			}
			return n, nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EAGAIN):
			return 0, fmt.Errorf("receiving from netlink: %w", err)
		}
		if deadline.IsZero() {
			deadline = time.Now().Add(callTimeout)
			if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
				deadline = d
			}
		}
		left := time.Until(deadline)
		if left <= 0 {
			return 0, fmt.Errorf("waiting for the kernel's netlink answer: %w", os.ErrDeadlineExceeded)
		}
		wait := min(left, 200*time.Millisecond)
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, int(wait.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return 0, fmt.Errorf("waiting for netlink: %w", err)
		}
	}
}

// Retry calls read again while it returns ErrInterrupted, up to 20 times; reset is called before each further try and
// forgets what the try before collected.
func Retry(ctx context.Context, reset func(), read func() error) error {
	var err error
	for range 20 {
		if err = read(); !errors.Is(err, ErrInterrupted) {
			return err
		}
		if e := ctx.Err(); e != nil {
			return e
		}
		reset()
	}
	return err
}
