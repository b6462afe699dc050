//go:build linux

package oracle

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/walk"
)

const (
	// grace is how long packets are waited for that the engine says may be dropped. A packet passes the node within the
	// call that sends it; this is ample.
	grace = 12 * time.Millisecond
	// patience is how long a packet is waited for that the engine says cannot be dropped.
	patience = 400 * time.Millisecond
)

// Lab runs cases. It is not safe for concurrent use.
type Lab struct {
	node, far  *thread
	wire       *wire
	lock       string
	generation int
	nextID     uint32
	// derived keeps the engine from the kernel's lists of hooks: it derives them from tables and chains.
	derived bool
}

// NewLab makes the namespaces. lock is the path that iptables' lock file gets.
func NewLab(lock string) (*Lab, error) {
	l := &Lab{lock: lock}
	var err error
	if l.far, err = newThread(); err != nil {
		return nil, err
	}
	if l.node, err = newThread(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	err = l.far.do(func() (err error) {
		l.wire, err = openWire()
		return err
	})
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Close ends the namespaces and everything in them.
func (l *Lab) Close() error {
	var err error
	if l.wire != nil {
		err = l.wire.close()
	}
	for _, t := range []*thread{l.node, l.far} {
		if t != nil {
			t.close()
		}
	}
	return err
}

// Observation is one packet: what the engine said, and what the kernel did.
type Observation struct {
	// Shot is the index of the packet's shot, Stage its place in the flow.
	Shot  int
	Stage stage
	// Start is what the engine was asked.
	Start walk.Start
	// Trace is its answer, or Err its failure.
	Trace *trace.Trace
	Err   error
	// Fate is what was seen.
	Fate Fate

	// refused is how many packets of the same source were refused before, in the same case.
	refused int
	id      uint32
	aliases []uint32
	seen    []Fate
	sendErr error
}

// bench is a node while its case runs.
type bench struct {
	*Lab
	c     *Case
	stack *stack
	byID  map[uint32]*Observation
	all   []*Observation
	// refusals counts refused packets by source.
	refusals map[netip.Addr]int
}

// Run loads a case into a fresh node and sends its packets. The node of the case before goes away in the kernel's own time.
// A *loadError says that a tool refused a step.
func (l *Lab) Run(ctx context.Context, c *Case) (obs []*Observation, err error) {
	err = l.node.do(func() error {
		b, err := l.prepare(c)
		if err != nil {
			return err
		}
		defer b.stack.close()
		err = b.flows(ctx)
		obs = b.all
		return err
	})
	return obs, err
}

// prepare makes the node. It runs on the node's thread.
func (l *Lab) prepare(c *Case) (*bench, error) {
	if err := empty(); err != nil {
		return nil, err
	}
	l.generation++
	if err := writeSysctls(baseSysctls); err != nil {
		return nil, err
	}
	for _, s := range optionalSysctls {
		// Kernels before 6.10 have these for the whole machine only, and ample.
		_ = writeSysctls([]string{s})
	}
	if err := runTool(l.lock, "ip", baseLinks(l.generation, l.far.id)); err != nil {
		return nil, err
	}
	err := l.far.do(func() error {
		if err := runTool(l.lock, "ip", farLinks(l.generation)); err != nil {
			return err
		}
		if err := l.wire.attach(l.generation); err != nil {
			return err
		}
		return awaitRunning(func(i int) string { return farName(l.generation, i) })
	})
	if err != nil {
		return nil, err
	}
	if err := awaitRunning(func(i int) string { return ports[i] }); err != nil {
		return nil, err
	}
	if err := awaitAddresses(); err != nil {
		return nil, err
	}
	if err := load(l.lock, c.Steps); err != nil {
		return nil, err
	}
	s, err := openStack()
	if err != nil {
		return nil, err
	}
	return &bench{Lab: l, c: c, stack: s, byID: map[uint32]*Observation{}, refusals: map[netip.Addr]int{}}, nil
}

// flows sends the opening packets, then the answers, then the further packets.
func (b *bench) flows(ctx context.Context) error {
	var opened []*Observation
	for i, s := range b.c.Shots {
		o := &Observation{Shot: i, Stage: opening, id: b.newID()}
		if err := b.shoot(ctx, o, s.From, segment{proto: s.Proto, src: s.Src, dst: s.Dst, id: o.id}); err != nil {
			return err
		}
		opened = append(opened, o)
	}
	if err := b.collect(opened); err != nil {
		return err
	}
	type flow struct{ first, reply *Observation }
	var answered []flow
	var replies []*Observation
	for _, o := range opened {
		s := b.c.Shots[o.Shot]
		if s.Then < 1 || !o.answerable(s.Proto) {
			continue
		}
		if !b.followed(ctx, s.Proto, o.Fate.Dst, o.Fate.Src, true) {
			continue
		}
		r := &Observation{Shot: o.Shot, Stage: answer, id: b.newID(), aliases: []uint32{o.id}}
		from := "local"
		if o.Fate.Kind == Forwarded {
			from = o.Fate.Out
		}
		seg := segment{proto: s.Proto, src: o.Fate.Dst, dst: o.Fate.Src, stage: answer, id: r.id, peer: o.id}
		if err := b.shoot(ctx, r, from, seg); err != nil {
			return err
		}
		answered, replies = append(answered, flow{o, r}), append(replies, r)
	}
	if len(replies) == 0 {
		return nil
	}
	if err := b.collect(replies); err != nil {
		return err
	}
	var more []*Observation
	for _, f := range answered {
		s := b.c.Shots[f.first.Shot]
		if s.Then < 2 || f.reply.Fate.Kind != Forwarded && f.reply.Fate.Kind != Local {
			continue
		}
		// The node's own TCP knows nothing of the flow, and has reset it when the answer arrived there.
		if s.Proto == protoTCP && f.reply.Fate.Kind == Local || !b.followed(ctx, s.Proto, s.Src, s.Dst, false) {
			continue
		}
		o := &Observation{Shot: f.first.Shot, Stage: further, id: f.first.id, aliases: []uint32{f.reply.id}}
		seg := segment{proto: s.Proto, src: s.Src, dst: s.Dst, stage: further, id: f.first.id, peer: f.reply.id}
		if err := b.shoot(ctx, o, s.From, seg); err != nil {
			return err
		}
		more = append(more, o)
	}
	return b.collect(more)
}

// answerable tells whether the far side of the flow can answer as a case wants it: the node's own TCP has answered
// already, echo requests are answered by no one, and no process answers from an address that is not the node's.
func (o *Observation) answerable(proto uint8) bool {
	switch {
	case len(o.seen) != 1 || proto == protoICMP || proto == protoICMPv6:
		return false
	case o.Fate.Kind == Forwarded:
		return true
	}
	own := slices.Contains(pool4.nodes, o.Fate.Dst.Addr()) || slices.Contains(pool6.nodes, o.Fate.Dst.Addr())
	return o.Fate.Kind == Local && proto != protoTCP && own
}

// followed tells whether the kernel takes a packet for the next one of its flow: the first reply, or a packet after a
// reply. The engine is asked about packets of a flow or about the first of a new one, never about a SYN ACK out of
// nowhere. UDP has no such packets.
func (b *bench) followed(ctx context.Context, proto uint8, src, dst netip.AddrPort, reply bool) bool {
	if proto != protoTCP && proto != protoSCTP {
		return true
	}
	n, err := live.OpenNode()
	if err != nil {
		return false
	}
	defer n.Close()
	ns, _, err := n.Namespace(ctx, node.Home)
	if err != nil {
		return false
	}
	c, isReply, err := ns.Lookup(ctx, skb.Tuple{Proto: proto, Src: src, Dst: dst}, 0)
	return err == nil && isReply == reply && (reply || c.Status&skb.StatusSeenReply != 0)
}

func (b *bench) newID() uint32 {
	b.nextID = (b.nextID + 1) & 0xffffff
	if b.nextID == 0 {
		b.nextID = 1
	}
	return b.nextID
}

// shoot asks the engine about a packet, and then sends it.
func (b *bench) shoot(ctx context.Context, o *Observation, from string, s segment) error {
	o.Start = walk.Start{Proto: s.proto, Source: s.src, Destination: s.dst}
	port := slices.Index(ports, from)
	if port >= 0 {
		o.Start.In = from
	}
	o.Trace, o.Err = evaluate(ctx, o.Start, b.derived)
	b.all = append(b.all, o)
	b.byID[o.id] = o
	for _, a := range o.aliases {
		b.byID[a] = o
	}
	if port < 0 {
		o.sendErr = b.stack.send(s.bytes(), s.src.Addr(), s.dst.Addr())
		return nil
	}
	return b.wire.send(port, s.bytes(), s.dst.Addr().Is4())
}

// alone is the node without what is at the far ends of its interfaces, where there is no network stack to walk into.
type alone struct{ *live.Node }

// Peer finds no namespace.
func (alone) Peer(context.Context, string, node.Link) (peer, name string, err error) {
	return "", "", node.ErrNotFound
}

// evaluate is the engine on the live state of the calling thread's namespace. A panic is an error like another.
func evaluate(ctx context.Context, s walk.Start, derived bool) (t *trace.Trace, err error) {
	defer func() {
		if p := recover(); p != nil {
			t, err = nil, fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	var options []live.Option
	if derived {
		options = append(options, live.WithoutBPF())
	}
	w := walk.Walker{Open: func(context.Context) (node.Node, func() error, error) {
		n, err := live.OpenNode(options...)
		if err != nil {
			return nil, nil, err
		}
		return alone{n}, n.Close, nil
	}}
	return w.Walk(ctx, s)
}

// collect waits until every packet was seen, or was waited for long enough, and writes the fates down.
func (b *bench) collect(sent []*Observation) error {
	deadline := grace
	for begin := time.Now(); ; time.Sleep(300 * time.Microsecond) {
		if err := b.look(); err != nil {
			return err
		}
		missing := false
		for _, o := range sent {
			if len(o.seen) > 0 || o.sendErr != nil {
				continue
			}
			missing = true
			if !b.mayBeSilent(o) {
				deadline = patience
			}
		}
		if !missing || time.Since(begin) > deadline {
			break
		}
	}
	for _, o := range sent {
		o.Fate = o.settle()
		o.refused = b.refusals[o.Start.Source.Addr()]
		if o.Fate.Kind == Refused {
			b.refusals[o.Start.Source.Addr()]++
		}
	}
	return nil
}

func (b *bench) mayBeSilent(o *Observation) bool {
	if o.Err != nil || len(o.Trace.Outcomes) == 0 {
		return true
	}
	for _, out := range o.Trace.Outcomes {
		if out.Verdict == trace.Dropped || out.Verdict == trace.Undetermined || out.Verdict == trace.Rejected && b.c.AnswersMayDie {
			return true
		}
	}
	return false
}

// look reads everything that was seen so far.
func (b *bench) look() error {
	note := func(s sighting, f Fate) {
		o, ok := b.byID[s.id]
		if !ok || s.proto != o.Start.Proto && s.refusal == "" {
			return
		}
		if s.refusal != "" {
			f = Fate{Kind: Refused, With: s.refusal}
		}
		if o.Start.Proto == protoICMP || o.Start.Proto == protoICMPv6 {
			f.Src, f.Dst = withoutPort(f.Src), withoutPort(f.Dst)
		}
		if !slices.Contains(o.seen, f) {
			o.seen = append(o.seen, f)
		}
	}
	err := b.wire.receive(func(port int, s sighting) {
		note(s, Fate{Kind: Forwarded, Out: ports[port], Src: s.src, Dst: s.dst})
	})
	if err != nil {
		return err
	}
	return b.stack.receive(func(s sighting) { note(s, Fate{Kind: Local, Src: s.src, Dst: s.dst}) })
}

func withoutPort(a netip.AddrPort) netip.AddrPort {
	if !a.Addr().IsValid() {
		return a
	}
	return netip.AddrPortFrom(a.Addr(), 0)
}

// settle tells the fate by what was seen. A packet that arrived somewhere is not refused, whatever its receiver answers.
func (o *Observation) settle() Fate {
	for _, k := range []Kind{Local, Forwarded, Refused} {
		for _, f := range o.seen {
			if f.Kind == k {
				return f
			}
		}
	}
	var errno unix.Errno
	if errors.As(o.sendErr, &errno) && errno != unix.EPERM {
		return Fate{Kind: Refused, With: unix.ErrnoName(errno)}
	}
	return Fate{Kind: Silent}
}
