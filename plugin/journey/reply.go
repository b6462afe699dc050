package journey

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// mostReplies bounds how many replies of one journey are walked each for itself; of more, one stands for all that are alike.
const mostReplies = 16

// replies walks the replies from the ends that a packet was delivered to.
func (g *Guide) replies(ctx context.Context, s Start, j *Journey) {
	if s.Client.Invented {
		return // nobody is there to get a reply
	}
	j.Replies = answering(s, j.Trace)
	var wg sync.WaitGroup
	for i := range j.Replies {
		wg.Go(func() { g.reply(ctx, s, j.Trace, &j.Replies[i]) })
	}
	wg.Wait()
}

// answering chooses the ends whose replies are walked: those at a socket, or in the stack of a node whose protocol has no
// sockets that could be seen. A packet that its own pod's sidecar takes goes nowhere, and neither does a reply.
func answering(s Start, t *trace.Trace) []Reply {
	var out []Reply
	for i := range t.Outcomes {
		o := &t.Outcomes[i]
		if o.Verdict == trace.Delivered || o.Verdict == trace.Local && o.Reason == "" {
			if !TakenBySidecar(s.Client, t, o) {
				out = append(out, Reply{Outcome: i})
			}
		}
	}
	if len(out) <= mostReplies {
		return out
	}
	var chosen []Reply
	at := map[string]int{}
	for _, r := range out {
		o := &t.Outcomes[r.Outcome]
		key := strings.Join(nodesOf(t, o), " ") + fmt.Sprint(o.Masqueraded, inPod(t, o), sameAddress(o, t.Packet))
		k, seen := at[key]
		if !seen {
			at[key] = len(chosen)
			chosen = append(chosen, r)
			continue
		}
		chosen[k].Same = append(chosen[k].Same, r.Outcome)
	}
	return chosen
}

// TakenBySidecar reports whether the packet of a pod ends at a socket in that pod itself, which the pod's own rules
// redirected it to: a service mesh's proxy.
func TakenBySidecar(c intent.Client, t *trace.Trace, o *trace.Outcome) bool {
	if c.Kind != intent.FromPod || o.Verdict != trace.Delivered && o.Verdict != trace.Local || len(o.Path) == 0 {
		return false
	}
	first := t.Hops[o.Path[0]]
	return !slices.ContainsFunc(o.Path, func(i int) bool {
		h := &t.Hops[i]
		return h.Node != first.Node || h.Namespace != first.Namespace || h.Namespace == "host" || h.Hook == "veth"
	})
}

// inPod reports whether an outcome ends in the namespace of a pod.
func inPod(t *trace.Trace, o *trace.Outcome) bool {
	h := lastHop(t, o)
	return h != nil && h.Namespace != "" && h.Namespace != "host"
}

// reply walks one reply.
func (g *Guide) reply(ctx context.Context, s Start, t *trace.Trace, r *Reply) {
	o := &t.Outcomes[r.Outcome]
	nodes := nodesOf(t, o)
	if len(nodes) == 0 {
		nodes = []string{s.Client.Node}
	}
	node := nodes[len(nodes)-1]
	assume := func(node string) []trace.Tracked {
		return slices.DeleteFunc(slices.Clone(o.Tracked), func(e trace.Tracked) bool { return e.Node != node })
	}
	for _, e := range o.Tracked {
		if translates(e) && !slices.Contains(r.Undone, e.Node) {
			r.Undone = append(r.Undone, e.Node)
		}
	}
	root := g.leg(ctx, node, wire.WalkRequest{
		Protocol: s.Protocol, Source: o.Destination, Destination: o.Source, Node: node, Follow: true, FromAddress: inPod(t, o),
	}, assume, 0)
	switch {
	case root.err != nil:
		r.Return, r.Why = Unclear, fmt.Sprintf("it could not be walked on %s: %s", node, root.err)
		return
	case root.failed != nil:
		r.Return, r.Why = Unclear, fmt.Sprintf("it could not be walked on %s: %s", node, root.failed.Message)
		r.NotStarted = root.failed.Code == wire.CodeBadRequest
		return
	}
	b := newBuilder(root.trace.Packet)
	b.join(root, way{}, nil)
	r.Trace = b.trace
	r.Return = Symmetric
	if len(b.trace.Outcomes) == 0 {
		r.Return, r.Why = Unclear, "its walk has no end"
	}
	for i := range b.trace.Outcomes {
		back, why := s.judge(t, o, b, i)
		if back.rank() > r.Return.rank() {
			r.Return, r.Why = back, why
		}
	}
}

func translates(e trace.Tracked) bool {
	return e.ReplySource != e.Destination || e.ReplyDestination.Addr() != e.Source.Addr()
}

// judge says how one end of a reply's walk looks to the client. sent is the end that replies.
func (s Start) judge(there *trace.Trace, sent *trace.Outcome, b *builder, i int) (Return, string) {
	o := &b.trace.Outcomes[i]
	nodes, back := nodesOf(there, sent), nodesOf(b.trace, o)
	if len(nodes) == 0 {
		nodes = []string{s.Client.Node}
	}
	at := nodes[len(nodes)-1]
	if len(back) > 0 {
		at = back[len(back)-1]
	}
	if k := slices.IndexFunc(b.stops, func(x Stop) bool { return x.Outcome == i }); k >= 0 {
		return Unclear, b.stops[k].text()
	}
	switch o.Verdict {
	case trace.Undetermined:
		what := o.Reason
		if len(o.Unknown) > 0 {
			what = o.Unknown[0].What
		}
		return Unclear, fmt.Sprintf("what becomes of it on %s could not be told: %s", at, what)
	case trace.Dropped, trace.Rejected:
		return Lost, strings.TrimSuffix(fmt.Sprintf("it is %s on %s: %s", o.Verdict, at, o.Reason), ": ") + onlyIf(o.Conditions)
	}
	client := there.Packet.Source.Addr().Unmap()
	if to := o.Destination.Addr().Unmap(); to != client && to == sent.Source.Addr().Unmap() && o.Verdict != trace.Forwarded {
		return Untranslated, fmt.Sprintf("it ends on %s at %s, the masquerading address, and is not passed on to %s", at, to, client)
	} else if to != client {
		return Lost, fmt.Sprintf("it goes to %s on %s, and the client is %s", to, at, client)
	}
	if s.Client.Kind == intent.FromOutside {
		// An address that the user gave for one outside may be a pod's, whose packets come by another node: then the reply
		// ends in that pod.
		if o.Verdict != trace.Forwarded && !inPod(b.trace, o) {
			return Lost, "it ends on " + at + " and does not leave the cluster"
		}
	} else if o.Verdict == trace.Forwarded || at != s.Client.Node {
		return Lost, fmt.Sprintf("it leaves %s%s, and the client is on %s", at, by(o.Out), s.Client.Node)
	}
	if from := unmap(o.Source); from != s.Destination {
		return Untranslated, fmt.Sprintf("it comes from %s, and the client had asked %s", from, s.Destination)
	}
	if s.Client.Kind == intent.FromOutside && o.Verdict != trace.Forwarded && len(back) > 1 {
		back = back[:len(back)-1] // the node that the client turned out to be on; the packet's way was not seen there
	}
	came := slices.Clone(nodes)
	slices.Reverse(came)
	if len(back) > 0 && !slices.Equal(came, back) {
		return Asymmetric, fmt.Sprintf("it goes back by %s, and the packet came by %s", strings.Join(back, ", "), strings.Join(nodes, ", "))
	}
	if s.In != "" && o.Out != "" && o.Out != s.In {
		return Asymmetric, fmt.Sprintf("it leaves %s by %s, and the packet came in by %s", at, o.Out, s.In)
	}
	return Symmetric, ""
}

func onlyIf(conditions []string) string {
	if len(conditions) == 0 {
		return ""
	}
	return " (if " + strings.Join(conditions, " and ") + ")"
}

func by(out string) string {
	if out == "" {
		return ""
	}
	return " by " + out
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// text says in the middle of a sentence where the packet goes, and why its way ends there.
func (s Stop) text() string {
	if s.Bounded {
		return fmt.Sprintf("it goes on to %s and is not followed: %s", s.Node, s.Why)
	}
	return fmt.Sprintf("it goes on to %s, which could not be read: %s", s.Node, s.Why)
}
