//go:build linux

package sockdiag

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// ListenCounters reads the counters of the calling thread's network namespace.
func (r *Reader) ListenCounters(context.Context) (node.ListenCounters, error) {
	const file = "/proc/thread-self/net/netstat"
	f, err := os.Open(file)
	if err != nil {
		return node.ListenCounters{}, &node.ReadError{What: "counters of TCP", Err: err}
	}
	defer f.Close()
	c, size, err := parseNetstat(f)
	if err != nil {
		return c, &node.ReadError{What: file, Err: err}
	}
	r.count.Add(size)
	return c, nil
}

// maxNetstatLine bounds a line: a kernel has a few hundred counters.
const maxNetstatLine = 64 << 10

// parseNetstat reads the two TcpExt lines, names and then values.
func parseNetstat(in io.Reader) (c node.ListenCounters, size int, err error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxNetstatLine)
	var names []string
	for lines.Scan() {
		size += len(lines.Text()) + 1
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || fields[0] != "TcpExt:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		if len(names) != len(fields) {
			return c, size, fmt.Errorf("%d names and %d values", len(names), len(fields))
		}
		for name, to := range map[string]*uint64{"ListenOverflows": &c.Overflows, "ListenDrops": &c.Drops} {
			at := slices.Index(names, name)
			if at < 0 {
				return c, size, fmt.Errorf("no counter %s", name)
			}
			if *to, err = strconv.ParseUint(fields[at], 10, 64); err != nil {
				return c, size, fmt.Errorf("counter %s: %w", name, err)
			}
		}
		return c, size, nil
	}
	if err := lines.Err(); err != nil {
		return c, size, err
	}
	return c, size, errors.New("no counters of TCP")
}
