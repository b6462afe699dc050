package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/netip"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// fate is what a client, and whoever answers it, sees of one connection.
type fate struct {
	result lab.Result
	// server is the endpoint that answers, and source the client's address as it sees it; zero without an answer.
	server netip.AddrPort
	source netip.Addr
}

func (f fate) String() string {
	if f.result != lab.Answered {
		return string(f.result)
	}
	return fmt.Sprintf("%s, which sees %s", f.server, f.source)
}

// prediction is the probability of each fate.
type prediction map[fate]*big.Rat

func (p prediction) String() string {
	lines := make([]string, 0, len(p))
	for f, r := range p {
		lines = append(lines, fmt.Sprintf("  %-5s %s", r.RatString(), f))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (p prediction) add(f fate, share *big.Rat) {
	if p[f] == nil {
		p[f] = new(big.Rat)
	}
	p[f].Add(p[f], share)
}

// certain says that there is only one fate.
func (p prediction) certain() bool { return len(p) == 1 }

// follower predicts what clients see from traces, which end where a packet leaves a node's view.
type follower struct {
	*cluster
	pods map[netip.Addr]string
	// walked are the walks on further nodes that were needed.
	walked []*trace.Trace
}

func (c *cluster) follower(ctx context.Context) (*follower, error) {
	pods, err := c.podAddresses(ctx)
	return &follower{cluster: c, pods: pods}, err
}

// maxNodes bounds the nodes that a packet is followed through.
const maxNodes = 4

// predict follows every outcome of a trace on a node to its end. An outcome without a probability, or whose end the test
// does not know, is an error: in these labs the state decides everything.
func (f *follower) predict(ctx context.Context, on *lab.Node, t *trace.Trace) (prediction, error) {
	p := prediction{}
	if err := f.follow(ctx, on, t, big.NewRat(1, 1), maxNodes, p); err != nil {
		return nil, err
	}
	sum := new(big.Rat)
	for _, r := range p {
		sum.Add(sum, r)
	}
	if sum.Cmp(big.NewRat(1, 1)) != 0 {
		return nil, fmt.Errorf("the probabilities add up to %s", sum.RatString())
	}
	return p, nil
}

func (f *follower) follow(ctx context.Context, on *lab.Node, t *trace.Trace, share *big.Rat, nodes int, p prediction) error {
	for _, o := range t.Outcomes {
		if o.Probability == nil {
			return fmt.Errorf("an outcome has no probability: %s to %s, conditions %q, unknown %v", o.Verdict, o.Destination, o.Conditions, o.Unknown)
		}
		part := new(big.Rat).Mul(share, o.Probability.Rat())
		end, known := f.end(o)
		if known {
			p.add(end, part)
			continue
		}
		next, err := f.nextNode(on, o)
		if err != nil {
			return err
		}
		if nodes < maxNodes && o.Destination != t.Packet.Destination && !o.Masqueraded {
			// translated on a node that is not the client's, and it goes on: the reply, to the client itself, will not pass
			// the node that would undo the translation
			p.add(fate{result: lab.Timeout}, part)
			continue
		}
		if nodes == 1 {
			return fmt.Errorf("the packet to %s passes more than %d nodes", o.Destination, maxNodes)
		}
		further, err := f.packet(ctx, next, t.Packet.Protocol, o.Source, o.Destination, "eth0")
		if err != nil {
			return err
		}
		f.walked = append(f.walked, further)
		if err := f.follow(ctx, next, further, part, nodes-1, p); err != nil {
			return err
		}
	}
	return nil
}

// end is what an outcome means for the client; false if the packet goes on to another node.
func (f *follower) end(o trace.Outcome) (fate, bool) {
	switch o.Verdict {
	case trace.Dropped:
		return fate{result: lab.Timeout}, true
	case trace.Rejected:
		switch o.RejectWith {
		case "icmp-port-unreachable", "icmp6-port-unreachable", "icmpv6-port-unreachable", "tcp-reset":
			return fate{result: lab.Refused}, true
		}
		return fate{result: lab.Unreachable}, true
	case trace.Local:
		return fate{result: lab.Refused}, true // no socket listens
	case trace.Delivered:
		if _, pod := f.pods[o.Destination.Addr()]; pod && o.Destination.Port() == lab.WebPort {
			return fate{lab.Answered, o.Destination, o.Source.Addr()}, true
		}
	case trace.Forwarded:
		if _, here := f.pods[o.Destination.Addr()]; here && o.Out == "cni0" {
			if o.Destination.Port() != lab.WebPort {
				return fate{result: lab.Refused}, true
			}
			return fate{lab.Answered, o.Destination, o.Source.Addr()}, true
		}
		if o.NextHop.IsValid() && slices.Contains(f.gateways(), o.NextHop) {
			return fate{result: lab.Timeout}, true // the switch is a black hole
		}
	}
	return fate{}, false
}

// gateways are the switch's addresses, where the nodes' default routes lead.
func (*follower) gateways() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("10.250.0.1"), netip.MustParseAddr("fd00:250::1")}
}

// nextNode is the node that a forwarded packet goes to.
func (f *follower) nextNode(on *lab.Node, o trace.Outcome) (*lab.Node, error) {
	hop := o.NextHop
	if !hop.IsValid() {
		hop = o.Destination.Addr()
	}
	for _, n := range f.Nodes() {
		if o.Verdict == trace.Forwarded && o.Out == "eth0" && n.Index != on.Index && slices.Contains(n.Addresses, hop) {
			return n, nil
		}
	}
	return nil, fmt.Errorf("on %s the packet ends in a way that these tests do not know: %s, destination %s, out %q, next hop %s, unknown %v",
		on, o.Verdict, o.Destination, o.Out, o.NextHop, o.Unknown)
}

// decodeTrace reads a trace in JSON; a field that the vocabulary does not have is an error.
func decodeTrace(r io.Reader) (*trace.Trace, error) {
	var t trace.Trace
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil {
		return nil, fmt.Errorf("decode a trace: %w", err)
	}
	return &t, nil
}

// describe writes a trace for the log of a failure: every outcome with the steps that led there.
func describe(t *trace.Trace) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  trace of %s %s -> %s, in %q\n", t.Packet.Protocol, t.Packet.Source, t.Packet.Destination, t.Packet.In)
	for _, o := range t.Outcomes {
		chance := "?"
		if o.Probability != nil {
			chance = o.Probability.String()
		}
		fmt.Fprintf(&b, "    %s %s %s -> %s out %q via %s %s %s %q\n", chance, o.Verdict, o.Source, o.Destination, o.Out, o.NextHop, o.RejectWith, o.Reason, o.Conditions)
		for _, u := range o.Unknown {
			fmt.Fprintf(&b, "        unknown: %s at %s\n", u.What, u.Where)
		}
		for _, i := range o.Path {
			if i < 0 || i >= len(t.Hops) {
				fmt.Fprintf(&b, "        no hop %d\n", i)
				continue
			}
			h := t.Hops[i]
			rule := ""
			if h.Rule != nil {
				rule = fmt.Sprintf("#%d %s", h.Rule.Handle, h.Rule.Text)
			}
			fmt.Fprintf(&b, "        %s %s %s %s: %s %s\n", h.Hook, h.Table, h.Chain, rule, h.Action, h.Says)
		}
	}
	return b.String()
}
