//go:build linux

package rtnl

import (
	"context"
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
// net/ipv4/fib_frontend.c: a lookup in the local table alone, which until policy rules are touched is a part of the main
// one (see fib.State.CustomRules4). For IPv6 it is what the fib expression and the addrtype
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
	route, err := r.ask(ctx, node.RouteQuery{Dst: a})
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
	switch {
	// Of 0.0.0.0/8 only the first address is special, since Linux 5.3.
	case a.IsUnspecified(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return node.RouteBroadcast, nil
	case a.IsMulticast():
		return node.RouteMulticast, nil
	}
	merged, err := r.mergedTables(ctx)
	if err != nil {
		return 0, err
	}
	if merged {
		return r.addrTypeMerged(ctx, a, dev)
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

// mergedTables tells whether the local table is still a part of the main one: then a lookup of a local address is
// reported as one of table main. No interface of the kernel says it more directly.
func (r *Reader) mergedTables(ctx context.Context) (bool, error) {
	if r.merged != nil {
		return *r.merged, nil
	}
	if _, err := r.Links(ctx); err != nil {
		return false, err
	}
	got, err := r.route(ctx, node.RouteQuery{Dst: loopback4}, false)
	var refused *node.RouteError
	if err != nil && !errors.As(err, &refused) {
		return false, err
	}
	merged := err == nil && got.Type == node.RouteLocal && got.Table == unix.RT_TABLE_MAIN
	r.merged = &merged
	return merged, nil
}

// addrTypeMerged asks the kernel for the route that decides: without rules that is the same lookup.
func (r *Reader) addrTypeMerged(ctx context.Context, a netip.Addr, dev string) (node.RouteType, error) {
	got, err := r.route(ctx, node.RouteQuery{Dst: a}, true)
	var refused *node.RouteError
	switch {
	case errors.As(err, &refused):
		return node.RouteUnicast, nil
	case err != nil:
		return 0, err
	}
	if len(got.Hops) > 0 {
		got.Out = got.Hops[0].Out
	}
	if got.Table != unix.RT_TABLE_MAIN || dev != "" && got.Out != dev {
		return node.RouteUnicast, nil
	}
	return got.Type, nil
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
			// A next hop that is dead, or is without a link where such routes are ignored, is shown as dead.
			e, ok, err := r.decodeEntry(ctx, m.Data)
			if !ok || err != nil || e.Table != unix.RT_TABLE_LOCAL || e.TOS != 0 {
				return err
			}
			l := localRoute{prefix: e.Dst, typ: node.RouteUnicast}
			if len(e.Hops) > 0 {
				if e.Hops[0].Flags&unix.RTNH_F_DEAD != 0 {
					return nil
				}
				l.typ, l.dev = e.Type, e.Hops[0].Dev
			}
			out = append(out, l)
			return nil
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
