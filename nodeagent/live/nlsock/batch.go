//go:build linux

package nlsock

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Part is one message of a batch; NLM_F_REQUEST is added to its flags.
type Part struct {
	Type, Flags uint16
	Body        []byte
}

// Batch sends messages as one transaction of an nfnetlink subsystem: the kernel does all of them or none (nfnetlink_rcv_batch
// in net/netfilter/nfnetlink.c). It returns the first error that the kernel answers.
//
// What a batch makes may belong to the socket and go with it (NFT_TABLE_F_OWNER). Do opens the socket anew after an
// answer that was not read to its end, so a socket that owns something is used for batches alone.
func (s *Socket) Batch(ctx context.Context, subsystem uint16, parts []Part) error {
	if s.busy || s.dirty {
		return ErrBusy
	}
	if len(parts) == 0 {
		return nil
	}
	s.busy = true
	defer func() { s.busy = false }()
	// struct nfgenmsg: family, version, and the subsystem in network order.
	frame := binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0}, subsystem)
	first := s.seq + 1
	b := s.message(nil, unix.NFNL_MSG_BATCH_BEGIN, 0, frame)
	for i, p := range parts {
		if i == len(parts)-1 {
			p.Flags |= unix.NLM_F_ACK
		}
		b = s.message(b, p.Type, p.Flags, p.Body)
	}
	last := s.seq
	b = s.message(b, unix.NFNL_MSG_BATCH_END, 0, frame)
	if err := send(s.fd, b); err != nil {
		return fmt.Errorf("sending a netlink batch: %w", err)
	}
	s.dirty = true
	return s.settled(ctx, first, last)
}

func (s *Socket) message(b []byte, typ, flags uint16, body []byte) []byte {
	s.seq++
	b = binary.NativeEndian.AppendUint32(b, uint32(unix.NLMSG_HDRLEN+len(body)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, flags|unix.NLM_F_REQUEST)
	b = binary.NativeEndian.AppendUint32(b, s.seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = append(b, body...)
	for len(b)%unix.NLMSG_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

// settled reads answers until that of the last part. A batch that is refused as a whole is answered for its first message.
func (s *Socket) settled(ctx context.Context, first, last uint32) error {
	var failed error
	for {
		n, err := s.recv(ctx)
		if err != nil {
			return errors.Join(failed, err)
		}
		done, err := each(s.buf[:n], func(seq uint32, m Message) (bool, error) {
			if m.Type != unix.NLMSG_ERROR || seq < first || seq > last || len(m.Data) < 4 {
				return false, nil
			}
			if e := int32(binary.NativeEndian.Uint32(m.Data)); e < 0 && failed == nil {
				failed = unix.Errno(-e)
			}
			return seq == last || seq == first, nil
		})
		if err != nil {
			return errors.Join(failed, err)
		}
		if done {
			s.dirty = false
			return failed
		}
	}
}

// each calls f for the messages in b until it says that the last has come.
func each(b []byte, f func(seq uint32, m Message) (done bool, err error)) (bool, error) {
	for len(b) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return false, fmt.Errorf("a netlink message of %d bytes in %d", size, len(b))
		}
		m := Message{Type: binary.NativeEndian.Uint16(b[4:]), Flags: binary.NativeEndian.Uint16(b[6:]), Data: b[unix.NLMSG_HDRLEN:size]}
		seq := binary.NativeEndian.Uint32(b[8:])
		b = b[min((size+3)&^3, len(b)):]
		if done, err := f(seq, m); done || err != nil {
			return done, err
		}
	}
	return false, nil
}
