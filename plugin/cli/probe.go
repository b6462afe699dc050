package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/launch"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// Bounds of probes: the wait for each connection's answer, and the time for all of them, which is less than the minute
// that agent pods outlive --timeout by.
const (
	probeTimeout = 2 * time.Second
	probesLimit  = 50 * time.Second
)

// probeFlag is --probe.
type probeFlag struct {
	count int
	cmd   *cobra.Command
}

func (f *probeFlag) add(cmd *cobra.Command) {
	f.cmd = cmd
	cmd.Flags().IntVar(&f.count, "probe", 0, fmt.Sprintf("Also open so many real connections from each client inside the cluster to each access path, up to %d, and compare. This sends packets.", wire.MaxProbes))
	cmd.Flags().Lookup("probe").NoOptDefVal = "1"
}

// value is the number of connections, 0 for none.
func (f *probeFlag) value() (int, error) {
	if f.cmd.Flags().Changed("probe") && (f.count < 1 || f.count > wire.MaxProbes) {
		return 0, usagef("", "--probe=%d: use 1 to %d", f.count, wire.MaxProbes)
	}
	return f.count, nil
}

// probeAll opens real connections where --probe asks for them, on all nodes at once, and compares them with the walks.
func (o *runOptions) probeAll(ctx context.Context, fleet *launch.Fleet, a *render.Answer) error {
	if o.probe == 0 {
		return nil
	}
	walks := 0
	for _, n := range a.Nodes {
		for i := range n.Walks {
			if survey.Probeable(&n.Walks[i]) {
				walks++
			}
		}
	}
	fmt.Fprintf(o.ErrOut, "probe: sending packets: %s for each of %s\n", count(o.probe, "real connection"), count(walks, "client and access path"))
	ctx, cancel := context.WithTimeout(ctx, probesLimit)
	defer cancel()
	found, errs := make([][]survey.Probe, len(a.Nodes)), make([]error, len(a.Nodes))
	var wg sync.WaitGroup
	for i, n := range a.Nodes {
		wg.Go(func() {
			agent, err := fleet.Agent(ctx, n.Name)
			if err == nil {
				found[i], err = survey.Probes(ctx, agent, n, o.probe, probeTimeout)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	a.Probes = []survey.Probe{}
	for i := range found {
		if errs[i] != nil {
			return fmt.Errorf("probing from node %s: %w", a.Nodes[i].Name, errors.Join(errs[i], context.Cause(ctx)))
		}
		a.Probes = append(a.Probes, found[i]...)
	}
	a.Report.AddProbes(a.Model, a.Probes)
	return nil
}
