package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/dataplane"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/facts"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/probe"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/walk"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// requestTimeout bounds one request of the plugin.
const requestTimeout = time.Minute

// firstRequest bounds the wait for the first request.
const firstRequest = 45 * time.Second

// defaultFlows bounds the flows of one answer when the request does not.
const defaultFlows = 1000

func serveCommand(s Streams) *verb {
	v := newVerb("serve", "Answer the plugin's requests on standard input and output")
	v.lives = true
	v.run = func(ctx context.Context) error { return serve(ctx, s.In, s.Out) }
	return v
}

// serve answers requests until the input closes or the context ends: with a signal, which nothing else in the agent heeds
// while it waits. The greeting goes out with the first answer: what is written before anybody has attached would be lost.
func serve(ctx context.Context, in io.Reader, out io.Writer) error {
	if ctx == nil {
		ctx = context.Background()
	}
	r := bufio.NewReader(in)
	greeted := false
	for {
		q, err := next(ctx, r, !greeted)
		if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return err
		}
		if !greeted {
			if err := wire.Write(out, hello()); err != nil {
				return err
			}
			greeted = true
		}
		start := time.Now()
		a := answer(ctx, q)
		a.ID, a.Micros = q.ID, time.Since(start).Microseconds()
		if err := wire.Write(out, a); err != nil {
			return err
		}
	}
}

// next receives a request. The first one must come soon: a plugin that was killed before it attached never opens the
// agent's standard input, which then never closes either.
func next(ctx context.Context, r io.Reader, first bool) (wire.Request, error) {
	type received struct {
		q   wire.Request
		err error
	}
	got := make(chan received, 1)
	go func() {
		var x received
		x.err = wire.Read(r, &x.q)
		got <- x
	}()
	var late <-chan time.Time
	if first {
		t := time.NewTimer(firstRequest)
		defer t.Stop()
		late = t.C
	}
	select {
	case x := <-got:
		return x.q, x.err
	case <-ctx.Done():
		return wire.Request{}, ctx.Err()
	case <-late:
		return wire.Request{}, fmt.Errorf("no request came within %s", firstRequest)
	}
}

func hello() wire.Hello {
	h := wire.Hello{Version: wire.Version, Build: Version}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return h
}

func answer(ctx context.Context, q wire.Request) wire.Answer {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var a wire.Answer
	var err error
	switch {
	case q.Describe != nil:
		a.Describe, err = describe(ctx)
	case q.Walk != nil:
		a.Walk, err = walkFor(ctx, *q.Walk)
	case q.Flows != nil:
		a.Flows, err = flows(ctx, *q.Flows)
	case q.Affinity != nil:
		a.Affinity, err = affinity(ctx, *q.Affinity)
	case q.Probe != nil:
		a.Probe, err = probe.Run(ctx, *q.Probe)
	case q.Facts != nil:
		a.Facts, err = collect(ctx, *q.Facts)
	default:
		err = usageError{errors.New("the request asks for nothing that this agent knows")}
	}
	if err != nil {
		return wire.Answer{Error: wireError(err)}
	}
	return a
}

func wireError(err error) *wire.Error {
	e := &wire.Error{Code: wire.CodeUnreadable, Message: err.Error()}
	var usage usageError
	switch {
	case errors.Is(err, node.ErrPermission):
		e.Code = wire.CodePermission
	case errors.As(err, &usage), errors.Is(err, walk.ErrStart), errors.Is(err, probe.ErrRequest):
		e.Code = wire.CodeBadRequest
	}
	return e
}

func walkFor(ctx context.Context, q wire.WalkRequest) (*trace.Trace, error) {
	proto, err := skb.ParseProto(q.Protocol)
	if err != nil {
		return nil, usageError{err}
	}
	owner, namespace, err := senderOf("/proc", q.Sender)
	if err != nil {
		return nil, err
	}
	return evaluate(ctx, walk.Start{
		Owner: owner, Namespace: namespace,
		Proto: proto, Source: q.Source, Destination: q.Destination, In: q.In, Mark: uint32(q.Mark), Node: q.Node,
		Follow: q.Follow, FromAddress: q.FromAddress, Reply: q.Reply, Assume: q.Assume, Arrives: q.Arrives, Tunnel: q.Tunnel,
	})
}

// here runs f with the namespace's state on one thread.
func here(f func(ns *live.Namespace) error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ns, err := live.Open()
	if err != nil {
		return &node.ReadError{What: "the network namespace", Err: err}
	}
	return errors.Join(f(ns), ns.Close())
}

func describe(ctx context.Context) (*wire.DescribeAnswer, error) {
	a := &wire.DescribeAnswer{Interfaces: []wire.Interface{}}
	err := here(func(ns *live.Namespace) error {
		var err error
		if a.Dataplanes, err = dataplane.Detect(ctx, ns); err != nil {
			return err
		}
		links, err := ns.Links(ctx)
		if err != nil {
			return err
		}
		addrs, err := ns.Addresses(ctx)
		if err != nil {
			return err
		}
		for _, l := range links {
			i := wire.Interface{Name: l.Name, Index: l.Index, Up: l.Up(), Addresses: []netip.Prefix{}}
			for _, x := range addrs {
				if x.Link == l.Index {
					i.Addresses = append(i.Addresses, x.Prefix)
				}
			}
			a.Interfaces = append(a.Interfaces, i)
		}
		a.ConntrackCount, a.ConntrackMax, err = ns.Fill(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

func flows(ctx context.Context, q wire.FlowsRequest) (*wire.FlowsAnswer, error) {
	proto, err := skb.ParseProto(q.Protocol)
	if err != nil {
		return nil, usageError{err}
	}
	limit := q.Limit
	if limit <= 0 {
		limit = defaultFlows
	}
	a := &wire.FlowsAnswer{Flows: []wire.Flow{}}
	now := time.Now()
	err = here(func(ns *live.Namespace) error {
		groups, err := flowGroups(ctx, ns, q.Destinations)
		if err != nil {
			return err
		}
		for _, g := range groups {
			kept, total := len(a.Flows), a.Total
			reset := func() { a.Flows, a.Total = a.Flows[:kept], total }
			err := ns.ToAny(ctx, proto, g.addresses, g.port, reset, func(c *skb.Conn) error {
				a.Total++
				if len(a.Flows) < limit {
					a.Flows = append(a.Flows, flowOf(c, now))
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("flows to %v port %d: %w", g.addresses, g.port, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	a.Truncated = a.Total > len(a.Flows)
	return a, nil
}

func collect(ctx context.Context, q wire.FactsRequest) (a *wire.FactsAnswer, err error) {
	err = here(func(ns *live.Namespace) error {
		var err error
		now := time.Now()
		a, err = facts.Collect(ctx, ns, q, func(c *skb.Conn) wire.Flow { return flowOf(c, now) })
		return err
	})
	return a, err
}

// tcpStates are conntrack's names (enum tcp_conntrack), as conntrack -L prints them.
var tcpStates = []string{"NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2"}

func flowOf(c *skb.Conn, now time.Time) wire.Flow {
	f := wire.Flow{
		Protocol: skb.ProtoName(c.Orig.Proto), Source: c.Orig.Src, Destination: c.Orig.Dst,
		ReplySource: c.Reply.Src, ReplyDestination: c.Reply.Dst,
		Unreplied: c.Status&skb.StatusSeenReply == 0, TimeoutSeconds: int(c.TimeoutSeconds), Mark: trace.Mark(c.Mark), Zone: c.Zone,
	}
	if c.Orig.Proto == skb.TCP && int(c.TCPState) < len(tcpStates) {
		f.State = tcpStates[c.TCPState]
	}
	if !c.Started.IsZero() {
		age := max(0, int64(now.Sub(c.Started)/time.Second))
		f.AgeSeconds = &age
	}
	return f
}
