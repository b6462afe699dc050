//go:build linux

// Package ctnl reads the kernel's connection tracking table by netlink: one entry by its tuple, or the entries of one
// destination by the kernel's own filter.
package ctnl

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

const msgGet = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1 // IPCTNL_MSG_CT_GET

// Reader answers node.Conntrack. It is not safe for concurrent use.
type Reader struct{ sock *nlsock.Socket }

// New opens a reader in the calling thread's network namespace. count may be nil.
func New(count *nlsock.Counter) (*Reader, error) {
	s, err := nlsock.Open(unix.NETLINK_NETFILTER, count)
	if err != nil {
		return nil, err
	}
	return &Reader{s}, nil
}

// Close closes the reader's socket.
func (r *Reader) Close() error { return r.sock.Close() }

func header(a netip.Addr) []byte {
	if a.Is6() {
		return []byte{unix.AF_INET6, 0, 0, 0}
	}
	return []byte{unix.AF_INET, 0, 0, 0}
}

// Lookup returns the entry that t belongs to in either direction.
func (r *Reader) Lookup(ctx context.Context, t skb.Tuple, zone uint16) (c *skb.Conn, reply bool, err error) {
	body := nlattr.Append(header(t.Dst.Addr()), ctaTupleOrig|nlattr.Nested, encodeTuple(t, false))
	if zone != 0 {
		body = nlattr.Append(body, ctaZone, nlattr.BigUint16(zone))
	}
	err = r.sock.Get(ctx, msgGet, body, func(m nlsock.Message) error {
		var err error
		c, err = Decode(m.Data)
		return err
	})
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, false, fmt.Errorf("conntrack entry %s: %w", t, node.ErrNotFound)
	case err != nil:
		return nil, false, readError(err)
	case c == nil:
		return nil, false, fmt.Errorf("conntrack entry %s: %w", t, node.ErrNotFound)
	}
	return c, c.Orig != t && sameEnds(c.Reply, t), nil
}

// sameEnds compares tuples; for ICMP the type differs between the directions, so only addresses and id count.
func sameEnds(a, b skb.Tuple) bool {
	if a.Proto == skb.ICMP || a.Proto == skb.ICMPv6 {
		return a.Src == b.Src && a.Dst.Addr() == b.Dst.Addr()
	}
	return a == b
}

func readError(err error) error {
	e := &node.ReadError{What: "connection tracking entries", Err: err}
	if errors.Is(err, unix.EPERM) {
		e.Needs, e.Err = "CAP_NET_ADMIN", node.ErrPermission
	}
	return e
}

// To calls f for every entry whose original destination is dst, of protocol proto; a port of 0 means any port. The
// kernel filters (CTA_FILTER, Linux 5.8 and later); what an older kernel sends beyond that is filtered here.
// When the kernel interrupts the dump, reset is called and the reading starts again.
func (r *Reader) To(ctx context.Context, proto uint8, dst netip.AddrPort, reset func(), f func(*skb.Conn) error) error {
	return r.ToAny(ctx, proto, []netip.Addr{dst.Addr()}, dst.Port(), reset, f)
}

// ToAny is To for one of several addresses of one family with the same port. It takes one walk of the kernel through its
// table; of more than one address, and for IPv6, the kernel sends all entries to this port, and the choice is made here.
func (r *Reader) ToAny(ctx context.Context, proto uint8, dst []netip.Addr, port uint16, reset func(), f func(*skb.Conn) error) error {
	if len(dst) == 0 {
		return nil
	}
	t := skb.Tuple{Proto: proto, Dst: netip.AddrPortFrom(dst[0], port)}
	flags := uint32(filterProto)
	if len(dst) == 1 && dst[0].Is4() {
		// For IPv6 the kernel's comparison is upside down: it leaves out the entries with this address and sends all
		// others (ctnetlink_filter_match_tuple, net/netfilter/nf_conntrack_netlink.c, 5.8 to 6.18 at least).
		flags |= filterIPDst
	}
	if port != 0 {
		flags |= filterPortDst
	}
	body := nlattr.Append(header(dst[0]), ctaTupleOrig|nlattr.Nested, encodeTuple(t, true))
	body = nlattr.Append(body, ctaFilter|nlattr.Nested,
		nlattr.Append(nlattr.Append(nil, ctaFilterOrigFlags, nlattr.Uint32(flags)), ctaFilterReplyFlags, nlattr.Uint32(0)))
	addresses := make([][]byte, len(dst))
	for i, a := range dst {
		addresses[i] = a.AsSlice()
	}
	err := nlsock.Retry(ctx, reset, func() error {
		return r.sock.Do(ctx, msgGet, unix.NLM_F_DUMP, body, func(m nlsock.Message) error {
			if !slices.ContainsFunc(addresses, func(a []byte) bool { return bytes.Contains(m.Data, a) }) {
				return nil // of the many that the kernel may send beyond what was asked, not worth decoding
			}
			c, err := Decode(m.Data)
			if err != nil {
				return err
			}
			if c.Orig.Proto != proto || !slices.Contains(dst, c.Orig.Dst.Addr()) || port != 0 && c.Orig.Dst.Port() != port {
				return nil
			}
			return f(c)
		})
	})
	if err != nil {
		return readError(err)
	}
	return nil
}

// Fill returns how many entries the namespace's table has, and how many it may have (IPCTNL_MSG_CT_GET_STATS).
func (r *Reader) Fill(ctx context.Context) (count, limit int, err error) {
	const msgStats = unix.NFNL_SUBSYS_CTNETLINK<<8 | 5
	err = r.sock.Do(ctx, msgStats, 0, []byte{unix.AF_UNSPEC, 0, 0, 0}, func(m nlsock.Message) error {
		if len(m.Data) < genmsgSize {
			return errors.New("a short conntrack statistics message")
		}
		return nlattr.Each(m.Data[genmsgSize:], func(typ uint16, b []byte) error {
			if len(b) < 4 {
				return nil
			}
			switch typ {
			case 1: // CTA_STATS_GLOBAL_ENTRIES
				count = int(binary.BigEndian.Uint32(b))
			case 2: // CTA_STATS_GLOBAL_MAX_ENTRIES
				limit = int(binary.BigEndian.Uint32(b))
			}
			return nil
		})
	})
	if err != nil {
		return 0, 0, readError(err)
	}
	return count, limit, nil
}
