package survey

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// Probe is real connections from a walk's client to its destination.
type Probe struct {
	Node   string
	Walk   *Walk
	Answer *wire.ProbeAnswer
	// Error says why there were none.
	Error *wire.Error
}

// Asker is an agent that answers requests.
type Asker interface {
	Ask(ctx context.Context, r wire.Request) (*wire.Answer, error)
}

// Probeable reports whether the client of a walk can open connections: it is on the node, and it is there.
func Probeable(w *Walk) bool {
	return w.Client.Kind != intent.FromOutside && !w.Client.Invented && w.Trace != nil
}

// Probes has the agent on a node open real connections, one walk after the other. The end of the context's time is no
// error: what was not probed says so.
func Probes(ctx context.Context, a Asker, n *Node, count int, timeout time.Duration) ([]Probe, error) {
	var out []Probe
	for i := range n.Walks {
		w := &n.Walks[i]
		if !Probeable(w) {
			continue
		}
		p := Probe{Node: n.Name, Walk: w}
		ans, err := a.Ask(ctx, wire.Request{Probe: probeRequest(n, w, count, timeout)})
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			p.Error = &wire.Error{Code: wire.CodeUnreadable, Message: "the time for probes was over"}
		case err != nil:
			return out, err
		case ans.Error == nil && ans.Probe == nil:
			p.Error = &wire.Error{Code: wire.CodeUnreadable, Message: "the agent answered something else"}
		default:
			p.Answer, p.Error = ans.Probe, ans.Error
			n.Micros += ans.Micros
		}
		out = append(out, p)
	}
	return out, nil
}

// probeRequest asks for the connections that a walk is about.
func probeRequest(n *Node, w *Walk, count int, timeout time.Duration) *wire.ProbeRequest {
	var source netip.Addr
	if w.Client.Kind == intent.FromPod {
		source = w.Client.Source
	}
	r := &wire.ProbeRequest{
		Protocol: w.Path.Protocol, Source: source, Destination: w.Destination, Count: count,
		TimeoutMillis: int(timeout.Milliseconds()), Rules: wire.ProbeRules(w.Trace, n.Name),
	}
	if o := w.Trace.Packet.Owner; o != nil {
		r.User, r.Group = &o.User, o.Group
	}
	return r
}
