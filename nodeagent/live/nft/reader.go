//go:build linux

// Package nft reads nftables from the running kernel by netlink: it implements node.NFTables.
//
// Everything is asked for as narrowly as the kernel allows: one chain's rules, one set's header, one element. Answers are
// handed on undecoded; package nftables decodes them.
package nft

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// Reader reads the nftables of one network namespace. It is not safe for concurrent use.
type Reader struct {
	sock *nlsock.Socket
}

var _ node.NFTables = (*Reader)(nil)

// New opens a reader in the calling thread's network namespace. count may be nil.
func New(count *nlsock.Counter) (*Reader, error) {
	s, err := nlsock.Open(unix.NETLINK_NETFILTER, count)
	if err != nil {
		return nil, explain("nftables", err)
	}
	return &Reader{sock: s}, nil
}

// Close closes the reader's socket.
func (r *Reader) Close() error { return r.sock.Close() }

// headerLen is the length of struct nfgenmsg.
const headerLen = 4

// do sends a request for one object, or a dump, and calls f for each message with the attributes behind struct nfgenmsg,
// which are valid until f returns.
func (r *Reader) do(ctx context.Context, what string, msg uint16, flags uint16, family node.NFTFamily, attrs []byte, f func(node.NFTObject) error) error {
	body := append([]byte{byte(family), unix.NFNETLINK_V0, 0, 0}, attrs...)
	typ := uint16(unix.NFNL_SUBSYS_NFTABLES)<<8 | msg
	each := func(m nlsock.Message) error {
		if m.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.Data) < headerLen {
			return nil
		}
		return f(node.NFTObject{Family: node.NFTFamily(m.Data[0]), Attrs: m.Data[headerLen:]})
	}
	if flags == 0 {
		return explain(what, r.sock.Get(ctx, typ, body, each))
	}
	return explain(what, r.sock.Do(ctx, typ, flags, body, each))
}

// explain turns the kernel's errors into those that package node names.
func explain(what string, err error) error {
	switch {
	case err == nil || errors.Is(err, nlsock.ErrInterrupted):
		return err
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return &node.ReadError{What: what, Needs: "CAP_NET_ADMIN", Err: fmt.Errorf("%w: %w", node.ErrPermission, err)}
	case errors.Is(err, unix.ENOENT):
		return &node.ReadError{What: what, Err: fmt.Errorf("%w: %w", node.ErrNotFound, err)}
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT):
		// nfnetlink answers EINVAL when the subsystem is not there (nfnetlink_rcv_msg).
		return &node.ReadError{What: what, Err: fmt.Errorf("%w: %w", node.ErrNotSupported, err)}
	}
	return &node.ReadError{What: what, Err: err}
}

// all reads a dump, again when the rule set changed meanwhile.
func (r *Reader) all(ctx context.Context, what string, msg uint16, family node.NFTFamily, attrs []byte, f func(node.NFTObject) error, reset func()) error {
	return nlsock.Retry(ctx, reset, func() error {
		return r.do(ctx, what, msg, unix.NLM_F_DUMP, family, attrs, f)
	})
}

// kept returns an object that outlives its message.
func kept(o node.NFTObject) node.NFTObject {
	o.Attrs = bytes.Clone(o.Attrs)
	return o
}

// arena keeps many messages in few pieces of memory: a chain may have ten thousand rules.
type arena []byte

// arenaPiece is the size of a piece, in bytes.
const arenaPiece = 64 << 10

// keep copies b. Short chains get a piece of their own size.
func (a *arena) keep(b []byte) []byte {
	if len(b) > cap(*a)-len(*a) {
		size := max(len(b), min(arenaPiece, 2*cap(*a)))
		*a = make([]byte, 0, size)
	}
	start := len(*a)
	*a = append(*a, b...)
	return (*a)[start:len(*a):len(*a)]
}

// one reads one object.
func (r *Reader) one(ctx context.Context, what string, msg uint16, family node.NFTFamily, attrs []byte) (node.NFTObject, error) {
	var out node.NFTObject
	found := false
	err := nlsock.Retry(ctx, func() {}, func() error {
		return r.do(ctx, what, msg, 0, family, attrs, func(o node.NFTObject) error {
			out, found = kept(o), true
			return nil
		})
	})
	if err == nil && !found {
		err = &node.ReadError{What: what, Err: node.ErrNotFound}
	}
	return out, err
}

// attr appends an attribute.
func attr(b []byte, typ uint16, data []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+len(data)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, data...)
	for len(b)%unix.NLA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

// attrString appends a string with its closing zero byte, as the kernel wants names.
func attrString(b []byte, typ uint16, s string) []byte { return attr(b, typ, append([]byte(s), 0)) }

func attrU32(b []byte, typ uint16, v uint32) []byte {
	return attr(b, typ, binary.BigEndian.AppendUint32(nil, v))
}

func nested(b []byte, typ uint16, inner []byte) []byte { return attr(b, typ|unix.NLA_F_NESTED, inner) }
