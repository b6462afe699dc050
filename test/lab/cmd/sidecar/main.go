// Command sidecar is a proxy beside a pod's own program, as a service mesh has: TCP connections that rules in the pod
// REDIRECT to it are made anew to the address that they were meant for. UDP is not its business.
//
//	sidecar [--inbound 15006] [--outbound 15001]
//
// What comes in it hands to the pod's own program from 127.0.0.6 or ::6, the sources that the rules let pass (Istio has
// the same: InboundPassthroughCluster). What goes out it makes as its own user, whom the rules let pass.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
)

// passthrough are the sources of connections to the pod's own program.
var passthrough = map[string]netip.Addr{"tcp4": netip.MustParseAddr("127.0.0.6"), "tcp6": netip.MustParseAddr("::6")}

func main() {
	inbound := flag.Int("inbound", 15006, "port for what comes into the pod")
	outbound := flag.Int("outbound", 15001, "port for what leaves the pod")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, *inbound, *outbound); err != nil {
		fmt.Fprintln(os.Stderr, "sidecar:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, inbound, outbound int) error {
	failed := make(chan error, 4)
	for _, network := range []string{"tcp4", "tcp6"} {
		for port, source := range map[int]netip.Addr{inbound: passthrough[network], outbound: {}} {
			l, err := net.Listen(network, fmt.Sprintf(":%d", port))
			if errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) {
				continue // a pod without that family
			}
			if err != nil {
				return err
			}
			defer l.Close()
			f := forwarder{network: network, source: source, original: originalDestination}
			go func() { failed <- f.serve(ctx, l) }()
			fmt.Fprintln(os.Stderr, "listening on", l.Addr())
		}
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}
