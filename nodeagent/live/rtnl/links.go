//go:build linux

// Package rtnl reads interfaces, addresses and routes of a network namespace by rtnetlink, and asks the kernel for the
// route of a packet.
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

// Reader answers node.Links, node.Router and node.AddrTyper. It keeps interfaces, addresses and the local tables for its
// lifetime, so make a new one for each trace. It is not safe for concurrent use.
type Reader struct {
	sock  *nlsock.Socket
	links []node.Link
	addrs []node.Address
	local map[uint8][]localRoute
	// fib and fibErr are what lazyState read.
	fib    *fib.State
	fibErr error
	// merged is what mergedTables found out.
	merged *bool
}

// New opens a reader in the calling thread's network namespace. count may be nil.
func New(count *nlsock.Counter) (*Reader, error) {
	s, err := nlsock.Open(unix.NETLINK_ROUTE, count)
	if err != nil {
		return nil, err
	}
	return &Reader{sock: s}, nil
}

// Close closes the reader's socket.
func (r *Reader) Close() error { return r.sock.Close() }

// Links returns the interfaces, by index.
func (r *Reader) Links(ctx context.Context) ([]node.Link, error) {
	if r.links != nil {
		return r.links, nil
	}
	var out []node.Link
	body := make([]byte, unix.SizeofIfInfomsg)
	err := nlsock.Retry(ctx, func() { out = nil }, func() error {
		return r.sock.Do(ctx, unix.RTM_GETLINK, unix.NLM_F_DUMP, body, func(m nlsock.Message) error {
			if len(m.Data) < unix.SizeofIfInfomsg {
				return errors.New("a short interface message")
			}
			l := node.Link{
				Type:  binary.NativeEndian.Uint16(m.Data[2:]),
				Index: int(int32(binary.NativeEndian.Uint32(m.Data[4:]))),
				Flags: binary.NativeEndian.Uint32(m.Data[8:]), PeerNamespace: -1,
			}
			err := nlattr.Each(m.Data[unix.SizeofIfInfomsg:], func(typ uint16, b []byte) error { return linkAttr(&l, typ, b) })
			if l.Kind != "veth" {
				l.Peer, l.PeerNamespace = 0, -1
			}
			out = append(out, l)
			return err
		})
	})
	if err != nil {
		return nil, &node.ReadError{What: "network interfaces", Err: err}
	}
	r.links = out
	return out, nil
}

func linkAttr(l *node.Link, typ uint16, b []byte) error {
	switch typ {
	case unix.IFLA_IFNAME:
		l.Name = nlattr.Text(b)
	case unix.IFLA_QDISC:
		l.Qdisc = nlattr.Text(b)
	case unix.IFLA_MTU, unix.IFLA_MASTER, unix.IFLA_GROUP, unix.IFLA_LINK, unix.IFLA_LINK_NETNSID:
		if len(b) < 4 {
			return fmt.Errorf("interface attribute %d of %d bytes", typ, len(b))
		}
		v := binary.NativeEndian.Uint32(b)
		switch typ {
		case unix.IFLA_MTU:
			l.MTU = int(v)
		case unix.IFLA_MASTER:
			l.Master = int(v)
		case unix.IFLA_GROUP:
			l.Group = v
		case unix.IFLA_LINK:
			l.Peer = int(v)
		case unix.IFLA_LINK_NETNSID:
			l.PeerNamespace = int32(v)
		}
	case unix.IFLA_ADDRESS:
		l.HardwareAddr = append([]byte(nil), b...)
	case unix.IFLA_LINKINFO:
		return nlattr.Each(b, func(typ uint16, b []byte) error {
			switch typ {
			case unix.IFLA_INFO_KIND:
				l.Kind = nlattr.Text(b)
			case unix.IFLA_INFO_DATA:
				switch l.Kind {
				case "bridge":
					return bridgeData(l, b)
				case "vrf":
					return vrfData(l, b)
				}
				return tunnelData(l, b)
			case infoSlaveData:
				return nlattr.Each(b, func(typ uint16, b []byte) error {
					l.Hairpin = l.Hairpin || typ == brportMode && len(b) > 0 && b[0] != 0
					return nil
				})
			}
			return nil
		})
	}
	return nil
}

// Attributes of bridges and their ports (include/uapi/linux/if_link.h).
const (
	infoSlaveData     = 5
	brNFCallIPTables  = 36
	brNFCallIP6Tables = 37
	brportMode        = 4
)

func bridgeData(l *node.Link, b []byte) error {
	return nlattr.Each(b, func(typ uint16, b []byte) error {
		on := len(b) > 0 && b[0] != 0
		switch typ {
		case brNFCallIPTables:
			l.CallIPTables = on
		case brNFCallIP6Tables:
			l.CallIP6Tables = on
		}
		return nil
	})
}

// vrfTable is IFLA_VRF_TABLE.
const vrfTable = 1

func vrfData(l *node.Link, b []byte) error {
	return nlattr.Each(b, func(typ uint16, b []byte) error {
		if typ == vrfTable && len(b) >= 4 {
			l.VRFTable = binary.NativeEndian.Uint32(b)
		}
		return nil
	})
}

// Addresses returns the addresses of all interfaces, in the kernel's order.
func (r *Reader) Addresses(ctx context.Context) ([]node.Address, error) {
	if r.addrs != nil {
		return r.addrs, nil
	}
	var out []node.Address
	body := make([]byte, unix.SizeofIfAddrmsg)
	err := nlsock.Retry(ctx, func() { out = nil }, func() error {
		return r.sock.Do(ctx, unix.RTM_GETADDR, unix.NLM_F_DUMP, body, func(m nlsock.Message) error {
			a, ok, err := decodeAddress(m.Data)
			if ok {
				out = append(out, a)
			}
			return err
		})
	})
	if err != nil {
		return nil, &node.ReadError{What: "interface addresses", Err: err}
	}
	r.addrs = out
	return out, nil
}

func decodeAddress(data []byte) (a node.Address, ok bool, err error) {
	if len(data) < unix.SizeofIfAddrmsg {
		return a, false, errors.New("a short address message")
	}
	if data[0] != unix.AF_INET && data[0] != unix.AF_INET6 {
		return a, false, nil
	}
	bits := int(data[1])
	a.Flags, a.Scope, a.Link = uint32(data[2]), data[3], int(binary.NativeEndian.Uint32(data[4:]))
	var local, address netip.Addr
	err = nlattr.Each(data[unix.SizeofIfAddrmsg:], func(typ uint16, b []byte) error {
		switch typ {
		case unix.IFA_LOCAL, unix.IFA_ADDRESS:
			ip, ok := netip.AddrFromSlice(b)
			if !ok {
				return fmt.Errorf("an interface address of %d bytes", len(b))
			}
			if typ == unix.IFA_LOCAL {
				local = ip
			} else {
				address = ip
			}
		case unix.IFA_FLAGS:
			if len(b) >= 4 {
				a.Flags = binary.NativeEndian.Uint32(b)
			}
		}
		return nil
	})
	if err != nil {
		return a, false, err
	}
	if !local.IsValid() {
		local = address
	}
	if !local.IsValid() {
		return a, false, nil
	}
	if address.IsValid() && address != local {
		a.Peer = address
	}
	a.Prefix = netip.PrefixFrom(local, bits)
	return a, a.Prefix.IsValid(), nil
}

func (r *Reader) index(ctx context.Context, name string) (uint32, error) {
	links, err := r.Links(ctx)
	if err != nil {
		return 0, err
	}
	for _, l := range links {
		if l.Name == name {
			return uint32(l.Index), nil
		}
	}
	return 0, fmt.Errorf("interface %q: %w", name, node.ErrNotFound)
}

func (r *Reader) name(ctx context.Context, index uint32) (string, error) {
	links, err := r.Links(ctx)
	if err != nil {
		return "", err
	}
	for _, l := range links {
		if uint32(l.Index) == index {
			return l.Name, nil
		}
	}
	return "", fmt.Errorf("interface with index %d: %w", index, node.ErrNotFound)
}
