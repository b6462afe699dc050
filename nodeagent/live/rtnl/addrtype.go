//go:build linux

package rtnl

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

type localRoute struct {
	prefix netip.Prefix
	typ    node.RouteType
	dev    string
}

// AddrType tells what kind of address a is. For IPv4 this is inet_addr_type and inet_dev_addr_type of
// net/ipv4/fib_frontend.c: a lookup in the local table alone. For IPv6 it is what the fib expression and the addrtype
// match derive from the addresses and a route lookup (net/ipv6/netfilter/nft_fib_ipv6.c).
func (r *Reader) AddrType(ctx context.Context, a netip.Addr, dev string) (node.RouteType, error) {
	if a.Is4() {
		return r.addrType4(ctx, a, dev)
	}
	if a.IsMulticast() {
		return node.RouteMulticast, nil
	}
	if dev != "" {
		addrs, err := r.Addresses(ctx)
		if err != nil {
			return 0, err
		}
		for _, x := range addrs {
			name, err := r.name(ctx, uint32(x.Link))
			if err != nil {
				return 0, err
			}
			if x.Prefix.Addr() == a && name == dev {
				return node.RouteLocal, nil
			}
		}
	}
	route, err := r.Route(ctx, node.RouteQuery{Dst: a})
	var refused *node.RouteError
	switch {
	case errors.As(err, &refused):
		if refused.Number == int(unix.EACCES) {
			return node.RouteProhibit, nil
		}
		return node.RouteUnreachable, nil
	case err != nil:
		return 0, err
	}
	if route.Type == node.RouteLocal && dev != "" {
		return node.RouteUnicast, nil
	}
	if route.Type == node.RouteLocal || route.Type == node.RouteAnycast {
		return route.Type, nil
	}
	return node.RouteUnicast, nil
}

func (r *Reader) addrType4(ctx context.Context, a netip.Addr, dev string) (node.RouteType, error) {
	b := a.As4()
	switch {
	case b[0] == 0, b == [4]byte{255, 255, 255, 255}:
		return node.RouteBroadcast, nil
	case a.IsMulticast():
		return node.RouteMulticast, nil
	}
	routes, err := r.localTable(ctx)
	if err != nil {
		return 0, err
	}
	best := -1
	out := node.RouteUnicast
	for _, l := range routes {
		if l.prefix.Contains(a) && l.prefix.Bits() > best {
			best, out = l.prefix.Bits(), l.typ
			if dev != "" && l.dev != dev {
				out = node.RouteUnicast
			}
		}
	}
	return out, nil
}

func (r *Reader) localTable(ctx context.Context) ([]localRoute, error) {
	if l, ok := r.local[unix.AF_INET]; ok {
		return l, nil
	}
	// Names are needed while the dump is read, on the same socket: have them before.
	if _, err := r.Links(ctx); err != nil {
		return nil, err
	}
	var out []localRoute
	body := make([]byte, unix.SizeofRtMsg)
	body[0], body[4] = unix.AF_INET, unix.RT_TABLE_LOCAL
	body = nlattr.Append(body, unix.RTA_TABLE, nlattr.Uint32(unix.RT_TABLE_LOCAL))
	err := nlsock.Retry(ctx, func() { out = nil }, func() error {
		return r.sock.Do(ctx, unix.RTM_GETROUTE, unix.NLM_F_DUMP, body, func(m nlsock.Message) error {
			l, ok, err := r.decodeLocal(ctx, m.Data)
			if ok {
				out = append(out, l)
			}
			return err
		})
	})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, &node.ReadError{What: "the local routing table", Err: err}
	}
	if r.local == nil {
		r.local = map[uint8][]localRoute{}
	}
	r.local[unix.AF_INET] = out
	return out, nil
}

func (r *Reader) decodeLocal(ctx context.Context, data []byte) (localRoute, bool, error) {
	if len(data) < unix.SizeofRtMsg {
		return localRoute{}, false, errors.New("a short route message")
	}
	l := localRoute{typ: node.RouteType(data[7])}
	table, addr := uint32(data[4]), netip.IPv4Unspecified()
	err := nlattr.Each(data[unix.SizeofRtMsg:], func(typ uint16, b []byte) error {
		switch typ {
		case unix.RTA_DST:
			addr, _ = netip.AddrFromSlice(b)
		case unix.RTA_TABLE:
			if len(b) >= 4 {
				table = binary.NativeEndian.Uint32(b)
			}
		case unix.RTA_OIF:
			if len(b) >= 4 {
				name, err := r.name(ctx, binary.NativeEndian.Uint32(b))
				l.dev = name
				return err
			}
		}
		return nil
	})
	l.prefix = netip.PrefixFrom(addr, int(data[1]))
	return l, table == unix.RT_TABLE_LOCAL && l.prefix.IsValid() && addr.Is4(), err
}
