//go:build linux

package wgnl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

const (
	familyName    = "wireguard" // WG_GENL_NAME
	familyVersion = 1           // WG_GENL_VERSION
	getDevice     = 0           // WG_CMD_GET_DEVICE
)

// Reader answers node.WireGuards. It is not safe for concurrent use.
type Reader struct{ sock *nlsock.Socket }

// New opens a reader in the calling thread's network namespace. count may be nil.
func New(count *nlsock.Counter) (*Reader, error) {
	s, err := nlsock.Open(unix.NETLINK_GENERIC, count)
	if err != nil {
		return nil, err
	}
	return &Reader{s}, nil
}

// Close closes the reader's socket.
func (r *Reader) Close() error { return r.sock.Close() }

// WireGuard reads a device by its interface index. Where the kernel has no WireGuard of its own it returns
// node.ErrNotSupported: another program (wireguard-go, boringtun) then holds the peers.
func (r *Reader) WireGuard(ctx context.Context, index int) (node.WireGuardDevice, error) {
	fail := func(err error) error {
		e := &node.ReadError{What: "the peers of a WireGuard interface", Err: err}
		if errors.Is(err, unix.EPERM) {
			e.Needs, e.Err = "CAP_NET_ADMIN", node.ErrPermission
		}
		return e
	}
	family, err := r.family(ctx)
	if err != nil {
		return node.WireGuardDevice{}, fail(err)
	}
	body := nlattr.Append([]byte{getDevice, familyVersion, 0, 0}, deviceIndex, nlattr.Uint32(uint32(index)))
	var d node.WireGuardDevice
	err = nlsock.Retry(ctx, func() { d = node.WireGuardDevice{} }, func() error {
		return r.sock.Do(ctx, family, unix.NLM_F_DUMP, body, func(m nlsock.Message) error { return add(&d, m.Data) })
	})
	switch {
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.EOPNOTSUPP):
		return d, fail(fmt.Errorf("%w: %w", node.ErrNotFound, err))
	case err != nil:
		return d, fail(err)
	}
	return d, nil
}

// family asks for the number of the WireGuard family (include/uapi/linux/genetlink.h).
func (r *Reader) family(ctx context.Context) (uint16, error) {
	body := nlattr.Append([]byte{unix.CTRL_CMD_GETFAMILY, 1, 0, 0}, unix.CTRL_ATTR_FAMILY_NAME, append([]byte(familyName), 0))
	var id uint16
	err := r.sock.Do(ctx, unix.GENL_ID_CTRL, 0, body, func(m nlsock.Message) error {
		if len(m.Data) < genlHeader {
			return errors.New("a short message about a netlink family")
		}
		return nlattr.Each(m.Data[genlHeader:], func(typ uint16, b []byte) error {
			if typ == unix.CTRL_ATTR_FAMILY_ID && len(b) >= 2 {
				id = binary.NativeEndian.Uint16(b)
			}
			return nil
		})
	})
	switch {
	case errors.Is(err, unix.ENOENT):
		return 0, fmt.Errorf("%w: it has no WireGuard", node.ErrNotSupported)
	case err != nil:
		return 0, err
	case id == 0:
		return 0, errors.New("the netlink family of WireGuard has no number")
	}
	return id, nil
}
