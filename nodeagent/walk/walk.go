// Package walk moves a packet through one network namespace as the kernel does, and writes down what happens.
//
// The kernel's own pipeline is modelled: a packet passes hooks, and at each hook whatever is registered there is asked in
// the order of priorities, whoever made it.
//
//	                 in                                                          out
//	ingress ─ prerouting ─ routing ─┬─ forward ───────────┬─ postrouting ─ egress ─┬─ forwarded
//	                                └─ input ─ socket     │                        └─ lo ─ prerouting ─ input ─ socket
//	                     process ─ routing ─ output ──────┘
//
// A walk is a tree: where chance, a condition or something unknown decides, it forks, and each fork goes on alone. The
// forks are joined again at the end when they end alike.
package walk

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

// maxBranches bounds how many branches one walk may have; what lies beyond is reported as undetermined.
const maxBranches = 20000

// maxTries bounds how often a walk starts again because the rule set changed meanwhile.
const maxTries = 8

// Start is the packet that a walk begins with.
type Start struct {
	Proto uint8
	// Source and Destination; a source port of 0 is unknown, a zero source address is what the node itself would use.
	Source, Destination netip.AddrPort
	// In is the interface it arrives on. When empty, a packet from one of the namespace's own addresses starts at OUTPUT,
	// any other on the interface of the route back to its source.
	In   string
	Mark uint32
	// Node is written into the hops.
	Node string
	// Owner is who sends a packet that starts in a process; nil when that is not known.
	Owner *trace.Owner
	// Follow lets the walk go on in the namespace at the other end of a veth pair; else it ends where the packet leaves.
	Follow bool
	// FromAddress starts the walk as a process in the namespace on this node that has the source address.
	FromAddress bool
	// Namespace is the namespace of the process that sends, by the id that a node knows it by; "" when that is not known. With
	// FromAddress the walk starts there where no interface of the node leads to the source address.
	Namespace string
	// Reply makes the packet the first answer to a flow.
	Reply bool
	// Bytes is the packet from its network header on, when it is known in full: a packet of any kind, with extension headers,
	// or a fragment. Proto, Source and Destination are then read from it. Nil describes the first packet of a new flow, or
	// a later one when the flow is known.
	Bytes []byte
	// FrameTo is the hardware address that the frame was sent to, where In is the port of a bridge; nil when it is not known.
	FrameTo []byte
	// Assume are connection tracking entries that are taken as there.
	Assume []trace.Tracked
	// Arrives is an address of this node that the packet was sent to by its last hop: when In is empty, it arrives on the
	// interface with that address.
	Arrives netip.Addr
	// Tunnel is the outer packet that the packet arrives in, nil when it comes as it is.
	Tunnel *trace.Tunnel
}

// Walker walks packets through the namespace that it is given. It keeps nothing between walks.
type Walker struct {
	// Open returns the node's state, freshly read, and what closes it: it is called again when the state changed during a
	// walk.
	Open func(ctx context.Context) (n node.Node, done func() error, err error)
}

// Counting is what a node implements that counts its reads.
type Counting interface {
	// Reads returns the number of messages received and of files and tables read, and their bytes.
	Reads() (messages int, bytes int64)
}

// Walk returns what happens to a packet. Its errors are about a start that makes no sense (ErrStart) or about state that
// could not be read.
func (w *Walker) Walk(ctx context.Context, s Start) (*trace.Trace, error) {
	for range maxTries {
		n, done, err := w.Open(ctx)
		if err != nil {
			return nil, err
		}
		t, err := walkOnce(ctx, n, s)
		if c, ok := n.(Counting); ok && t != nil {
			t.Reads.Messages, t.Reads.Bytes = c.Reads()
		}
		if closed := done(); err == nil {
			err = closed
		}
		if !errors.Is(err, errChanged) {
			return t, err
		}
	}
	return nil, &node.ReadError{What: "the rule set", Err: errChanged}
}

// ErrStart is in the chain of errors about a packet that cannot start here.
var ErrStart = errors.New("the packet cannot start here")

var errChanged = errors.New("it kept changing while it was read")

func walkOnce(ctx context.Context, n node.Node, s Start) (*trace.Trace, error) {
	j := &journey{ctx: ctx, node: n, start: s, hopIndex: map[hopKey]int{}, places: map[string]*walk{}}
	w, err := j.place(node.Home)
	if err != nil {
		return nil, err
	}
	if s.FromAddress {
		if w, err = w.startPlace(); err != nil {
			return nil, err
		}
	}
	b, err := w.begin()
	if err != nil {
		return nil, err
	}
	in := b.p.In
	if s.Tunnel != nil {
		if err := w.wrapped(b, s.Tunnel); err != nil {
			return nil, err
		}
	}
	j.trace = trace.New(trace.Packet{
		Protocol: skb.ProtoName(s.Proto), Source: j.start.Source, Destination: j.start.Destination, In: in, Mark: trace.Mark(s.Mark),
	})
	if b.p.Local {
		w.sent(b)
		w.fromProcess(b)
	} else {
		w.fromInterface(b)
	}
	if j.err != nil {
		return nil, j.err
	}
	if err := j.unchanged(); err != nil {
		return nil, err
	}
	j.finish()
	for _, w := range j.places {
		j.trace.Reads.Hooks = j.trace.Reads.Hooks.Join(w.hookSource())
	}
	return j.trace, nil
}

// journey is one walk under way, through all the namespaces that it comes to.
type journey struct {
	ctx      context.Context
	node     node.Node
	start    Start
	trace    *trace.Trace
	places   map[string]*walk
	hopIndex map[hopKey]int
	ends     []end
	branches int
	// sockets are the programs that sockets meet.
	sockets map[socketKey][]string
	err     error // the first error; everything stops
}

// walk is the part of a journey in one network namespace.
type walk struct {
	*journey
	id    string
	label string
	ns    node.Namespace
	xt    *xtables.Evaluator
	nft   *nftables.Evaluator

	noNFT      bool
	generation uint32
	hooks      map[hookKey][]group
	chains     []nftables.Chain // all base chains
	haveNFT    bool             // chains was read
	// listed is what the kernel has registered at the hooks of a family; unlisted is true where it does not say.
	listed      map[node.NFTFamily][][]node.HookFunction
	unlisted    bool
	deviceHooks map[deviceKey]*deviceHook
	// devicesUnlisted is true where the kernel does not list the hooks of devices.
	devicesUnlisted bool
	// devices are the base chains of the families that have some bound to devices, where the others are listed.
	devices     []nftables.Chain
	haveDevices bool
	rules       map[chainKey]*chainRules
	texts       map[*nftables.Rule]string
	tables      map[skb.Family][]*xtables.Table
	active      map[skb.Family]bool // conntrack
}

// place returns the part of the journey in a namespace.
func (j *journey) place(id string) (*walk, error) {
	if w, ok := j.places[id]; ok {
		return w, nil
	}
	ns, label, err := j.node.Namespace(j.ctx, id)
	if err != nil {
		return nil, err
	}
	w := &walk{journey: j, id: id, label: label, ns: ns, hooks: map[hookKey][]group{}, listed: map[node.NFTFamily][][]node.HookFunction{},
		rules: map[chainKey]*chainRules{}, texts: map[*nftables.Rule]string{}}
	w.xt = &xtables.Evaluator{Env: ns}
	w.nft = &nftables.Evaluator{Env: ns, Compat: compat{w.xt}}
	w.generation, err = ns.NFTGeneration(j.ctx)
	if err != nil && !errors.Is(err, node.ErrNotSupported) {
		return nil, err
	}
	w.noNFT = err != nil
	j.places[id] = w
	return w, nil
}

// unchanged checks that no rule set moved meanwhile.
func (j *journey) unchanged() error {
	for _, w := range j.places {
		if len(w.listed) > 0 {
			same, err := w.ns.SameHooks(j.ctx)
			if err != nil {
				return err
			}
			if !same {
				return errChanged
			}
		}
		if w.noNFT {
			continue
		}
		after, err := w.ns.NFTGeneration(j.ctx)
		if err != nil {
			return err
		}
		if after != w.generation {
			return errChanged
		}
	}
	return nil
}

// begin makes the first branch.
func (w *walk) begin() (*branch, error) {
	s := &w.start
	if s.Bytes == nil && !s.Destination.Addr().IsValid() {
		return nil, fmt.Errorf("%w: it has no destination", ErrStart)
	}
	s.Destination = unmap(s.Destination)
	local := false
	if s.Bytes == nil && !s.Source.Addr().IsValid() {
		r, err := w.ns.Route(w.ctx, node.RouteQuery{Dst: s.Destination.Addr(), Mark: s.Mark, Proto: s.Proto, DstPort: s.Destination.Port()})
		if err != nil {
			return nil, fmt.Errorf("%w: no source address: %w", ErrStart, err)
		}
		if !r.PrefSrc.IsValid() && len(r.OneOf) > 0 {
			return nil, fmt.Errorf("%w: the route to %s is by one of %d next hops, which give it different source addresses: say which one it has", ErrStart, s.Destination.Addr(), len(r.OneOf))
		}
		if !r.PrefSrc.IsValid() {
			return nil, fmt.Errorf("%w: no route to %s gives it a source address", ErrStart, s.Destination.Addr())
		}
		s.Source, local = netip.AddrPortFrom(r.PrefSrc, s.Source.Port()), true
	}
	s.Source = unmap(s.Source)
	p, err := skb.New(s.Proto, s.Source, s.Destination)
	if s.Bytes != nil {
		p, err = skb.Parse(s.Bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStart, err)
	}
	if s.Bytes != nil {
		s.Proto, s.Source, s.Destination = p.Proto(), p.Source(), p.Destination()
	}
	p.Mark = s.Mark
	if s.Reply && s.Bytes == nil {
		p.SetTCPFlags(0x12, 0x17)       // SYN and ACK
		p.SetDestination(s.Destination) // a port of 0 is one that the kernel chose
	}
	if s.In == "" && !local && s.Tunnel == nil && !s.Arrives.IsValid() {
		typ, err := w.ns.AddrType(w.ctx, s.Source.Addr(), "")
		if err != nil {
			return nil, err
		}
		local = typ == node.RouteLocal
	}
	p.Local, p.PriorityUnknown = local, local // the sender's socket has a priority of its own (SO_PRIORITY, IP_TOS)
	if !local && s.Tunnel == nil {
		if p.In, err = w.inputInterface(s.In, s.Source.Addr()); err != nil {
			return nil, err
		}
	}
	if err := w.describeKnown(p); err != nil {
		return nil, err
	}
	return &branch{p: p, prob: big.NewRat(1, 1)}, nil
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// inputInterface checks the interface a packet is said to arrive on, or finds that of the route back to its source.
func (w *walk) inputInterface(name string, source netip.Addr) (string, error) {
	if name == "" && w.start.Arrives.IsValid() {
		return w.interfaceWith(w.start.Arrives)
	}
	if name == "" {
		r, err := w.ns.Route(w.ctx, node.RouteQuery{Dst: source})
		var refused *node.RouteError
		if errors.As(err, &refused) {
			return "", fmt.Errorf("%w: there is no route back to %s: say by --in where it comes from", ErrStart, source)
		}
		if err == nil && len(r.OneOf) > 0 {
			return "", fmt.Errorf("%w: the route back to %s is by one of %d next hops: say by --in where it comes from", ErrStart, source, len(r.OneOf))
		}
		return r.Out, err
	}
	links, err := w.ns.Links(w.ctx)
	if err != nil {
		return "", err
	}
	for _, l := range links {
		if l.Name == name {
			return name, nil
		}
	}
	return "", fmt.Errorf("%w: there is no interface %q", ErrStart, name)
}

// interfaceWith returns the interface that has an address.
func (w *walk) interfaceWith(a netip.Addr) (string, error) {
	addrs, err := w.ns.Addresses(w.ctx)
	if err != nil {
		return "", err
	}
	links, err := w.ns.Links(w.ctx)
	if err != nil {
		return "", err
	}
	for _, x := range addrs {
		if x.Prefix.Addr() != a {
			continue
		}
		for _, l := range links {
			if l.Index == x.Link {
				return l.Name, nil
			}
		}
	}
	return "", fmt.Errorf("%w: no interface has the address %s", ErrStart, a)
}

// fail keeps the first error; the walk stops as soon as it can.
func (j *journey) fail(err error) {
	if j.err == nil && err != nil {
		j.err = err
	}
}

func (j *journey) stopped() bool {
	if j.err == nil {
		j.fail(j.ctx.Err())
	}
	return j.err != nil
}
