// Package survey asks the agents of a run for everything the answer needs: what each node is, the walk of each access
// path from each client, the live flows, and the facts that explain both. It decides which packets are walked and holds what came back; it judges nothing.
package survey

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/journey"
)

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
	// Affinity are the clients that the node keeps with an endpoint; Total counts those beyond the limit too.
	Affinity      []wire.AffinityEntry
	AffinityTotal int
	// AffinityError says why they could not be read; empty when they were, or when the Service has no session affinity.
	AffinityError string
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
	// Trace is the packet's way over all the nodes that it passes.
	Trace *trace.Trace
	// Stops are the outcomes of the trace that go on to a node that was not asked, and Replies the ways back.
	Stops   []journey.Stop
	Replies []journey.Reply
	// Error is the agent's answer when it could not walk.
	Error *wire.Error
}

// Service asks the agent on a node about a Service: first what the node is, then the flows, and the walks of the clients
// that start there, all at once. The walks go on to other nodes as the guide leads them.
func Service(ctx context.Context, a journey.Agent, g *journey.Guide, m *intent.Model, n intent.Node, clients []intent.Client) (*Node, error) {
	out, err := describe(ctx, a, n)
	if err != nil {
		return nil, err
	}
	out.Walks = plan(m, out, clients)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg   sync.WaitGroup
		errs = make([]error, len(out.Walks)+1)
	)
	for i := range out.Walks {
		w := &out.Walks[i]
		wg.Go(func() {
			j, err := g.Follow(ctx, start(out, w))
			if err != nil {
				errs[i] = err
				cancel()
				return
			}
			w.Trace, w.Stops, w.Replies, w.Error = j.Trace, j.Stops, j.Replies, j.Error
		})
	}
	errs[len(out.Walks)] = observe(ctx, a, m, out)
	wg.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return nil, fmt.Errorf("asking the agent on node %s: %w", n.Name, err)
		}
	}
	out.trustProxy(m)
	out.Walks = slices.DeleteFunc(out.Walks, cannotBe)
	return out, errors.Join(errs...)
}

// trustProxy takes the release that kube-proxy itself tells for the kubelet's, where they differ.
func (n *Node) trustProxy(m *intent.Model) {
	if n.Facts == nil {
		return
	}
	r := intent.ParseRelease(n.Facts.KubeProxy.Version)
	if r == 0 || r == n.Release {
		return
	}
	n.Release = r
	for i := range n.Walks {
		w := &n.Walks[i]
		w.Expect = m.Expect(w.Path, w.Client, n.Node, w.Mode)
	}
}

// cannotBe reports whether a walk failed because the address that stands for a pod cannot be one: where every pod has a
// route of its own, there is no interface that an unused address would be behind.
func cannotBe(w Walk) bool {
	return w.Client.Invented && w.Error != nil && w.Error.Code == wire.CodeBadRequest
}

// Passed asks the agent on a node that walks only came to what the node is, and for its flows and facts.
func Passed(ctx context.Context, a journey.Agent, m *intent.Model, n intent.Node) (*Node, error) {
	out, err := describe(ctx, a, n)
	if err != nil {
		return nil, err
	}
	if err := observe(ctx, a, m, out); err != nil {
		return nil, fmt.Errorf("asking the agent on node %s: %w", n.Name, err)
	}
	return out, nil
}

// describe asks what a node is.
func describe(ctx context.Context, a journey.Agent, n intent.Node) (*Node, error) {
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
	return out, nil
}

// observe asks for the flows to the Service, of every protocol, for the clients that session affinity keeps, and for the
// node's facts, all at once.
func observe(ctx context.Context, a journey.Agent, m *intent.Model, n *Node) error {
	requests := flowRequests(m, n)
	answers, errs := make([]*wire.Answer, len(requests)), make([]error, len(requests)+2)
	var (
		wg    sync.WaitGroup
		facts *wire.Answer
	)
	wg.Go(func() { facts, errs[len(requests)] = a.Ask(ctx, wire.Request{Facts: factsRequest(m)}) })
	wg.Go(func() { errs[len(requests)+1] = affinity(ctx, a, m, n) })
	for i, r := range requests {
		wg.Go(func() { answers[i], errs[i] = a.Ask(ctx, wire.Request{Flows: r}) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, ans := range answers {
		n.Micros += ans.Micros
		switch {
		case ans.Error != nil:
			n.FlowsError = ans.Error.Message
		case ans.Flows != nil:
			n.Flows = append(n.Flows, ans.Flows.Flows...)
			n.FlowTotal += max(ans.Flows.Total, len(ans.Flows.Flows))
		}
	}
	sortFlows(n.Flows)
	n.Micros += facts.Micros
	n.Facts = facts.Facts
	if facts.Error != nil {
		n.FactsError = facts.Error.Message
	}
	return nil
}
