//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	runs := flags.Int("runs", 9, "runs of each program; the longest ones run less often")
	nft := flags.String("nftables", "500,1000,2000,5000", "numbers of Services in nftables mode")
	xtNFT := flags.String("iptables-nft", "1000,5000,10000", "numbers of Services in iptables mode with the nft variant")
	legacy := flags.String("iptables-legacy", "1000,5000,10000", "numbers of Services in iptables mode with the legacy variant")
	flows := flags.String("flows", "500000", "numbers of flows in a connection tracking table")
	file := flags.String("o", "", "write the page there too")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	var states []state
	for _, b := range []struct {
		backend backend
		sizes   string
	}{{nftables, *nft}, {iptablesNFT, *xtNFT}, {iptablesLegacy, *legacy}} {
		sizes, err := parseSizes(b.sizes)
		if err != nil {
			return fmt.Errorf("-%s: %w", b.backend, err)
		}
		for _, n := range sizes {
			states = append(states, state{b.backend, n})
		}
	}
	tables, err := parseFlows(*flows)
	if err != nil {
		return fmt.Errorf("-flows: %w", err)
	}
	for _, s := range tables { // it would be a pity to learn at the end that this may not be
		restore, err := allowFlows(s.flows)
		if err != nil {
			return fmt.Errorf("-flows %d: %w", s.flows, err)
		}
		if err := restore(); err != nil {
			return err
		}
	}
	p, err := build(ctx, progress)
	if err != nil {
		return err
	}
	defer p.remove()
	begun, err := measureStarts(ctx, p, *runs)
	if err != nil {
		return fmt.Errorf("starting the programs: %w", err)
	}
	var rows []row
	for _, s := range states {
		r, err := measureState(ctx, p, s, *runs, progress)
		if err != nil {
			return fmt.Errorf("%s with %d Services: %w", s.backend, s.services, err)
		}
		rows = append(rows, r)
	}
	var flowRows []flowRow
	for _, s := range tables {
		r, err := measureFlows(ctx, p, s, *runs, progress)
		if err != nil {
			return fmt.Errorf("%d flows, %s: %w", s.flows, s.family, err)
		}
		flowRows = append(flowRows, r)
	}
	page := flowsReport(flowRows)
	if len(rows) > 0 {
		page = report(begun, rows) + page
	}
	if _, err := io.WriteString(out, page); err != nil {
		return err
	}
	if *file == "" {
		return nil
	}
	return os.WriteFile(*file, []byte(page), 0o644)
}

func parseSizes(list string) ([]int, error) {
	var out []int
	for f := range strings.SplitSeq(list, ",") {
		if f = strings.TrimSpace(f); f == "" {
			continue
		}
		n, err := strconv.Atoi(f)
		if err != nil || n < 1 || n > 20000 {
			return nil, fmt.Errorf("%q is not a number of Services", f)
		}
		out = append(out, n)
	}
	return out, nil
}
