//go:build linux

package rtnl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// Attributes of a route request that golang.org/x/sys/unix does not name (include/uapi/linux/rtnetlink.h).
const (
	rtaIPProto = 0x1b
	rtaSport   = 0x1c
	rtaDport   = 0x1d
)

// Route asks the kernel which way a packet goes (RTM_GETROUTE). A refusal of the kernel is a *node.RouteError, to which a
// model of the rules and tables adds the reason, when they are small enough to be read.
func (r *Reader) Route(ctx context.Context, q node.RouteQuery) (node.Route, error) {
	out, err := r.ask(ctx, q)
	var refused *node.RouteError
	if errors.As(err, &refused) {
		r.explain(ctx, q, refused)
	}
	return out, err
}

// ask is Route without the reason of a refusal.
func (r *Reader) ask(ctx context.Context, q node.RouteQuery) (node.Route, error) {
	// Names are needed while the answer is read, on the same socket: have them before.
	if _, err := r.Links(ctx); err != nil {
		return node.Route{}, err
	}
	out, err := r.route(ctx, q, false)
	if err == nil && q.All {
		// The kernel made some routes without a table's (a limited broadcast, a destination on the link of q.Out): it then
		// refuses to show one.
		var none *node.RouteError
		all, err := r.route(ctx, q, true)
		if err != nil && !errors.As(err, &none) {
			return out, err
		}
		out.Hops = all.Hops
	}
	return out, err
}

// route makes one request; with match the kernel shows the route itself, with all its next hops, instead of its choice.
func (r *Reader) route(ctx context.Context, q node.RouteQuery, match bool) (node.Route, error) {
	body, err := r.routeRequest(ctx, q)
	if err != nil {
		return node.Route{}, err
	}
	if match {
		binary.NativeEndian.PutUint32(body[8:], binary.NativeEndian.Uint32(body[8:])|unix.RTM_F_FIB_MATCH)
	}
	var out node.Route
	found := false
	err = r.sock.Get(ctx, unix.RTM_GETROUTE, body, func(m nlsock.Message) error {
		if m.Type != unix.RTM_NEWROUTE {
			return nil
		}
		found = true
		out, err = r.decodeRoute(ctx, m.Data)
		return err
	})
	var errno unix.Errno
	if errors.As(err, &errno) {
		return node.Route{}, &node.RouteError{Errno: unix.ErrnoName(errno), Number: int(errno)}
	}
	if err == nil && !found {
		err = errors.New("the kernel gave no answer")
	}
	if err != nil {
		return node.Route{}, &node.ReadError{What: "the route to " + q.Dst.String(), Err: err}
	}
	switch out.Type {
	case node.RouteBlackhole:
		return out, &node.RouteError{Errno: "EINVAL", Number: int(unix.EINVAL)}
	case node.RouteUnreachable:
		return out, &node.RouteError{Errno: "EHOSTUNREACH", Number: int(unix.EHOSTUNREACH)}
	case node.RouteProhibit:
		return out, &node.RouteError{Errno: "EACCES", Number: int(unix.EACCES)}
	}
	return out, nil
}

func (r *Reader) routeRequest(ctx context.Context, q node.RouteQuery) ([]byte, error) {
	bits, family := byte(32), byte(unix.AF_INET)
	if q.Dst.Is6() {
		bits, family = 128, unix.AF_INET6
	}
	body := make([]byte, unix.SizeofRtMsg)
	body[0], body[1], body[3] = family, bits, q.TOS
	if family == unix.AF_INET {
		// IPv6 always tells the table, and refuses the flag under strict checking (inet6_rtm_valid_getroute_req).
		binary.NativeEndian.PutUint32(body[8:], unix.RTM_F_LOOKUP_TABLE)
	}
	body = nlattr.Append(body, unix.RTA_DST, q.Dst.AsSlice())
	if q.Src.IsValid() && !q.Src.IsUnspecified() {
		body[2] = bits
		body = nlattr.Append(body, unix.RTA_SRC, q.Src.AsSlice())
	}
	for _, dev := range []struct {
		typ  uint16
		name string
	}{{unix.RTA_IIF, q.In}, {unix.RTA_OIF, q.Out}} {
		if dev.name == "" {
			continue
		}
		i, err := r.index(ctx, dev.name)
		if err != nil {
			return nil, err
		}
		body = nlattr.Append(body, dev.typ, nlattr.Uint32(i))
	}
	if q.Mark != 0 {
		body = nlattr.Append(body, unix.RTA_MARK, nlattr.Uint32(q.Mark))
	}
	switch {
	case q.UID != nil:
		body = nlattr.Append(body, unix.RTA_UID, nlattr.Uint32(*q.UID))
	case q.In != "" && family == unix.AF_INET6:
		// A packet that arrives is looked up as of user 0 (ip6_route_input); the request would be of no user.
		body = nlattr.Append(body, unix.RTA_UID, nlattr.Uint32(0))
	}
	switch q.Proto {
	// Those that the kernel lets a request name (rtm_getroute_parse_ip_proto).
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP:
		body = nlattr.Append(body, rtaIPProto, []byte{q.Proto})
		if q.SrcPort != 0 {
			body = nlattr.Append(body, rtaSport, nlattr.BigUint16(q.SrcPort))
		}
		if q.DstPort != 0 {
			body = nlattr.Append(body, rtaDport, nlattr.BigUint16(q.DstPort))
		}
	case unix.IPPROTO_ICMP:
		if family == unix.AF_INET {
			body = nlattr.Append(body, rtaIPProto, []byte{q.Proto})
		}
	case unix.IPPROTO_ICMPV6:
		if family == unix.AF_INET6 {
			body = nlattr.Append(body, rtaIPProto, []byte{q.Proto})
		}
	}
	return body, nil
}

func (r *Reader) decodeRoute(ctx context.Context, data []byte) (node.Route, error) {
	var out node.Route
	if len(data) < unix.SizeofRtMsg {
		return out, errors.New("a short route message")
	}
	out.Type, out.Table = node.RouteType(data[7]), uint32(data[4])
	var encap []byte
	cloned, expires := binary.NativeEndian.Uint32(data[8:])&unix.RTM_F_CLONED != 0, false
	err := nlattr.Each(data[unix.SizeofRtMsg:], func(typ uint16, b []byte) error {
		switch typ {
		case unix.RTA_OIF, unix.RTA_TABLE:
			if len(b) < 4 {
				return fmt.Errorf("route attribute %d of %d bytes", typ, len(b))
			}
			v := binary.NativeEndian.Uint32(b)
			if typ == unix.RTA_TABLE {
				out.Table = v
				return nil
			}
			name, err := r.name(ctx, v)
			out.Out = name
			return err
		case unix.RTA_GATEWAY, unix.RTA_PREFSRC:
			a, ok := netip.AddrFromSlice(b)
			if !ok {
				return fmt.Errorf("a route address of %d bytes", len(b))
			}
			if typ == unix.RTA_GATEWAY {
				out.Gateway = a
			} else {
				out.PrefSrc = a
			}
		case unix.RTA_VIA:
			if len(b) > 2 {
				out.Gateway, _ = netip.AddrFromSlice(b[2:])
			}
		case unix.RTA_MULTIPATH:
			hops, err := r.nextHops(ctx, b)
			out.Hops = hops
			return err
		case unix.RTA_ENCAP:
			encap = b
		case unix.RTA_ENCAP_TYPE: // it comes behind RTA_ENCAP (lwtunnel_fill_encap)
			kind, err := encapKind(b)
			if err == nil {
				out.Encap, err = decodeEncap(kind, encap)
			}
			return err
		case unix.RTA_METRICS:
			return nlattr.Each(b, func(typ uint16, b []byte) error {
				if typ == unix.RTAX_MTU && len(b) >= 4 {
					out.MTU = int(binary.NativeEndian.Uint32(b))
				}
				return nil
			})
		case unix.RTA_CACHEINFO:
			// Of struct rta_cacheinfo, rta_expires: an exception that the kernel has learnt (rt_fill_info, rt6_fill_node).
			expires = len(b) >= 12 && binary.NativeEndian.Uint32(b[8:]) != 0
		}
		return nil
	})
	if cloned && expires {
		out.MTU, out.PathMTU = 0, out.MTU
	}
	return out, err
}

// nextHops reads the struct rtnexthop list of a multipath route.
func (r *Reader) nextHops(ctx context.Context, b []byte) ([]node.NextHop, error) {
	var out []node.NextHop
	for len(b) >= unix.SizeofRtNexthop {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) {
			return nil, fmt.Errorf("a next hop of %d bytes in %d", size, len(b))
		}
		name, err := r.name(ctx, binary.NativeEndian.Uint32(b[4:]))
		if err != nil {
			return nil, err
		}
		h := node.NextHop{Out: name, Weight: int(b[3]) + 1}
		err = nlattr.Each(b[unix.SizeofRtNexthop:size], func(typ uint16, b []byte) error {
			switch {
			case typ == unix.RTA_GATEWAY:
				h.Gateway, _ = netip.AddrFromSlice(b)
			case typ == unix.RTA_VIA && len(b) > 2:
				h.Gateway, _ = netip.AddrFromSlice(b[2:])
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		out = append(out, h)
		b = b[min((size+3)&^3, len(b)):]
	}
	return out, nil
}
