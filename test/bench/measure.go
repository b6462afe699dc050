//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// row is what was measured of one state.
type row struct {
	state
	agent, floor, dump usage
	// plain is the agent without BPF, and all the floor with the headers of all chains; both are zero for a backend without
	// chains.
	plain, all usage
	reads      trace.Reads
	// size is the size of the legacy tables.
	size int64
}

// A program that takes this long is measured only a few times, or once.
const (
	long     = 500 * time.Millisecond
	veryLong = 5 * time.Second
	few      = 5
)

// measureState makes a state in a namespace of its own and measures in it.
func measureState(ctx context.Context, p *programs, s state, runs int, progress io.Writer) (row, error) {
	var r row
	err := inNamespace(ctx, func() error {
		start := time.Now()
		fmt.Fprintf(progress, "%s, %d Services: making the state\n", s.backend, s.services)
		if err := s.make(ctx, p); err != nil {
			return err
		}
		fmt.Fprintf(progress, "  made in %v; measuring\n", time.Since(start).Round(time.Second))
		var err error
		r, err = s.measure(ctx, p, runs)
		return err
	})
	return r, err
}

func (s state) measure(ctx context.Context, p *programs, runs int) (row, error) {
	r := row{state: s}
	dumped, traced := filepath.Join(p.dir, "dump"), filepath.Join(p.dir, "trace")
	defer os.Remove(dumped)
	first, err := p.once(ctx, dumped, s.dump())
	if err != nil {
		return r, err
	}
	target, err := s.target(dumped)
	if err != nil {
		return r, err
	}
	agent := []string{p.agent, "packet", "--from", clientAddress, "--sport", clientPort, "--to", target.String(), "--in", podInterface, "-o", "json"}
	warm, err := p.once(ctx, traced, agent)
	if err != nil {
		return r, err
	}
	t, err := readTrace(traced, s.backend, target)
	if err != nil {
		return r, err
	}
	r.reads = t.Reads
	if s.backend == iptablesLegacy {
		r.size = t.Reads.Bytes // nearly all of it is tables
	}
	floor := append([]string{p.floor, "nft"}, path(t)...)
	all := append(slices.Clone(floor), "2") // NFPROTO_IPV4
	plain := append(slices.Clone(agent), "--no-bpf")
	if s.backend == iptablesLegacy {
		floor, all, plain = []string{p.floor, "legacy", "nat"}, nil, nil
	}
	if t.Reads.Hooks != trace.HooksListed {
		return r, errors.New("the kernel's lists of hooks could not be read")
	}
	if warm.wall > long {
		runs = min(runs, few)
	}
	agents, floors, plains, alls, dumps := []usage{}, []usage{}, []usage{}, []usage{}, []usage{first}
	dumpRuns := runs
	switch {
	case first.wall > veryLong:
		dumpRuns = 1
	case first.wall > long:
		dumpRuns = few
	}
	for i := range runs {
		for _, m := range []struct {
			command []string
			to      *[]usage
		}{{agent, &agents}, {floor, &floors}, {plain, &plains}, {all, &alls}} {
			if m.command == nil {
				continue
			}
			u, err := p.once(ctx, traced, m.command)
			if err != nil {
				return r, err
			}
			*m.to = append(*m.to, u)
		}
		if i > 0 && i < dumpRuns {
			u, err := p.once(ctx, dumped, s.dump())
			if err != nil {
				return r, err
			}
			dumps = append(dumps, u)
		}
	}
	r.agent, r.floor, r.dump = median(agents), median(floors), median(dumps)
	if all != nil {
		r.plain, r.all = median(plains), median(alls)
	}
	return r, nil
}

// readTrace reads the agent's answer, and makes sure that it is the right one.
func readTrace(file string, b backend, target netip.AddrPort) (*trace.Trace, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	t := &trace.Trace{}
	if err := json.Unmarshal(data, t); err != nil {
		return nil, err
	}
	return t, check(t, b, target)
}
