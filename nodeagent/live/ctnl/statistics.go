//go:build linux

package ctnl

import (
	"context"
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// Attributes of a CPU's statistics (enum ctattr_stats_cpu, include/uapi/linux/netfilter/nfnetlink_conntrack.h).
const (
	statInvalid      = 4
	statInsertFailed = 9
	statDrop         = 10
	statEarlyDrop    = 11
)

// Statistics sums the counters of all CPUs (IPCTNL_MSG_CT_GET_STATS_CPU), as conntrack -S lists them.
func (r *Reader) Statistics(ctx context.Context) (wire.ConntrackStatistics, error) {
	const msgStatsCPU = unix.NFNL_SUBSYS_CTNETLINK<<8 | 4
	var out wire.ConntrackStatistics
	err := nlsock.Retry(ctx, func() { out = wire.ConntrackStatistics{} }, func() error {
		return r.sock.Do(ctx, msgStatsCPU, unix.NLM_F_DUMP, []byte{unix.AF_UNSPEC, 0, 0, 0}, func(m nlsock.Message) error {
			if len(m.Data) < genmsgSize {
				return errors.New("a short conntrack statistics message")
			}
			return nlattr.Each(m.Data[genmsgSize:], func(typ uint16, b []byte) error {
				if len(b) < 4 {
					return nil
				}
				v := uint64(binary.BigEndian.Uint32(b))
				switch typ {
				case statInvalid:
					out.Invalid += v
				case statInsertFailed:
					out.InsertFailed += v
				case statDrop:
					out.Drop += v
				case statEarlyDrop:
					out.EarlyDrop += v
				}
				return nil
			})
		})
	})
	if err != nil {
		return wire.ConntrackStatistics{}, readError(err)
	}
	return out, nil
}
