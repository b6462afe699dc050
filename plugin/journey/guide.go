package journey

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// ErrLimit is why a further node is not asked: as many as allowed are.
var ErrLimit = errors.New("it is beyond the limit of nodes")

// Guide follows journeys of one run. Several may be under way at once; what two have in common is asked once.
type Guide struct {
	model  *intent.Model
	agents Agents

	mu     sync.Mutex
	asked  map[string]*question
	work   map[string]int64
	places map[netip.Addr]string // addresses of clients and their nodes
}

// question is a walk that was asked for, and its answer once done is closed.
type question struct {
	done   chan struct{}
	answer *wire.Answer
	err    error
}

// NewGuide returns a guide through the cluster of a model.
func NewGuide(m *intent.Model, agents Agents) *Guide {
	return &Guide{model: m, agents: agents, asked: map[string]*question{}, work: map[string]int64{}, places: map[netip.Addr]string{}}
}

// Visited lists the nodes whose agents were asked, sorted.
func (g *Guide) Visited() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]string, 0, len(g.work))
	for n := range g.work {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// Micros is the time that the agent on a node reports for its walks, in microseconds.
func (g *Guide) Micros(node string) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.work[node]
}

// Follow walks a packet to all its ends, and the answers back. Its error is about the agent on the client's node, or the
// end of the context; what is wrong elsewhere stands in the journey.
func (g *Guide) Follow(ctx context.Context, s Start) (*Journey, error) {
	if s.Client.Kind != intent.FromOutside && s.Client.Source.IsValid() {
		g.mu.Lock()
		g.places[s.Client.Source] = s.Client.Node
		g.mu.Unlock()
	}
	root := g.leg(ctx, s.Client.Node, s.request(), nil, 0)
	if root.err != nil {
		return nil, root.err
	}
	if root.failed != nil {
		return &Journey{Error: root.failed}, nil
	}
	b := newBuilder(root.trace.Packet)
	b.join(root, way{}, nil)
	j := &Journey{Trace: b.trace, Stops: b.stops}
	g.replies(ctx, s, j)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return j, nil
}

// request is the first walk of a journey. A pod's packet starts in the pod's own namespace; where no pod has the address,
// it starts on the interface that such a pod would be behind.
func (s Start) request() wire.WalkRequest {
	r := wire.WalkRequest{Protocol: s.Protocol, Destination: s.Destination, Node: s.Client.Node, Follow: true, In: s.In}
	if s.Client.Kind != intent.FromNode {
		r.Source = netip.AddrPortFrom(s.Client.Source, 0)
	}
	r.FromAddress = s.Client.Kind == intent.FromPod && !s.Client.Invented
	if c := s.Client; c.Sender.Container != "" {
		r.Sender = &wire.Sender{ContainerID: c.Sender.ID, Container: c.Sender.Container, User: c.Sender.User.Value(), Group: c.Sender.Group.Value()}
	}
	return r
}

// ask has a node's agent walk a packet. The same packet is walked once.
func (g *Guide) ask(ctx context.Context, node string, r wire.WalkRequest) (*wire.Answer, error) {
	key, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding a walk: %w", err)
	}
	g.mu.Lock()
	q, ok := g.asked[string(key)]
	if !ok {
		q = &question{done: make(chan struct{})}
		g.asked[string(key)] = q
	}
	g.mu.Unlock()
	if ok {
		select {
		case <-q.done:
			return q.answer, q.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	defer close(q.done)
	agent, err := g.agents.On(ctx, node)
	if err == nil {
		q.answer, err = agent.Ask(ctx, wire.Request{Walk: &r})
	}
	if q.err = err; ctx.Err() != nil { // another journey may still get an answer
		g.mu.Lock()
		delete(g.asked, string(key))
		g.mu.Unlock()
	}
	if q.err == nil && q.answer.Walk == nil && q.answer.Error == nil {
		q.err = fmt.Errorf("the agent on node %s answered a walk request with something else", node)
	}
	if q.err == nil {
		g.mu.Lock()
		g.work[node] += q.answer.Micros
		g.mu.Unlock()
		name(q.answer.Walk, node)
	}
	return q.answer, q.err
}

// name writes a node's name where its agent left it out.
func name(t *trace.Trace, node string) {
	if t == nil {
		return
	}
	for i := range t.Hops {
		if t.Hops[i].Node == "" {
			t.Hops[i].Node = node
		}
	}
	for i := range t.Outcomes {
		for k := range t.Outcomes[i].Tracked {
			if t.Outcomes[i].Tracked[k].Node == "" {
				t.Outcomes[i].Tracked[k].Node = node
			}
		}
	}
}
