// Package survey asks the agents of a run for everything the answer needs: what each node is, the walk of each access
// path from each client, and the live flows. It decides which packets are walked and holds what came back; it judges nothing.
package survey

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// Agent answers questions about one node.
type Agent interface {
	// Ask sends one request and waits for its answer. An answer that carries an Error is returned as an answer.
	Ask(ctx context.Context, r wire.Request) (*wire.Answer, error)
	// Hello is what the agent said about itself; nil before the first answer.
	Hello() *wire.Hello
}

// Node is what was learnt about one node.
type Node struct {
	intent.Node
	Hello    wire.Hello
	Describe wire.DescribeAnswer
	// Flows are the conntrack entries to any access path of the Service; Total counts those beyond the limit too.
	Flows     []wire.Flow
	FlowTotal int
	// FlowsError says why flows could not be read; empty when they were.
	FlowsError string
	// Facts are what the node tells beyond walks and flows; nil when they could not be had, and then FactsError says why.
	Facts      *wire.FactsAnswer
	FactsError string
	// Walks are the walks on this node, in the order of the access paths and then of the clients.
	Walks []Walk
	// Agent's own work: the sum of the times it reported for its answers.
	Micros int64
}

// Walk is one walked packet, or why it could not be walked.
type Walk struct {
	Path        intent.AccessPath
	Client      intent.Client
	Mode        intent.Mode
	Destination netip.AddrPort
	Expect      intent.Expectation
	Trace       *trace.Trace
	// Error is the agent's answer when it could not walk.
	Error  *wire.Error
	Micros int64
}

// Service asks one agent about a Service: first what the node is, then all walks and flows at once. pods are those of
// the node; outside holds the address that stands for the outside, by family.
func Service(ctx context.Context, a Agent, m *intent.Model, n intent.Node, pods []corev1.Pod, outside map[intent.Family]netip.Addr) (*Node, error) {
	out := &Node{Node: n}
	d, err := a.Ask(ctx, wire.Request{Describe: &wire.DescribeRequest{}})
	if err != nil {
		return nil, fmt.Errorf("asking the agent on node %s what the node is: %w", n.Name, err)
	}
	if d.Error != nil {
		return nil, fmt.Errorf("the agent on node %s cannot describe it: %w", n.Name, d.Error)
	}
	if d.Describe == nil {
		return nil, fmt.Errorf("the agent on node %s answered a describe request with something else", n.Name)
	}
	out.Describe, out.Micros = *d.Describe, d.Micros
	if h := a.Hello(); h != nil {
		out.Hello = *h
	}
	out.Walks = plan(m, out, pods, outside)
	if err := askAll(ctx, a, m, out); err != nil {
		return nil, err
	}
	return out, nil
}

// askAll sends every walk and flow request before it waits: the agent works through them while answers travel.
func askAll(ctx context.Context, a Agent, m *intent.Model, n *Node) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		first error
	)
	ask := func(r wire.Request, take func(*wire.Answer) error) {
		wg.Go(func() {
			ans, err := a.Ask(ctx, r)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				n.Micros += ans.Micros
				err = take(ans)
			}
			if err != nil && first == nil {
				first = err
				cancel()
			}
		})
	}
	for i := range n.Walks {
		w := &n.Walks[i]
		ask(wire.Request{Walk: walkRequest(n, w)}, func(ans *wire.Answer) error {
			w.Trace, w.Error, w.Micros = ans.Walk, ans.Error, ans.Micros
			if w.Trace == nil && w.Error == nil {
				return fmt.Errorf("the agent on node %s answered a walk request with something else", n.Name)
			}
			return nil
		})
	}
	ask(wire.Request{Facts: factsRequest(m)}, func(ans *wire.Answer) error {
		n.Facts = ans.Facts
		if ans.Error != nil {
			n.FactsError = ans.Error.Message
		}
		return nil
	})
	for _, r := range flowRequests(m, n) {
		ask(wire.Request{Flows: r}, func(ans *wire.Answer) error {
			switch {
			case ans.Error != nil:
				n.FlowsError = ans.Error.Message
			case ans.Flows != nil:
				n.Flows = append(n.Flows, ans.Flows.Flows...)
				n.FlowTotal += max(ans.Flows.Total, len(ans.Flows.Flows))
			}
			return nil
		})
	}
	wg.Wait()
	if first != nil {
		return fmt.Errorf("asking the agent on node %s: %w", n.Name, first)
	}
	sortFlows(n.Flows)
	return nil
}
