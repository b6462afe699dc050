//go:build linux

package probe

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// tick bounds how long a probe does not notice that it is to end.
const tick = 100 * time.Millisecond

// wait polls connections and trace events until every connection has a result or its time is over.
func (s *session) wait(ctx context.Context, group []*attempt) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		var (
			fds   []unix.PollFd
			open  []*attempt
			pause = tick
		)
		for _, a := range group {
			if a.done {
				continue
			}
			left := s.timeout - time.Since(a.started)
			if left <= 0 {
				a.out.By = a.refusal()
				a.finish(wire.ProbeTimeout)
				continue
			}
			pause = min(pause, left)
			open = append(open, a)
			fds = append(fds, unix.PollFd{Fd: int32(a.fd), Events: a.events()})
		}
		if len(open) == 0 {
			return s.drain()
		}
		for _, p := range s.places {
			if p.watch != nil {
				fds = append(fds, unix.PollFd{Fd: int32(p.watch.events.FD()), Events: unix.POLLIN})
			}
		}
		if _, err := unix.Poll(fds, int(pause.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("poll", err)
		}
		for i, a := range open {
			if fds[i].Revents != 0 {
				a.ready()
			}
		}
		if err := s.drain(); err != nil {
			return err
		}
	}
}
