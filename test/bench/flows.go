//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// What is to be reached when the flows of one Service are read.
const (
	flowsShare    = 15 // conntrack -L takes so many times as long
	flowsMemoryMB = 40
)

// flowRow is what was measured of one table of flows.
type flowRow struct {
	flowState
	agent, plain, tool usage // plain is the agent without BPF
	// chosen and plainChosen tell how the agent chose.
	chosen, plainChosen wire.FlowChoice
}

// measureFlows makes a table of flows in a namespace of its own, and has the agent list those of one Service, with BPF and
// without, in turn with conntrack -L, which lists all.
func measureFlows(ctx context.Context, p *programs, s flowState, runs int, progress io.Writer) (row flowRow, err error) {
	restore, err := allowFlows(s.flows)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, restore()) }()
	err = inNamespace(ctx, func() error {
		fmt.Fprintf(progress, "%d flows, %s: making them\n", s.flows, s.family)
		start := time.Now()
		if err := s.make(ctx); err != nil {
			return err
		}
		fmt.Fprintf(progress, "  made in %v; measuring\n", time.Since(start).Round(time.Second))
		var err error
		row, err = s.measure(ctx, p, min(runs, few))
		return err
	})
	return row, err
}

func (s flowState) measure(ctx context.Context, p *programs, runs int) (flowRow, error) {
	r := flowRow{flowState: s}
	asked, answered, listed := filepath.Join(p.dir, "asked"), filepath.Join(p.dir, "answered"), filepath.Join(p.dir, "listed")
	f, err := os.Create(asked)
	if err != nil {
		return r, err
	}
	err = wire.Write(f, wire.Request{ID: 1, Flows: &wire.FlowsRequest{Protocol: "tcp", Destinations: []netip.AddrPort{s.target()}}})
	if err := errors.Join(err, f.Close()); err != nil {
		return r, err
	}
	defer os.Remove(listed)
	// As the plugin asks: by standard input. The shell becomes the agent.
	agent := []string{"/bin/sh", "-c", `exec "$0" serve <"$1"`, p.agent, asked}
	plain := []string{"/bin/sh", "-c", `exec "$0" serve --no-bpf <"$1"`, p.agent, asked}
	var agents, plains, tools []usage
	for range runs {
		u, err := p.once(ctx, answered, agent)
		if err != nil {
			return r, err
		}
		agents = append(agents, u)
		if r.chosen, err = s.checkAnswer(answered); err != nil {
			return r, err
		}
		if u, err = p.once(ctx, answered, plain); err != nil {
			return r, err
		}
		plains = append(plains, u)
		if r.plainChosen, err = s.checkAnswer(answered); err != nil {
			return r, err
		}
		if u, err = p.once(ctx, listed, []string{"conntrack", "-L", "-f", s.family}); err != nil {
			return r, err
		}
		tools = append(tools, u)
		if err := s.checkList(listed); err != nil {
			return r, err
		}
	}
	r.agent, r.plain, r.tool = median(agents), median(plains), median(tools)
	return r, nil
}

// checkAnswer returns an error when the agent's answer is not the flows of the one Service, all of them. It returns how the
// agent chose them.
func (s flowState) checkAnswer(file string) (wire.FlowChoice, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var h wire.Hello
	if err := wire.Read(f, &h); err != nil {
		return "", err
	}
	var a wire.Answer
	if err := wire.Read(f, &a); err != nil {
		return "", err
	}
	if a.Error != nil {
		return "", a.Error
	}
	want := s.flows / s.services()
	if a.Flows == nil || len(a.Flows.Flows) != want || a.Flows.Total != want {
		return "", fmt.Errorf("the agent lists other than %d flows: %+v", want, a.Flows)
	}
	zoned := map[uint16]int{}
	for _, f := range a.Flows.Flows {
		zoned[f.Zone]++
		if f.Destination != s.target() || f.State != "ESTABLISHED" || f.ReplySource.Port() != 8080 || f.ReplyDestination != f.Source {
			return "", fmt.Errorf("no flow of %s: %+v", s.target(), f)
		}
	}
	if len(zoned) != zones || len(a.Flows.Chosen) != 1 {
		return "", fmt.Errorf("flows in zones %v, chosen by %v", zoned, a.Flows.Chosen)
	}
	return a.Flows.Chosen[0], nil
}

// checkList returns an error when conntrack did not list every flow.
func (s flowState) checkList(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if n := strings.Count(string(b), "\n"); n < s.flows {
		return fmt.Errorf("conntrack lists %d flows of %d", n, s.flows)
	}
	return nil
}
