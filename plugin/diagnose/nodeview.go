package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/journey"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// branchEnd is the end of one branch of a walk, with the hop that decided it.
type branchEnd struct {
	// client is the node that the walk starts on, and node the one that the branch ends on.
	client *survey.Node
	node   *survey.Node
	walk   *survey.Walk
	// trace is the walk's, or that of its reply.
	trace *trace.Trace
	reply bool
	out   *trace.Outcome
	last  *trace.Hop
	place Place
}

// wrongEnds calls f for each branch of the walks that differ from what the API asks for.
func (s *scene) wrongEnds(f func(branchEnd)) {
	for _, n := range s.nodes {
		for i := range n.Walks {
			w := &n.Walks[i]
			if w.Trace == nil || !s.differs(n, w) {
				continue
			}
			for k := range w.Trace.Outcomes {
				f(s.end(n, w, w.Trace, k))
			}
		}
	}
}

// lostReplies calls f for each branch of the replies that do not come back.
func (s *scene) lostReplies(f func(branchEnd)) {
	for _, n := range s.nodes {
		for i := range n.Walks {
			w := &n.Walks[i]
			for k := range w.Replies {
				r := &w.Replies[k]
				if r.Return != journey.Lost || r.Trace == nil {
					continue
				}
				for o := range r.Trace.Outcomes {
					e := s.end(n, w, r.Trace, o)
					e.reply = true
					f(e)
				}
			}
		}
	}
}

func (s *scene) end(n *survey.Node, w *survey.Walk, t *trace.Trace, outcome int) branchEnd {
	e := branchEnd{client: n, node: n, walk: w, trace: t, out: &t.Outcomes[outcome], place: Place{Path: w.Path, Client: w.Client.Kind}}
	if e.last = lastOf(t, e.out); e.last != nil {
		e.node = s.nodeOf(e.last, n)
	}
	return e
}

// nodeOf is the node that a hop is on; without facts where it was not asked, and otherwise where the hop does not say.
func (s *scene) nodeOf(h *trace.Hop, otherwise *survey.Node) *survey.Node {
	if h.Node == "" || h.Node == otherwise.Name {
		return otherwise
	}
	for _, n := range s.nodes {
		if n.Name == h.Node {
			return n
		}
	}
	return &survey.Node{Node: intent.Node{Name: h.Node}}
}

// differs reports whether a walk agrees neither with what is expected nor with an alternative.
func (s *scene) differs(n *survey.Node, w *survey.Walk) bool {
	if w.Trace == nil {
		return false
	}
	v := viewOf(s.model, w)
	for _, e := range append([]intent.Expectation{w.Expect}, w.Expect.Alternatives...) {
		wrong := slices.ContainsFunc(judge(s.model, n, w, v, e), func(d draft) bool { return d.kind.ID != Undetermined.ID && d.kind.ID != NoLocalEndpoints.ID })
		if !wrong {
			return false
		}
	}
	return true
}

// works reports whether no walk of a node differs.
func (s *scene) works(n *survey.Node) bool {
	return !slices.ContainsFunc(n.Walks, func(w survey.Walk) bool { return s.differs(n, &w) })
}

// facts calls f for each node whose facts are there.
func (s *scene) facts(f func(n *survey.Node, a *wire.FactsAnswer)) {
	for _, n := range s.nodes {
		if n.Facts != nil {
			f(n, n.Facts)
		}
	}
}

// unread reports whether a part of a node's facts could not be read.
func unread(a *wire.FactsAnswer, part string) bool {
	return slices.ContainsFunc(a.Unread, func(u string) bool { return strings.HasPrefix(u, part) })
}

// families are the IP families that the Service has.
func (s *scene) families() []intent.Family {
	var out []intent.Family
	for _, p := range s.model.Ports {
		if !slices.Contains(out, p.Family) {
			out = append(out, p.Family)
		}
	}
	return out
}

// sysctlText is a kernel parameter as evidence, in sysctl's notation.
func sysctlText(a *wire.FactsAnswer, name string) string {
	v, ok := a.Sysctl(name)
	dotted := strings.ReplaceAll(name, "/", ".")
	if !ok {
		return dotted + " does not exist"
	}
	return fmt.Sprintf("%s = %s", dotted, strings.ReplaceAll(v, "\t", " "))
}

// passed calls f for each hop of a branch.
func (e branchEnd) passed(f func(h *trace.Hop)) {
	for _, i := range e.out.Path {
		if h := hopAt(e.trace, i); h != nil {
			f(h)
		}
	}
}

// ended reports whether the branch is dropped or rejected on the node.
func (e branchEnd) ended() bool {
	return e.out.Verdict == trace.Dropped || e.out.Verdict == trace.Rejected
}
