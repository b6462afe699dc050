//go:build linux

package rtnl

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// fraIIFName is FRA_IIFNAME (include/uapi/linux/fib_rules.h).
const fraIIFName = 3

// SourceRules tells whether a policy rule of the family looks at a packet's source or input interface.
func (r *Reader) SourceRules(ctx context.Context, ipv6 bool) (bool, error) {
	family := byte(unix.AF_INET)
	if ipv6 {
		family = unix.AF_INET6
	}
	found := false
	body := make([]byte, unix.SizeofRtMsg) // struct fib_rule_hdr has the same size
	body[0] = family
	err := nlsock.Retry(ctx, func() { found = false }, func() error {
		return r.sock.Do(ctx, unix.RTM_GETRULE, unix.NLM_F_DUMP, body, func(m nlsock.Message) error {
			if len(m.Data) < unix.SizeofRtMsg {
				return errors.New("a short policy rule message")
			}
			found = found || m.Data[2] != 0 // src_len
			return nlattr.Each(m.Data[unix.SizeofRtMsg:], func(typ uint16, _ []byte) error {
				found = found || typ == fraIIFName
				return nil
			})
		})
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return false, nil // a kernel without policy routing
	}
	if err != nil {
		return false, &node.ReadError{What: "the policy routing rules", Err: err}
	}
	return found, nil
}
