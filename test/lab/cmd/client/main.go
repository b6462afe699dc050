// Command client makes connections to the lab's web server and says what became of each: one JSON object a line.
//
//	client connect [--proto tcp|udp] [--timeout 2s] [--count N] [--parallel 16] [--local ADDR:PORT] [--size BYTES] ADDR:PORT
//	client sleep
//
// Every connection is a new one, from a port of its own unless --local names one. sleep does nothing until SIGTERM: it
// keeps a pod alive to connect from.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab/attempt"
)

// Bounds of one call.
const (
	maxCount    = 10000
	maxParallel = 64
	maxSize     = 60000
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if len(os.Args) < 2 {
		usage()
	}
	switch os.Args[1] {
	case "connect":
		if err := connect(ctx, os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "client:", err)
			os.Exit(2)
		}
	case "sleep":
		<-ctx.Done()
	default:
		usage()
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: client connect [--proto tcp|udp] [--timeout 2s] [--count N] [--parallel 16] [--local ADDR:PORT] [--size BYTES] ADDR:PORT\n       client sleep")
	os.Exit(2)
}

func connect(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("connect", flag.ContinueOnError)
	var d dialer
	flags.StringVar(&d.proto, "proto", "tcp", "tcp or udp")
	flags.DurationVar(&d.timeout, "timeout", 2*time.Second, "how long one attempt may take")
	count := flags.Int("count", 1, "number of attempts")
	parallel := flags.Int("parallel", 16, "attempts at a time")
	flags.IntVar(&d.size, "size", 0, "bytes to ask with and to be answered with, at least")
	local := flags.String("local", "", "ADDR:PORT to connect from; port 0 lets the kernel choose")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("one ADDR:PORT is needed, got %q", flags.Args())
	}
	var err error
	if d.remote, err = netip.ParseAddrPort(flags.Arg(0)); err != nil {
		return err
	}
	if *local != "" {
		if d.local, err = netip.ParseAddrPort(*local); err != nil {
			return err
		}
	}
	if d.proto != "tcp" && d.proto != "udp" {
		return fmt.Errorf("unknown protocol %q", d.proto)
	}
	if *count < 1 || *count > maxCount || *parallel < 1 || *parallel > maxParallel || d.timeout <= 0 {
		return fmt.Errorf("count must be 1 to %d, parallel 1 to %d, timeout positive", maxCount, maxParallel)
	}
	if d.size < 0 || d.size > maxSize {
		return fmt.Errorf("size must be 0 to %d", maxSize)
	}
	attempts := make(chan attempt.Attempt)
	tickets := make(chan struct{}, *count)
	for range *count {
		tickets <- struct{}{}
	}
	close(tickets)
	var workers sync.WaitGroup
	for range min(*parallel, *count) {
		workers.Go(func() {
			for range tickets {
				attempts <- d.attempt(ctx)
			}
		})
	}
	go func() { workers.Wait(); close(attempts) }()
	out := json.NewEncoder(os.Stdout)
	for a := range attempts {
		if err := out.Encode(a); err != nil {
			return err
		}
	}
	return nil
}
