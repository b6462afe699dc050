//go:build linux

package oracle

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
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
	// Short tells which constructs the engine shall be asked about without; nil asks about none.
	Short func(construct string) bool

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
	// other is the other fragment of the same packet, nil when it was sent in one; later tells whether this is the later one.
	other *Observation
	later bool
	// without are the engine's answers without one rule of the way, by the rule, where they were asked for.
	without map[ruleKey]*trace.Trace
	// constructs are what the rules of the way are made of.
	constructs map[ruleKey][]string
	id         uint32
	aliases    []uint32
	seen       []Fate
	sendErr    error
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
	// expressions are what rules are made of, as far as they were looked up.
	expressions map[ruleKey][]string
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
	for _, step := range c.Steps {
		if step.Tool == "listen" {
			if err := s.listen(step.Input); err != nil {
				s.close()
				return nil, err
			}
		}
	}
	return &bench{Lab: l, c: c, stack: s, byID: map[uint32]*Observation{}, refusals: map[netip.Addr]int{}, expressions: map[ruleKey][]string{}}, nil
}

// flow is a flow under way: its first packet, and the last in each direction.
type flow struct {
	shot               Shot
	first, reply, last *Observation
	// alive is false once the flow cannot go on.
	alive bool
}

// flows sends the opening packets, then the answers, then what follows, one packet of each flow at a time.
func (b *bench) flows(ctx context.Context) error {
	var all []*flow
	var sent []*Observation
	for i, s := range b.c.Shots {
		o := &Observation{Shot: i, Stage: opening, id: b.newID()}
		f := &flow{shot: s, first: o, last: o, alive: true}
		seg := segment{proto: s.Proto, src: s.Src, dst: s.Dst, id: o.id, echo: uint16(o.id), shape: s.shape}
		if s.cut {
			seg.rest = b.newID()
		}
		rest, err := b.shoot(ctx, o, s.From, seg)
		if err != nil {
			return err
		}
		all, sent = append(all, f), append(sent, o)
		if rest != nil {
			sent, f.alive = append(sent, rest), false
		}
	}
	if err := b.collect(sent); err != nil {
		return err
	}
	for st := answer; st <= reopening; st++ {
		sent = nil
		for _, f := range all {
			if f.alive = f.alive && f.shot.Then >= int(st) && b.follows(ctx, f, st); !f.alive {
				continue
			}
			o, from, seg := b.next(f, st)
			if _, err := b.shoot(ctx, o, from, seg); err != nil {
				return err
			}
			sent = append(sent, o)
		}
		if len(sent) == 0 {
			return nil
		}
		if err := b.collect(sent); err != nil {
			return err
		}
	}
	return nil
}

// follows tells whether a flow's next packet can be sent.
func (b *bench) follows(ctx context.Context, f *flow, st stage) bool {
	s := f.shot
	if st == answer {
		return f.first.answerable(s) && (s.Exact || b.followed(ctx, s.Proto, f.first.Fate.Dst, f.first.Fate.Src, true))
	}
	if f.last.Fate.Kind != Forwarded && f.last.Fate.Kind != Local || st > further && s.Proto != protoTCP || st == reopening && s.flags != 0 {
		return false
	}
	// The node's own TCP knows nothing of the flow, and has reset it when the answer arrived there.
	if s.Proto == protoTCP && f.last.Fate.Kind == Local {
		return false
	}
	if st.back() {
		return s.Exact || b.followed(ctx, s.Proto, f.first.Fate.Dst, f.first.Fate.Src, true)
	}
	return s.Exact || b.followed(ctx, s.Proto, s.Src, s.Dst, false)
}

// next makes a flow's next packet.
func (b *bench) next(f *flow, st stage) (o *Observation, from string, seg segment) {
	s := f.shot
	o = &Observation{Shot: f.first.Shot, Stage: st}
	seg = segment{proto: s.Proto, stage: st, echo: uint16(f.first.id), shape: s.shape}
	seg.flags = 0
	if st != reopening {
		seg.mss = 0
	}
	if !st.back() {
		o.id, from, seg.src, seg.dst, seg.id = f.first.id, s.From, s.Src, s.Dst, f.first.id
		if f.reply != nil {
			o.aliases, seg.peer = []uint32{f.reply.id}, f.reply.id
		}
		f.last = o
		return o, from, seg
	}
	o.id, o.aliases = b.newID(), []uint32{f.first.id}
	if f.reply != nil {
		o.id = f.reply.id
	}
	from = "local"
	if f.first.Fate.Kind == Forwarded {
		from = f.first.Fate.Out
	}
	seg.src, seg.dst, seg.id, seg.peer = f.first.Fate.Dst, f.first.Fate.Src, o.id, f.first.id
	f.reply, f.last = o, o
	return o, from, seg
}

// answerable tells whether the far side of the flow can answer as a case wants it: the node's own TCP has answered
// already, the node's own echo reply too, and no process answers from an address that is not the node's. A packet that is
// only described is the first of its flow or one that conntrack knows, so an echo reply can be sent in full only.
func (o *Observation) answerable(s Shot) bool {
	icmp := s.Proto == protoICMP || s.Proto == protoICMPv6
	switch {
	case len(o.seen) != 1 || icmp && !s.Exact:
		return false
	case o.Fate.Kind == Forwarded:
		return !s.strange()
	}
	own := slices.Contains(pool4.nodes, o.Fate.Dst.Addr()) || slices.Contains(pool6.nodes, o.Fate.Dst.Addr())
	return o.Fate.Kind == Local && s.Proto != protoTCP && !icmp && own && !s.strange()
}

// strange tells whether the packet's protocol has no answers here.
func (s Shot) strange() bool {
	switch s.Proto {
	case protoTCP, protoUDP, protoSCTP, protoICMP, protoICMPv6:
		return false
	}
	return true
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

// shoot asks the engine about a packet, and then sends it. rest is the later fragment of a packet that is cut in two.
func (b *bench) shoot(ctx context.Context, o *Observation, from string, s segment) (rest *Observation, err error) {
	if !s.cut {
		return nil, b.shootBytes(ctx, o, from, s, s.bytes())
	}
	first, later := s.fragments()
	rest = &Observation{Shot: o.Shot, Stage: o.Stage, id: s.rest, other: o, later: true}
	o.other = rest
	if err := b.shootBytes(ctx, o, from, s, first); err != nil {
		return nil, err
	}
	return rest, b.shootBytes(ctx, rest, from, s, later)
}

func (b *bench) shootBytes(ctx context.Context, o *Observation, from string, s segment, packet []byte) error {
	shot := b.c.Shots[o.Shot]
	o.Start = walk.Start{Proto: s.proto, Source: s.src, Destination: s.dst}
	if shot.Exact {
		o.Start.Bytes = packet
	}
	port := slices.Index(ports, from)
	var to [6]byte
	if port >= 0 {
		o.Start.In, to = from, b.frameTo(shot, from, port)
		if b.c.bridged() && slices.Contains(bridgePorts, from) {
			o.Start.FrameTo = to[:]
		}
	}
	o.Trace, o.Err = evaluate(ctx, o.Start, nil, b.derived)
	o.without = b.counterfactuals(ctx, o)
	b.all = append(b.all, o)
	b.byID[o.id] = o
	for _, a := range o.aliases {
		b.byID[a] = o
	}
	if port < 0 {
		o.sendErr = b.stack.send(packet, s.src.Addr(), s.dst.Addr())
		return nil
	}
	return b.wire.send(port, packet, s.dst.Addr().Is4(), to)
}

// frameTo is the hardware address that a frame of the shot's flow is sent to: from a bridge's port to the bridge, unless the
// two ends are on it and speak to each other.
func (b *bench) frameTo(s Shot, from string, port int) [6]byte {
	switch {
	case !b.c.bridged() || !slices.Contains(bridgePorts, from):
		return mac(port, false)
	case s.To == "" || s.To == "bridge":
		return bridgeMAC
	case from == s.From:
		return mac(slices.Index(ports, s.To), true)
	}
	return mac(slices.Index(ports, s.From), true)
}

// alone is the node without what is at the far ends of its interfaces, where there is no network stack to walk into.
type alone struct{ *live.Node }

// Peer finds no namespace.
func (alone) Peer(context.Context, string, node.Link) (peer, name string, err error) {
	return "", "", node.ErrNotFound
}

// evaluate is the engine on the live state of the calling thread's namespace. A panic is an error like another.
// without, when not nil, is a rule that the engine shall not see; derived has it work without the kernel's lists of hooks.
func evaluate(ctx context.Context, s walk.Start, without *ruleKey, derived bool) (t *trace.Trace, err error) {
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
		if without != nil {
			return lacking{alone{n}, *without}, n.Close, nil
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
		if first := o.other; o.later && o.Fate.Src.Addr() == first.Fate.Src.Addr() && o.Fate.Dst.Addr() == first.Fate.Dst.Addr() && o.Fate.Kind == first.Fate.Kind {
			o.Fate.Src, o.Fate.Dst = first.Fate.Src, first.Fate.Dst // a later fragment has no ports of its own
		}
		o.refused = b.refusals[o.Start.Source.Addr()]
		if o.Fate.Kind == Refused {
			b.refusals[o.Start.Source.Addr()]++
		}
	}
	return nil
}

func (b *bench) mayBeSilent(o *Observation) bool {
	if o.Err != nil || len(o.Trace.Outcomes) == 0 || o.other != nil {
		return true
	}
	for _, out := range o.Trace.Outcomes {
		if out.Verdict == trace.Dropped || out.Verdict == trace.Undetermined || out.Verdict == trace.Rejected && (b.c.AnswersMayDie || strings.Contains(out.RejectWith, "exceeded")) {
			return true
		}
	}
	return false
}

// look reads everything that was seen so far.
func (b *bench) look() error {
	note := func(s sighting, f Fate) {
		o, ok := b.byID[s.id]
		if !ok || s.proto != o.Start.Proto && s.refusal == "" || s.echoReply && !o.Stage.back() || o.Stage.back() && isICMP(s.proto) && s.refusal == "" && !s.echoReply {
			return
		}
		if s.refusal != "" {
			f = Fate{Kind: Refused, With: s.refusal}
		}
		if isICMP(o.Start.Proto) {
			f.Src, f.Dst = withoutPort(f.Src), withoutPort(f.Dst)
		}
		o.see(f)
		// A packet that was put together is both its fragments.
		if o.other != nil && !o.later && s.refusal == "" && (f.Kind == Local || s.size > cutAt) {
			o.other.see(f)
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

func (o *Observation) see(f Fate) {
	if !slices.Contains(o.seen, f) {
		o.seen = append(o.seen, f)
	}
}

func isICMP(proto uint8) bool { return proto == protoICMP || proto == protoICMPv6 }

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
