//go:build linux

package probe

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// firstPacket is how long after the start of a connection events are its first packet's: a client repeats a SYN after
// one second.
const firstPacket = 900 * time.Millisecond

// maxEvents bounds the events of one connection.
const maxEvents = 256

// watch receives the trace events of connections in one namespace.
type watch struct {
	label  string
	rules  *traceRules
	events *nlsock.Listener
	// by are the connections by their first packet's tuple, known those whose trace number was seen.
	by    map[skb.Tuple]*attempt
	known map[uint32]*attempt
	lost  bool
}

// openWatch sets up tracing in the calling thread's namespace. tuples are those that the packets have there.
func openWatch(ctx context.Context, label, table string, by map[skb.Tuple]*attempt) (*watch, error) {
	w := &watch{label: label, by: by, known: map[uint32]*attempt{}}
	var err error
	if w.events, err = nlsock.Listen(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTRACE); err != nil {
		return nil, err
	}
	tuples := make([]skb.Tuple, 0, len(by))
	for t := range by {
		tuples = append(tuples, t)
	}
	if w.rules, err = makeTraceRules(ctx, table, tuples); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *watch) close() error {
	var errs []error
	if w.rules != nil {
		errs = append(errs, w.rules.close())
	}
	return errors.Join(append(errs, w.events.Close())...)
}

// drain takes in the events that have come.
func (w *watch) drain() error {
	lost, err := w.events.Drain(func(m nlsock.Message) error {
		if m.Type != msgTrace {
			return nil
		}
		e, err := decodeEvent(m.Data)
		if err != nil {
			return err
		}
		w.take(e)
		return nil
	})
	w.lost = w.lost || lost
	return err
}

// take adds an event to the connection whose packet it is about. The first event of a packet is that of our own rule, which
// has its headers: by it the trace number is learnt, and learnt again should the kernel use a number twice.
func (w *watch) take(e event) {
	ours := e.table == w.rules.table
	if t, ok := e.tuple(); ok && ours {
		if a := w.by[t]; a != nil {
			w.known[e.id] = a
		}
	}
	a := w.known[e.id]
	if a == nil {
		return // somebody else traces too
	}
	if t, ok := e.tuple(); ok && a.out.SeenBy != seenByConntrack && t != a.first() {
		a.seen(t, seenByTrace)
	}
	// Where no rule of a chain matched the kernel says so with an event of its own, of no rule.
	matchless := e.typ == traceRule && e.handle == 0
	if ours || matchless || len(a.out.Events) >= maxEvents || a.started.IsZero() || time.Since(a.started) > firstPacket {
		return
	}
	a.out.Events = append(a.out.Events, wire.ProbeEvent{
		Namespace: w.label, Table: e.family.String() + " " + e.table, Chain: e.chain, Handle: e.handle, Type: e.typeName(), Verdict: e.verdict,
	})
}
