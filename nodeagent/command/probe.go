package command

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/probe"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/walk"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

type probeOptions struct {
	from, to, proto, output string
	count                   int
	timeout                 time.Duration
}

func probeCommand(s Streams) *verb {
	var o probeOptions
	v := newVerb("probe --to ADDRESS:PORT", "Open real connections and report what the kernel says about them")
	v.long = `Open real connections and report what the kernel says about them.

This sends packets: TCP connections that are closed at once, or UDP datagrams with a text of their own. They start in the
network namespace on this machine that has the source address. Reported are the result, the connection tracking entries
that came to be, the counters of the rules on the path that moved, nftables trace events, and drop reasons.

For trace events a table of rules for exactly these connections is made; the kernel removes it when this process ends,
however it ends. Nothing else is written.

Exit codes: 0 probed, 2 bad usage, 3 the state could not be read.`
	v.example = "  svctrace-agent probe --from 10.244.1.10 --to 10.96.0.25:80 --count 20"
	v.lives = true
	v.run = func(ctx context.Context) error {
		r, err := o.request()
		if err != nil {
			return usageError{err}
		}
		ctx, cancel := contextWithTimeout(ctx, packetTimeout)
		defer cancel()
		t, walkErr := walkOfProbe(ctx, r)
		if t != nil {
			r.Rules = wire.ProbeRules(t, "")
		}
		a, err := probe.Run(ctx, r)
		if err != nil {
			return err
		}
		if walkErr != nil {
			a.Notes = append(a.Notes, "no counters: the packet could not be walked: "+walkErr.Error())
		}
		if o.output == "json" {
			return writeJSON(s.Out, a)
		}
		return writeProbe(s.Out, a, t)
	}
	f := v.flags
	f.StringVar(&o.from, "from", "", "source address; the default is what this namespace would choose")
	f.StringVar(&o.to, "to", "", "destination address and port")
	f.StringVar(&o.proto, "proto", "tcp", "tcp, udp or sctp")
	f.IntVar(&o.count, "count", 1, fmt.Sprintf("number of connections, up to %d", wire.MaxProbes))
	f.DurationVar(&o.timeout, "timeout", 2*time.Second, "how long to wait for the answer to each connection")
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
	return v
}

// request turns the options into a request.
func (o probeOptions) request() (wire.ProbeRequest, error) {
	r := wire.ProbeRequest{Protocol: o.proto, Count: o.count, TimeoutMillis: int(o.timeout.Milliseconds())}
	switch {
	case o.to == "":
		return r, errors.New("--to is needed")
	case o.output != "text" && o.output != "json":
		return r, fmt.Errorf("--output %q is neither text nor json", o.output)
	case o.count < 1:
		return r, fmt.Errorf("--count %d is not at least 1", o.count)
	case o.timeout < time.Millisecond:
		return r, fmt.Errorf("--timeout %s is not at least 1ms", o.timeout)
	}
	var err error
	if r.Destination, err = parseEnd(o.to); err != nil {
		return r, fmt.Errorf("--to: %w", err)
	}
	if r.Destination.Port() == 0 {
		return r, fmt.Errorf("--to %s: it needs a port", o.to)
	}
	if o.from == "" {
		return r, nil
	}
	if r.Source, err = netip.ParseAddr(o.from); err != nil || r.Source.Zone() != "" {
		return r, fmt.Errorf("--from %q is not an address", o.from)
	}
	return r, nil
}

// walkOfProbe evaluates the packet that a probe will send.
func walkOfProbe(ctx context.Context, r wire.ProbeRequest) (*trace.Trace, error) {
	proto, err := skb.ParseProto(r.Protocol)
	if err != nil {
		return nil, err
	}
	return evaluate(ctx, walk.Start{
		Proto: proto, Source: netip.AddrPortFrom(r.Source, 0), Destination: r.Destination, Follow: true, FromAddress: r.Source.IsValid(),
	})
}
