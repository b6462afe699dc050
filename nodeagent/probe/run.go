//go:build linux

package probe

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// session is one probe under way.
type session struct {
	target
	id   string
	node *live.Node
	// places are the client's namespace and then, when it is another one, the node's; later those of endpoints are added.
	places   []*place
	attempts []*attempt
	drops    *drops
	// notes say what could not be watched.
	notes []string
}

// Run opens the requested connections and reports what happened. Its errors are about a request that makes no sense
// (ErrRequest), about state that could not be read, or the context's. What could not be watched is no error but a note.
func Run(ctx context.Context, r wire.ProbeRequest) (answer *wire.ProbeAnswer, err error) {
	t, err := checked(r)
	if err != nil {
		return nil, err
	}
	n, err := live.OpenNode()
	if err != nil {
		return nil, err
	}
	s := &session{target: t, id: newID(), node: n}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	before := s.count(ctx, r.Rules)
	if err := s.probe(ctx); err != nil {
		return nil, err
	}
	answer = s.answer(r.Protocol)
	if before != nil {
		answer.Counters = moved(r.Rules, before, s.count(ctx, r.Rules))
	}
	answer.Notes = s.notes
	return answer, nil
}

// newID names a probe: it is in its table's name and in its datagrams.
func newID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // does not fail (crypto/rand)
	return hex.EncodeToString(b[:])
}

// note records once what could not be watched.
func (s *session) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); !slices.Contains(s.notes, n) {
		s.notes = append(s.notes, n)
	}
}

// close closes everything; with it go the trace rules and the drop program.
func (s *session) close() error {
	var errs []error
	for _, a := range s.attempts {
		a.close()
	}
	if s.drops != nil {
		errs = append(errs, s.drops.close())
	}
	for _, p := range s.places {
		errs = append(errs, p.close())
	}
	return errors.Join(append(errs, s.node.Close())...)
}

// open binds the sockets, so that the tuples are known, and begins to watch for them. Nothing is sent yet.
func (s *session) open(ctx context.Context) error {
	id, source, err := client(ctx, s.node, s.target)
	if err != nil {
		return err
	}
	for _, where := range []string{id, node.Home} {
		if s.placeOf(where) != nil {
			continue
		}
		p, err := openPlace(ctx, s.node, where)
		if err != nil {
			return err
		}
		s.places = append(s.places, p)
	}
	err = s.node.In(ctx, id, func() error {
		for range s.target.count {
			a, err := s.bindAs(source)
			if errors.Is(err, unix.EPROTONOSUPPORT) {
				return fmt.Errorf("%w: %s sockets", node.ErrNotSupported, skb.ProtoName(s.proto))
			}
			if err != nil {
				return fmt.Errorf("opening a socket at %s: %w", source, err)
			}
			a.tuples = []skb.Tuple{s.tuple(a.src)}
			s.attempts = append(s.attempts, a)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.watch(ctx)
	return ctx.Err()
}

// watch sets up trace events and drop reasons. What this kernel does not offer is noted.
func (s *session) watch(ctx context.Context) {
	by := map[skb.Tuple]*attempt{}
	ports := make([]uint16, 0, len(s.attempts))
	for _, a := range s.attempts {
		by[a.first()] = a
		ports = append(ports, a.src.Port())
	}
	for _, p := range s.places {
		err := s.node.In(ctx, p.id, func() error {
			var err error
			p.watch, err = openWatch(ctx, p.label, TablePrefix+s.id, by)
			return err
		})
		if err != nil {
			s.note("no nftables trace events in %s: %v", p.label, err)
		}
	}
	var err error
	if s.drops, err = watchDrops(s.proto, ports); err != nil {
		s.note("no drop reasons: %v", err)
	}
}

func (s *session) placeOf(id string) *place {
	i := slices.IndexFunc(s.places, func(p *place) bool { return p.id == id })
	if i < 0 {
		return nil
	}
	return s.places[i]
}

// count reads the rules' counters; nil when they cannot be read.
func (s *session) count(ctx context.Context, rules []wire.ProbeRule) map[wire.ProbeRule]count {
	if len(rules) == 0 {
		return nil
	}
	c, err := counters(ctx, s.node, s.places, rules)
	if err != nil {
		s.note("no counters: %v", err)
		return nil
	}
	return c
}

// probe opens the connections, some at a time, and asks conntrack about them while they are open.
func (s *session) probe(ctx context.Context) error {
	payload := "kubectl-svctrace probe " + s.id + "\n"
	for group := range slices.Chunk(s.attempts, inFlight) {
		for _, a := range group {
			a.start(s.dst, payload)
		}
		if err := s.wait(ctx, group); err != nil {
			return err
		}
		for _, a := range group {
			if err := s.track(ctx, a); err != nil {
				return err
			}
		}
		if err := s.drain(); err != nil {
			return err
		}
		for _, a := range group {
			a.close()
		}
	}
	return nil
}

// track follows the connection's entries from namespace to namespace, up to that of an endpoint on this node.
func (s *session) track(ctx context.Context, a *attempt) error {
	a.out.Tracked = []trace.Tracked{}
	t := a.first()
	if a.out.Peer.IsValid() {
		t.Dst = a.out.Peer
	}
	var err error
	passed := slices.Clone(s.places[:min(len(s.places), 2)])
	for _, p := range passed {
		if t, err = p.track(ctx, a, t); err != nil {
			s.note("no conntrack entries of %s: %v", p.label, err)
		}
	}
	if end := s.endpoint(ctx, t.Dst.Addr()); end != nil && !slices.Contains(passed, end) {
		if _, err = end.track(ctx, a, t); err != nil {
			s.note("no conntrack entries of %s: %v", end.label, err)
		}
	}
	return ctx.Err()
}

// endpoint is the namespace on this node that has an address; nil when there is none.
func (s *session) endpoint(ctx context.Context, addr netip.Addr) *place {
	id, err := s.node.Having(ctx, addr)
	if err != nil {
		return nil // on another node, or in several namespaces at once
	}
	if p := s.placeOf(id); p != nil {
		return p
	}
	p, err := openPlace(ctx, s.node, id)
	if err != nil {
		s.note("the namespace with %s: %v", addr, err)
		return nil
	}
	s.places = append(s.places, p)
	return p
}

// drain takes in the trace events and drops that have come.
func (s *session) drain() error {
	for _, p := range s.places {
		if p.watch == nil {
			continue
		}
		if err := p.watch.drain(); err != nil {
			return err
		}
		if p.watch.lost {
			s.note("some nftables trace events in %s were lost", p.label)
		}
	}
	if s.drops == nil {
		return nil
	}
	return s.drops.drain(s.dropped)
}

// dropped adds a drop to the connection it belongs to.
func (s *session) dropped(d drop) {
	i := slices.IndexFunc(s.attempts, func(a *attempt) bool { return !a.started.IsZero() && a.owns(d.tuple) })
	if i < 0 {
		return
	}
	a := s.attempts[i]
	if a.done && a.out.Result.Succeeded() {
		return // of the connection's end, which is of no concern
	}
	a.drops[d]++
	if a.out.SeenBy == "" && d.tuple.Src == a.src && d.tuple.Dst != s.dst {
		a.seen(d.tuple, seenByDrop)
	}
}

// tidy are the reasons with which the kernel frees packets that it has no more use for: they say nothing about a connection
// that succeeded.
var tidy = map[string]bool{"NOT_SPECIFIED": true, "QUEUE_PURGE": true, "SOCKET_CLOSE": true}

// dropsOf lists the drops of a connection, once every namespace that it came to has a name.
func (s *session) dropsOf(a *attempt) []wire.ProbeDrop {
	out := []wire.ProbeDrop{}
	for d, n := range a.drops {
		reason := s.drops.reason(d.reason)
		if tidy[reason] && a.out.Result.Succeeded() {
			continue
		}
		out = append(out, wire.ProbeDrop{Namespace: s.namespace(d.namespace), Reason: reason, Source: d.tuple.Src, Destination: d.tuple.Dst, Count: n})
	}
	slices.SortFunc(out, func(x, y wire.ProbeDrop) int {
		return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Reason, y.Reason), x.Source.Compare(y.Source), x.Destination.Compare(y.Destination))
	})
	return out
}

// namespace names a namespace by its inode.
func (s *session) namespace(inode uint32) string {
	if inode == 0 {
		return ""
	}
	id, err := s.node.ID(uint64(inode))
	if err == nil {
		if p := s.placeOf(id); p != nil {
			return p.label
		}
	}
	return "netns " + strconv.FormatUint(uint64(inode), 10)
}

// answer is the report, with each connection's events in the order of the namespaces.
func (s *session) answer(protocol string) *wire.ProbeAnswer {
	order := map[string]int{}
	for i, p := range s.places {
		order[p.label] = i
	}
	out := &wire.ProbeAnswer{Protocol: protocol, Destination: s.dst, Namespace: s.places[0].label, Attempts: []wire.ProbeAttempt{}, Counters: []wire.ProbeCounter{}}
	for _, a := range s.attempts {
		slices.SortStableFunc(a.out.Events, func(x, y wire.ProbeEvent) int { return cmp.Compare(order[x.Namespace], order[y.Namespace]) })
		a.out.Drops = s.dropsOf(a)
		out.Attempts = append(out.Attempts, a.out)
	}
	return out
}
