//go:build linux

package xt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

// Messages and attributes of include/uapi/linux/netfilter/nfnetlink_acct.h.
const (
	acctSubsys    = unix.NFNL_SUBSYS_ACCT
	acctGet       = 1 // NFNL_MSG_ACCT_GET
	acctName      = 1 // NFACCT_NAME
	acctFlags     = 5 // NFACCT_FLAGS
	acctOverQuota = 4 // NFACCT_F_OVERQUOTA
	acctQuotaAny  = 3 // NFACCT_F_QUOTA_PKTS, NFACCT_F_QUOTA_BYTES
)

// Account reads an nfacct object. It returns node.ErrNotFound when there is none.
func (r *Reader) Account(ctx context.Context, name string) (xtables.Account, error) {
	var a xtables.Account
	body := nfgenmsg(unix.AF_UNSPEC)
	body = nlattr.Append(body, acctName, append([]byte(name), 0))
	err := r.do(ctx, acctSubsys, acctGet, body, func(attrs []byte) error {
		return nlattr.Each(attrs, func(typ uint16, data []byte) error {
			if typ != acctFlags {
				return nil
			}
			if len(data) < 4 {
				return fmt.Errorf("flags of %d bytes", len(data))
			}
			flags := binary.BigEndian.Uint32(data)
			a.HasQuota, a.OverQuota = flags&acctQuotaAny != 0, flags&acctOverQuota != 0
			return nil
		})
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		err = node.ErrNotFound
	}
	if err != nil {
		return a, readError("the nfacct object "+name, "CAP_NET_ADMIN", err)
	}
	return a, nil
}

// do sends one nfnetlink request and gives each answer's attributes to f.
func (r *Reader) do(ctx context.Context, subsys, msg int, body []byte, f func(attrs []byte) error) error {
	return r.request(ctx, subsys, msg, 0, body, f)
}

// dump sends a request whose answer is a dump.
func (r *Reader) dump(ctx context.Context, subsys, msg int, body []byte, f func(attrs []byte) error) error {
	return r.request(ctx, subsys, msg, unix.NLM_F_DUMP, body, f)
}

func (r *Reader) request(ctx context.Context, subsys, msg int, flags uint16, body []byte, f func(attrs []byte) error) error {
	if r.netlink == nil {
		s, err := nlsock.Open(unix.NETLINK_NETFILTER, r.Count)
		if err != nil {
			return err
		}
		r.netlink = s
	}
	return r.netlink.Do(ctx, uint16(subsys)<<8|uint16(msg), flags, body, func(m nlsock.Message) error {
		if f != nil && len(m.Data) >= 4 {
			return f(m.Data[4:])
		}
		return nil
	})
}

// nfgenmsg is struct nfgenmsg.
func nfgenmsg(family uint8) []byte { return []byte{family, unix.NFNETLINK_V0, 0, 0} }
