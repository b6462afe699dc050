//go:build linux

// Package ctnltest makes connection tracking entries for tests, as conntrack -I does.
package ctnltest

import (
	"context"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Entry is a connection that was answered: its original tuple, and where replies come from.
type Entry struct {
	Tuple    skb.Tuple
	Endpoint netip.AddrPort
	// Zone is for the directions of Zoned.
	Zone  uint16
	Zoned Zoned
}

// Zoned says which directions of an entry a zone is for.
type Zoned int

// The directions.
const (
	Both Zoned = iota
	Original
	Reply
)

const (
	newEntry    = unix.NFNL_SUBSYS_CTNETLINK << 8   // IPCTNL_MSG_CT_NEW
	deleteEntry = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2 // IPCTNL_MSG_CT_DELETE
	established = 3                                 // enum tcp_conntrack
	// IPS_SEEN_REPLY, IPS_ASSURED and IPS_CONFIRMED.
	statusOpen = 1<<1 | 1<<2 | 1<<3
)

// Insert makes an entry in the namespace of a socket of NETLINK_NETFILTER. unix.EEXIST is in the chain when it is there.
func (e Entry) Insert(ctx context.Context, s *nlsock.Socket) error {
	return s.Do(ctx, newEntry, unix.NLM_F_CREATE|unix.NLM_F_EXCL, e.body(), nil)
}

// Delete removes it. unix.ENOENT is in the chain when it is not there.
func (e Entry) Delete(ctx context.Context, s *nlsock.Socket) error {
	return s.Do(ctx, deleteEntry, 0, e.body(), nil)
}

// body is that of a message about the entry (nfnetlink_conntrack.h).
func (e Entry) body() []byte {
	family := byte(unix.AF_INET)
	if e.Tuple.Src.Addr().Is6() {
		family = unix.AF_INET6
	}
	b := []byte{family, 0, 0, 0}
	var orig, reply, both uint16
	switch e.Zoned {
	case Both:
		both = e.Zone
	case Original:
		orig = e.Zone
	case Reply:
		reply = e.Zone
	}
	b = nlattr.Append(b, 1|nlattr.Nested, tuple(e.Tuple.Proto, e.Tuple.Src, e.Tuple.Dst, orig))
	b = nlattr.Append(b, 2|nlattr.Nested, tuple(e.Tuple.Proto, e.Endpoint, e.Tuple.Src, reply))
	b = nlattr.Append(b, 3, nlattr.BigUint32(statusOpen))
	b = nlattr.Append(b, 7, nlattr.BigUint32(86400)) // seconds
	if both != 0 {
		b = nlattr.Append(b, 18, nlattr.BigUint16(both))
	}
	if e.Tuple.Proto == skb.TCP {
		b = nlattr.Append(b, 4|nlattr.Nested, nlattr.Append(nil, 1|nlattr.Nested, nlattr.Append(nil, 1, []byte{established})))
	}
	return b
}

func tuple(proto uint8, src, dst netip.AddrPort, zone uint16) []byte {
	from, to := uint16(1), uint16(2) // CTA_IP_V4_SRC, CTA_IP_V4_DST
	if src.Addr().Is6() {
		from, to = 3, 4
	}
	ip := nlattr.Append(nlattr.Append(nil, from, src.Addr().AsSlice()), to, dst.Addr().AsSlice())
	p := nlattr.Append(nil, 1, []byte{proto})
	p = nlattr.Append(nlattr.Append(p, 2, nlattr.BigUint16(src.Port())), 3, nlattr.BigUint16(dst.Port()))
	b := nlattr.Append(nlattr.Append(nil, 1|nlattr.Nested, ip), 2|nlattr.Nested, p)
	if zone != 0 {
		b = nlattr.Append(b, 3, nlattr.BigUint16(zone)) // CTA_TUPLE_ZONE
	}
	return b
}
