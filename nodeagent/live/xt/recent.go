//go:build linux

package xt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// recentDirs hold a file for each recent list: xt_recent since Linux 2.6.28, ipt_recent before.
var recentDirs = []string{"/proc/thread-self/net/xt_recent", "/proc/thread-self/net/ipt_recent"}

// maxRecentLine bounds a line: 255 stamps of 20 digits.
const maxRecentLine = 16 << 10

// Recent reads a recent list's addresses of one family. It returns node.ErrNotFound when there is no such list.
func (r *Reader) Recent(_ context.Context, list string, f skb.Family) ([]node.RecentEntry, error) {
	what := "the recent list " + list
	if list == "" || list == "." || list == ".." || strings.ContainsRune(list, filepath.Separator) {
		return nil, readError(what, "", node.ErrNotFound)
	}
	for _, dir := range recentDirs {
		file, err := os.Open(filepath.Join(dir, list))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, readError(what, "", err)
		}
		defer file.Close()
		now, err := jiffies()
		if err != nil {
			return nil, readError(what, "", err)
		}
		var out []node.RecentEntry
		lines := bufio.NewScanner(file)
		lines.Buffer(nil, maxRecentLine)
		size := 0
		for lines.Scan() {
			size += len(lines.Text()) + 1
			e, err := parseRecent(lines.Text(), now)
			if err != nil {
				return nil, readError(what, "", err)
			}
			if e.Addr.Is4() == (f == skb.IPv4) {
				out = append(out, e)
			}
		}
		if err := lines.Err(); err != nil {
			return nil, readError(what, "", err)
		}
		r.Count.Add(size)
		return out, nil
	}
	return nil, readError(what, "", node.ErrNotFound)
}

// clock tells the kernel's jiffies and how many there are in a second.
type clock struct{ now, hz uint64 }

// jiffies derives the kernel's tick counter. The tick's length is the resolution of the coarse clocks (KTIME_LOW_RES,
// kernel/time/posix-timers.c); the counter starts 300 s before it would wrap 32 bits (INITIAL_JIFFIES,
// include/linux/jiffies.h) and runs with the monotonic clock.
func jiffies() (clock, error) {
	var res, now unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &res); err != nil {
		return clock{}, fmt.Errorf("asking for the length of a tick: %w", err)
	}
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return clock{}, fmt.Errorf("reading the monotonic clock: %w", err)
	}
	tick := res.Nano()
	if tick <= 0 {
		return clock{}, fmt.Errorf("a tick of %d ns", tick)
	}
	hz := (1e9 + uint64(tick)/2) / uint64(tick)
	return clock{now: 1<<32 - 300*hz + uint64(now.Nano())/uint64(tick), hz: hz}, nil
}

// parseRecent reads a line of a recent list: "src=10.0.0.1 ttl: 64 last_seen: 4295 oldest_pkt: 2 4290, 4295". The number
// behind oldest_pkt is the place in the ring where the next stamp goes, so the newest stamp is the one before.
func parseRecent(line string, c clock) (node.RecentEntry, error) {
	var e node.RecentEntry
	fields := strings.Fields(line)
	if len(fields) < 8 || !strings.HasPrefix(fields[0], "src=") || fields[1] != "ttl:" || fields[5] != "oldest_pkt:" {
		return e, fmt.Errorf("cannot read %q", line)
	}
	addr, err := netip.ParseAddr(strings.TrimPrefix(fields[0], "src="))
	if err != nil {
		return e, fmt.Errorf("cannot read %q: %w", line, err)
	}
	ttl, err := strconv.ParseUint(fields[2], 10, 8)
	if err != nil {
		return e, fmt.Errorf("cannot read %q: %w", line, err)
	}
	next, err := strconv.ParseUint(fields[6], 10, 16)
	if err != nil {
		return e, fmt.Errorf("cannot read %q: %w", line, err)
	}
	e.Addr, e.TTL = addr, uint8(ttl)
	stamps := fields[7:]
	for i := range stamps {
		// Newest first: from next-1 down, around the ring.
		at := (int(next) - 1 - i + 2*len(stamps)) % len(stamps)
		if int(next) > len(stamps) {
			at = len(stamps) - 1 - i
		}
		stamp, err := strconv.ParseUint(strings.TrimSuffix(stamps[at], ","), 10, 64)
		if err != nil {
			return e, fmt.Errorf("cannot read %q: %w", line, err)
		}
		age := int64(0)
		if c.now > stamp {
			age = int64((c.now - stamp) * 1000 / c.hz)
		}
		e.AgesMillis = append(e.AgesMillis, age)
	}
	return e, nil
}
