//go:build linux

package rtnl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/fib"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

var loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// routes reads all routes of all tables and both families.
func (r *Reader) routes(ctx context.Context, s *fib.State, limit int) error {
	// Names are needed while the dump is read, on the same socket: have them before.
	if _, err := r.Links(ctx); err != nil {
		return err
	}
	var out []fib.Route
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		before := len(out)
		body := make([]byte, unix.SizeofRtMsg)
		body[0] = family
		err := nlsock.Retry(ctx, func() { out = out[:before] }, func() error {
			return r.sock.Do(ctx, unix.RTM_GETROUTE, unix.NLM_F_DUMP, body, func(m nlsock.Message) error {
				if m.Type != unix.RTM_NEWROUTE {
					return nil
				}
				if len(out) >= limit {
					return fmt.Errorf("more than %d: %w", limit, ErrTooManyRoutes)
				}
				route, ok, err := r.decodeEntry(ctx, m.Data)
				if ok {
					out = append(out, route)
				}
				return err
			})
		})
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			return &node.ReadError{What: "the routing tables", Err: err}
		}
	}
	s.Routes = out
	return nil
}

// rtaPref is RTA_PREF, rtaNHID RTA_NH_ID (include/uapi/linux/rtnetlink.h).
const (
	rtaPref = 20
	rtaNHID = 30
)

// decodeEntry decodes a route of a dump. It is not ok for a route that is none any more, or of another family.
func (r *Reader) decodeEntry(ctx context.Context, data []byte) (out fib.Route, ok bool, err error) {
	if len(data) < unix.SizeofRtMsg {
		return out, false, errors.New("a short route message")
	}
	zero := netip.IPv4Unspecified()
	switch data[0] {
	case unix.AF_INET:
	case unix.AF_INET6:
		zero = netip.IPv6Unspecified()
	default:
		return out, false, nil
	}
	out = fib.Route{Table: uint32(data[4]), Type: node.RouteType(data[7]), TOS: data[3], Scope: data[6], Protocol: data[5]}
	dst, src := zero, netip.Addr{}
	hop := fib.Hop{Weight: 1, Flags: uint8(binary.NativeEndian.Uint32(data[8:]))}
	expired, object := false, false
	err = nlattr.Each(data[unix.SizeofRtMsg:], func(typ uint16, b []byte) error {
		switch typ {
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(b)
		case unix.RTA_SRC:
			src, _ = netip.AddrFromSlice(b)
		case unix.RTA_PREFSRC:
			out.PrefSrc, _ = netip.AddrFromSlice(b)
		case unix.RTA_TABLE, unix.RTA_PRIORITY:
			if len(b) < 4 {
				return fmt.Errorf("route attribute %d of %d bytes", typ, len(b))
			}
			v := binary.NativeEndian.Uint32(b)
			if typ == unix.RTA_TABLE {
				out.Table = v
			} else {
				out.Metric = v
			}
		case unix.RTA_METRICS:
			return nlattr.Each(b, func(typ uint16, b []byte) error {
				if typ == unix.RTAX_MTU && len(b) >= 4 {
					out.MTU = int(binary.NativeEndian.Uint32(b))
				}
				return nil
			})
		case unix.RTA_CACHEINFO:
			expired = len(b) >= 12 && int32(binary.NativeEndian.Uint32(b[8:])) < 0
		case rtaPref:
			if len(b) > 0 {
				out.Pref = b[0]
			}
		case rtaNHID:
			object = true
		case unix.RTA_MULTIPATH:
			hops, err := r.multipath(ctx, b)
			out.Hops = hops
			return err
		default:
			return r.hopAttr(ctx, &hop, typ, b)
		}
		return nil
	})
	if err != nil {
		return out, false, err
	}
	out.Dst = netip.PrefixFrom(dst, int(data[1]))
	if !out.Dst.IsValid() || out.Dst.Addr().Is4() != zero.Is4() {
		return out, false, fmt.Errorf("a route to %s/%d", dst, data[1])
	}
	if data[2] > 0 {
		out.Src = netip.PrefixFrom(src, int(data[2]))
	}
	if len(out.Hops) == 0 && hop.Dev != "" {
		out.Hops = []fib.Hop{hop}
	}
	refuses := out.Type >= node.RouteBlackhole && out.Type <= node.RouteThrow
	if len(out.Hops) == 0 && !refuses {
		if object {
			return out, false, errors.New("the routes name next hop objects only: net.ipv4.nexthop_compat_mode is 0")
		}
		return out, false, fmt.Errorf("the route to %s has no next hop", out.Dst)
	}
	return out, !expired, nil
}

// hopAttr decodes an attribute of a next hop.
func (r *Reader) hopAttr(ctx context.Context, h *fib.Hop, typ uint16, b []byte) error {
	switch {
	case typ == unix.RTA_OIF && len(b) >= 4:
		name, err := r.name(ctx, binary.NativeEndian.Uint32(b))
		h.Dev = name
		return err
	case typ == unix.RTA_GATEWAY:
		h.Gateway, _ = netip.AddrFromSlice(b)
	case typ == unix.RTA_VIA && len(b) > 2:
		h.Gateway, _ = netip.AddrFromSlice(b[2:])
	case typ == unix.RTA_FLOW && len(b) >= 4:
		h.Realm = binary.NativeEndian.Uint32(b)
	}
	return nil
}

// multipath reads the struct rtnexthop list of a route.
func (r *Reader) multipath(ctx context.Context, b []byte) ([]fib.Hop, error) {
	var out []fib.Hop
	for len(b) >= unix.SizeofRtNexthop {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) {
			return nil, fmt.Errorf("a next hop of %d bytes in %d", size, len(b))
		}
		name, err := r.name(ctx, binary.NativeEndian.Uint32(b[4:]))
		if err != nil {
			return nil, err
		}
		h := fib.Hop{Dev: name, Flags: b[2], Weight: int(b[3]) + 1}
		err = nlattr.Each(b[unix.SizeofRtNexthop:size], func(typ uint16, b []byte) error { return r.hopAttr(ctx, &h, typ, b) })
		if err != nil {
			return nil, err
		}
		out = append(out, h)
		b = b[min((size+3)&^3, len(b)):]
	}
	return out, nil
}
