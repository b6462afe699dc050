package command

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/walk"
)

// packetTimeout bounds one evaluation.
const packetTimeout = 2 * time.Minute

type packetOptions struct {
	from, to, proto, in, mark, output string
	sport                             uint16
	follow, inside, noBPF             bool
}

func packetCommand(s Streams) *verb {
	var o packetOptions
	v := newVerb("packet --from ADDRESS --to ADDRESS:PORT", "Evaluate one packet against the state of this network namespace")
	v.long = `Evaluate one packet against the state of this network namespace.

The packet starts at OUTPUT when its source is one of the namespace's own addresses, else at PREROUTING on the interface
given by --in (default: the one that a route back to the source uses). It opens a new connection, unless the flow that it
belongs to is in conntrack.

Exit codes: 0 evaluated, 2 bad usage, 3 the state could not be read.`
	v.example = "  svctrace-agent packet --from 10.244.1.10 --to 10.96.0.25:80 --proto tcp"
	v.run = func(ctx context.Context) error {
		start, err := o.start()
		if err != nil {
			return usageError{err}
		}
		growStack(0)
		ctx, cancel := contextWithTimeout(ctx, packetTimeout)
		defer cancel()
		var options []live.Option
		if o.noBPF {
			options = append(options, live.WithoutBPF())
		}
		t, err := evaluate(ctx, start, options...)
		if err != nil {
			return err
		}
		if o.output == "json" {
			return writeJSON(s.Out, t)
		}
		return writeText(s.Out, t)
	}
	f := v.flags
	f.StringVar(&o.from, "from", "", "source address (with a port if --sport is not given)")
	f.StringVar(&o.to, "to", "", "destination address and port; an address alone for ICMP")
	f.StringVar(&o.proto, "proto", "tcp", "tcp, udp, sctp, icmp, icmpv6, or a protocol number")
	f.StringVar(&o.in, "in", "", "interface the packet arrives on")
	f.Uint16Var(&o.sport, "sport", 0, "source port; not known when absent")
	f.StringVar(&o.mark, "mark", "0", "packet mark")
	f.BoolVar(&o.follow, "follow", false, "go on in the namespace at the other end of a veth pair, to the socket")
	f.BoolVar(&o.inside, "inside", false, "start as a process in the namespace on this machine that has the source address")
	f.BoolVar(&o.noBPF, "no-bpf", false, "do not read the kernel's lists of hooks, which takes BPF: derive them from tables and chains")
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
	return v
}

// growStack makes the goroutine's stack as large as a walk needs it, which calls deep: growing by doubling would copy it at each
// step. i, of which the compiler knows nothing, keeps the room from being optimised away.
//
//go:noinline
func growStack(i int) byte {
	var room [24 << 10]byte
	return room[i]
}

// start turns the options into a packet.
func (o packetOptions) start() (walk.Start, error) {
	var s walk.Start
	if o.from == "" || o.to == "" {
		return s, errors.New("--from and --to are needed")
	}
	if o.output != "text" && o.output != "json" {
		return s, fmt.Errorf("--output %q is neither text nor json", o.output)
	}
	var err error
	if s.Proto, err = skb.ParseProto(o.proto); err != nil {
		return s, fmt.Errorf("--proto: %w", err)
	}
	if s.Source, err = parseEnd(o.from); err != nil {
		return s, fmt.Errorf("--from: %w", err)
	}
	if s.Destination, err = parseEnd(o.to); err != nil {
		return s, fmt.Errorf("--to: %w", err)
	}
	if s.Source.Addr().Is4() != s.Destination.Addr().Is4() {
		return s, fmt.Errorf("--from %s and --to %s are not of one address family", s.Source.Addr(), s.Destination.Addr())
	}
	ports := hasPorts(s.Proto)
	if o.sport != 0 {
		s.Source = netip.AddrPortFrom(s.Source.Addr(), o.sport)
	}
	switch {
	case ports && s.Destination.Port() == 0:
		return s, fmt.Errorf("--to %s: %s needs a port", o.to, o.proto)
	case !ports && (s.Destination.Port() != 0 || s.Source.Port() != 0):
		return s, fmt.Errorf("%s has no ports", o.proto)
	case s.Proto == skb.ICMP && s.Source.Addr().Is6(), s.Proto == skb.ICMPv6 && s.Source.Addr().Is4():
		return s, fmt.Errorf("%s is not a protocol of %s", o.proto, s.Source.Addr())
	}
	mark, err := trace.ParseMark(o.mark)
	if err != nil {
		return s, fmt.Errorf("--mark: %w", err)
	}
	s.Mark, s.In, s.Follow, s.FromAddress = uint32(mark), o.in, o.follow, o.inside
	if o.inside && o.in != "" {
		return s, errors.New("--inside starts in a process: it takes no --in")
	}
	return s, nil
}

func hasPorts(proto uint8) bool {
	switch proto {
	case skb.TCP, skb.UDP, skb.SCTP, skb.DCCP, skb.UDPLite:
		return true
	}
	return false
}

// parseEnd reads an address with or without a port. IPv6 with a port is in brackets.
func parseEnd(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		if a.Zone() != "" {
			return netip.AddrPort{}, fmt.Errorf("%q has a zone: give the interface by --in", s)
		}
		return netip.AddrPortFrom(a.Unmap(), 0), nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is not an address or address:port", s)
	}
	if ap.Addr().Zone() != "" {
		return netip.AddrPort{}, fmt.Errorf("%q has a zone: give the interface by --in", s)
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}
