//go:build linux

package rtnl

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// neighbour is one RTM_NEWNEIGH message.
type neighbour struct {
	family byte
	index  int
	state  uint16
	dst    netip.Addr
	lladdr []byte
	master int
	port   uint16
}

func (r *Reader) dumpNeighbours(ctx context.Context, family byte) ([]neighbour, error) {
	var out []neighbour
	body := make([]byte, unix.SizeofNdMsg)
	body[0] = family
	err := nlsock.Retry(ctx, func() { out = nil }, func() error {
		return r.sock.Do(ctx, unix.RTM_GETNEIGH, unix.NLM_F_DUMP, body, func(m nlsock.Message) error {
			if len(m.Data) < unix.SizeofNdMsg {
				return errors.New("a short neighbour message")
			}
			n := neighbour{family: m.Data[0], index: int(int32(binary.NativeEndian.Uint32(m.Data[4:]))), state: binary.NativeEndian.Uint16(m.Data[8:])}
			err := nlattr.Each(m.Data[unix.SizeofNdMsg:], func(typ uint16, b []byte) error {
				switch typ {
				case unix.NDA_DST:
					n.dst, _ = netip.AddrFromSlice(b)
				case unix.NDA_LLADDR:
					n.lladdr = append([]byte(nil), b...)
				case unix.NDA_PORT:
					if len(b) >= 2 {
						n.port = binary.BigEndian.Uint16(b)
					}
				case unix.NDA_MASTER:
					if len(b) >= 4 {
						n.master = int(binary.NativeEndian.Uint32(b))
					}
				}
				return nil
			})
			out = append(out, n)
			return err
		})
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil // no bridges in this kernel
	}
	return out, err
}

// Neighbours returns the entries of the IPv4 and IPv6 neighbour tables that have a hardware address.
func (r *Reader) Neighbours(ctx context.Context) ([]node.Neighbour, error) {
	var out []node.Neighbour
	for _, f := range []byte{unix.AF_INET, unix.AF_INET6} {
		list, err := r.dumpNeighbours(ctx, f)
		if err != nil {
			return nil, &node.ReadError{What: "the neighbour table", Err: err}
		}
		for _, n := range list {
			if n.dst.IsValid() && len(n.lladdr) > 0 && n.state&(unix.NUD_FAILED|unix.NUD_INCOMPLETE) == 0 {
				out = append(out, node.Neighbour{Link: n.index, Addr: n.dst, HardwareAddr: n.lladdr})
			}
		}
	}
	return out, nil
}

// BridgePort returns the port behind which a bridge's forwarding database has a hardware address, or "".
func (r *Reader) BridgePort(ctx context.Context, bridge int, hw []byte) (string, error) {
	list, err := r.dumpNeighbours(ctx, unix.AF_BRIDGE)
	if err != nil {
		return "", &node.ReadError{What: "the bridge's forwarding database", Err: err}
	}
	for _, n := range list {
		if n.master == bridge && n.index != bridge && bytes.Equal(n.lladdr, hw) {
			return r.name(ctx, uint32(n.index))
		}
	}
	return "", nil
}

// TunnelRemote returns where a tunnel interface sends frames for a hardware address: the entry for it, else that for all
// addresses (00:00:00:00:00:00).
func (r *Reader) TunnelRemote(ctx context.Context, link int, hw []byte) (netip.Addr, uint16, error) {
	list, err := r.dumpNeighbours(ctx, unix.AF_BRIDGE)
	if err != nil {
		return netip.Addr{}, 0, &node.ReadError{What: "the tunnel's forwarding database", Err: err}
	}
	var fallback neighbour
	for _, n := range list {
		if n.index != link || !n.dst.IsValid() {
			continue
		}
		if len(hw) > 0 && bytes.Equal(n.lladdr, hw) {
			return n.dst, n.port, nil
		}
		if len(bytes.Trim(n.lladdr, "\x00")) == 0 && !fallback.dst.IsValid() {
			fallback = n
		}
	}
	return fallback.dst, fallback.port, nil
}
