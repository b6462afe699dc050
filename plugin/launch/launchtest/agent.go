// Package launchtest stands in for a cluster that runs agents, so that everything from the creation of the pods to the
// conversation can be tested without one.
package launchtest

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// Agent is a node's agent whose answers are given.
type Agent struct {
	Kernel   string
	Describe wire.DescribeAnswer
	// Walk answers a walk; nil answers with a trace without outcomes.
	Walk func(wire.WalkRequest) (*trace.Trace, *wire.Error)
	// Probe answers a probe; nil refuses it.
	Probe func(wire.ProbeRequest) *wire.ProbeAnswer
	// Flows answers every request for flows of its protocol.
	Flows []wire.Flow
	// Affinity answers a request for the clients that stay with an endpoint.
	Affinity []wire.AffinityEntry
	// Facts are the node's; nil answers that there are none.
	Facts *wire.FactsAnswer
	// Version is the wire version it claims; 0 is the right one.
	Version int
	// Silent agents read and never answer.
	Silent bool
}

// Serve speaks package wire until r ends. As the real agent, it says Hello when the first request has come.
func (a *Agent) Serve(r io.Reader, w io.Writer) error {
	return a.serve(r, w, new(sync.Mutex))
}

// serve holds turn while it answers.
func (a *Agent) serve(r io.Reader, w io.Writer, turn sync.Locker) error {
	for first := true; ; first = false {
		var req wire.Request
		if err := wire.Read(r, &req); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if a.Silent {
			continue
		}
		if first {
			v := a.Version
			if v == 0 {
				v = wire.Version
			}
			if err := wire.Write(w, wire.Hello{Version: v, Build: "test", Kernel: a.Kernel}); err != nil {
				return err
			}
		}
		turn.Lock()
		answer := a.answer(req)
		turn.Unlock()
		if err := wire.Write(w, answer); err != nil {
			return err
		}
	}
}

func (a *Agent) answer(req wire.Request) wire.Answer {
	ans := wire.Answer{ID: req.ID, Micros: 100}
	switch {
	case req.Describe != nil:
		d := a.Describe
		ans.Describe = &d
	case req.Walk != nil && a.Walk != nil:
		ans.Walk, ans.Error = a.Walk(*req.Walk)
	case req.Walk != nil:
		ans.Walk = trace.New(trace.Packet{Protocol: req.Walk.Protocol, Source: req.Walk.Source, Destination: req.Walk.Destination, In: req.Walk.In})
	case req.Flows != nil:
		f := wire.FlowsAnswer{}
		for _, flow := range a.Flows {
			if flow.Protocol == req.Flows.Protocol {
				f.Flows = append(f.Flows, flow)
			}
		}
		f.Total = len(f.Flows)
		ans.Flows = &f
	case req.Affinity != nil:
		ans.Affinity = &wire.AffinityAnswer{Entries: a.Affinity, Total: len(a.Affinity)}
	case req.Probe != nil && a.Probe != nil:
		ans.Probe = a.Probe(*req.Probe)
	case req.Facts != nil:
		ans.Facts = a.Facts
		if ans.Facts == nil {
			ans.Error = &wire.Error{Code: wire.CodeUnreadable, Message: "there are no facts"}
		}
	default:
		ans.Error = &wire.Error{Code: wire.CodeBadRequest, Message: "nothing was asked"}
	}
	return ans
}

// Attach connects the streams with the agent on the pod's node, as launch.Attacher asks for. One agent of the cluster answers
// at a time, so that the answer of one may change what another will say.
func (c *Cluster) Attach(ctx context.Context, namespace, pod string, stdin io.Reader, stdout, stderr io.Writer) error {
	if c.AttachError != nil {
		return c.AttachError
	}
	node := c.nodeOf(namespace, pod)
	agent := c.Agents[node]
	if agent == nil {
		return errors.New("no agent on node " + node)
	}
	done := make(chan error, 1)
	go func() { done <- agent.serve(stdin, stdout, &c.turn) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
