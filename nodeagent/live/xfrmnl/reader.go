//go:build linux

// Package xfrmnl reads IPsec's policies (XFRM) by netlink.
package xfrmnl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/procfile"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// Messages and attributes (include/uapi/linux/xfrm.h).
const (
	msgGetPolicy  = 0x15
	msgGetSPDInfo = 0x25
	msgGetDefault = 0x28

	attrSPDInfo = 1
)

// defaultBlock is XFRM_USERPOLICY_BLOCK; an older kernel tells nothing, which is accept.
const defaultBlock = 1

// Reader answers node.IPsec. It keeps the policies for its lifetime, and is not safe for concurrent use.
type Reader struct {
	count *nlsock.Counter
	read  *node.IPsecPolicies
}

// New returns a reader, which opens its socket in the namespace of the thread that first asks. count may be nil.
func New(count *nlsock.Counter) *Reader { return &Reader{count: count} }

// IPsec returns the policies. A kernel without XFRM has none.
func (r *Reader) IPsec(ctx context.Context) (*node.IPsecPolicies, error) {
	if r.read != nil {
		return r.read, nil
	}
	there, err := served()
	if err != nil {
		return nil, fail(err)
	}
	if !there {
		r.read = &node.IPsecPolicies{}
		return r.read, nil
	}
	sock, err := nlsock.Open(unix.NETLINK_XFRM, r.count)
	if err != nil {
		return nil, fail(err)
	}
	defer sock.Close()
	p, err := read(ctx, sock)
	if err != nil {
		return nil, fail(err)
	}
	r.read = p
	return p, nil
}

// served tells whether the kernel has what answers about policies, and so policies. To ask it would load that module.
func served() (bool, error) {
	sockets, err := procfile.Read("/proc/thread-self/net/netlink")
	if err != nil {
		return false, err
	}
	return listed(string(sockets)), nil
}

// listed looks for the kernel's own socket of the protocol, which has port 0.
func listed(sockets string) bool {
	for line := range strings.Lines(sockets) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == strconv.Itoa(unix.NETLINK_XFRM) && f[2] == "0" {
			return true
		}
	}
	return false
}

func fail(err error) error {
	e := &node.ReadError{What: "the IPsec policies", Err: err}
	if errors.Is(err, unix.EPERM) {
		e.Needs, e.Err = "CAP_NET_ADMIN", fmt.Errorf("%w: %w", node.ErrPermission, err)
	}
	return e
}

func read(ctx context.Context, sock *nlsock.Socket) (*node.IPsecPolicies, error) {
	out := &node.IPsecPolicies{}
	some := false
	err := sock.Get(ctx, msgGetSPDInfo, make([]byte, 4), func(m nlsock.Message) (err error) {
		some, err = counted(m.Data)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = sock.Get(ctx, msgGetDefault, make([]byte, 3), func(m nlsock.Message) error {
		if len(m.Data) < 3 {
			return fmt.Errorf("the default policies in %d bytes", len(m.Data))
		}
		out.BlockIn, out.BlockForward, out.BlockOut = m.Data[0] == defaultBlock, m.Data[1] == defaultBlock, m.Data[2] == defaultBlock
		return nil
	})
	if err != nil && !errors.Is(err, unix.EINVAL) { // before Linux 5.14
		return nil, err
	}
	if !some {
		return out, nil
	}
	err = nlsock.Retry(ctx, func() { out.Policies = nil }, func() error {
		return sock.Do(ctx, msgGetPolicy, unix.NLM_F_DUMP, nil, func(m nlsock.Message) error {
			p, ok, err := decode(m.Data)
			if ok {
				out.Policies = append(out.Policies, p)
			}
			return err
		})
	})
	return out, err
}

// counted tells whether there are policies other than those of single sockets (struct xfrmu_spdinfo).
func counted(b []byte) (some bool, err error) {
	if len(b) < 4 {
		return false, fmt.Errorf("the number of policies in %d bytes", len(b))
	}
	told := false
	err = nlattr.Each(b[4:], func(typ uint16, b []byte) error {
		if typ != attrSPDInfo {
			return nil
		}
		if len(b) < 12 {
			return fmt.Errorf("the numbers of policies in %d bytes", len(b))
		}
		told = true
		for i := 0; i < 12; i += 4 {
			some = some || binary.NativeEndian.Uint32(b[i:]) != 0
		}
		return nil
	})
	if err == nil && !told {
		err = errors.New("the kernel does not tell the number of policies")
	}
	return some, err
}
