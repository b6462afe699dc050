// Package diagnose compares three sources: what the API asks for (intent), what each node's kernel will do with the next
// connection (the walks), and what it is doing now (the flows). What differs becomes a finding with a stable ID, a sentence,
// its evidence and a next step.
//
// It is pure. One file holds one family of findings: its kinds, as the catalogue lists them, and its checks.
package diagnose

import (
	"cmp"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/apistate"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// Result is how one comparison, or all of them, came out.
type Result string

// The results.
const (
	OK      Result = "ok"
	Differs Result = "differs"
	// Unknown: the state could not be read or evaluated in full.
	Unknown Result = "unknown"
)

// Comparison is one walk held against the intent and the flows.
type Comparison struct {
	Node string
	Walk *survey.Walk
	// Expect is the expectation that the kernel's answer was held against: the intent, or the alternative that fits.
	Expect intent.Expectation
	// Kernel are the endpoints that the kernel translates to.
	Kernel []KernelShare
	// Sidecar is true when the client's own pod redirects the packet to a proxy in it.
	Sidecar bool
	// Flows counts the node's live flows of the access path.
	Flows int
	// Result sums it up, and Kinds are the kinds of the findings behind it.
	Result Result
	Kinds  []Kind
}

// Report is everything that was compared and found.
type Report struct {
	Comparisons []Comparison
	Findings    []Finding
}

// Compare holds every walk of every node against the intent, and looks for causes in the API objects around the Service,
// which may be nil.
func Compare(m *intent.Model, nodes []*survey.Node, api *apistate.State) Report {
	var (
		l   ledger
		out Report
	)
	s := &scene{model: m, nodes: nodes, api: api}
	if api == nil {
		s.api = &apistate.State{}
	}
	s.check(&l)
	for _, n := range nodes {
		for i := range n.Walks {
			out.Comparisons = append(out.Comparisons, compareWalk(m, n, &n.Walks[i], &l))
		}
	}
	checkPeers(s, &l)
	out.Findings = fold(l.sorted())
	return out
}

// compareWalk judges one walk. Where configuration that the API does not show decides, any alternative that fits is right.
func compareWalk(m *intent.Model, n *survey.Node, w *survey.Walk, l *ledger) Comparison {
	c := Comparison{Node: n.Name, Walk: w, Expect: w.Expect, Result: OK, Flows: len(n.FlowsOf(w.Path))}
	place := Place{Path: w.Path, Client: w.Client.Kind}
	if w.Error != nil || w.Trace == nil {
		c.Result = Unknown
		d := walkFailed(w)
		c.note(d.kind)
		l.add(n.Name, d, place)
		return c
	}
	v := viewOf(m, w)
	c.Kernel, c.Sidecar = v.shares, len(v.sidecar) > 0
	drafts := judge(m, n, w, v, w.Expect)
	for _, alt := range w.Expect.Alternatives {
		if len(drafts) == 0 {
			break
		}
		if d := judge(m, n, w, v, alt); len(d) == 0 {
			drafts, c.Expect = nil, alt
		}
	}
	drafts = append(drafts, checkEnds(m, w, v)...)
	drafts = append(drafts, checkReplies(m, w)...)
	drafts = append(drafts, checkMTU(w)...)
	drafts = append(drafts, checkQueues(m, w, v)...)
	if len(v.unknown) > 0 || unfollowed(w) {
		c.Result = Unknown
	}
	for _, d := range drafts {
		l.addSeen(cmp.Or(d.on, n.Name), n.Name, d, place)
		c.note(d.kind)
		if d.kind.ID != Undetermined.ID && d.kind.Severity.AtLeast(Warning) && d.kind.ID != NoLocalEndpoints.ID {
			c.Result = Differs
		}
	}
	return c
}

func (c *Comparison) note(k Kind) {
	if !slices.ContainsFunc(c.Kinds, func(o Kind) bool { return o.ID == k.ID }) {
		c.Kinds = append(c.Kinds, k)
	}
}

// Worst is the severity of the worst finding; empty without findings.
func (r Report) Worst() Severity {
	var worst Severity
	for i := range r.Findings {
		if s := r.Findings[i].worst(); !worst.AtLeast(s) || worst == "" {
			worst = s
		}
	}
	return worst
}

// Incomplete reports whether some walk could not be evaluated in full.
func (r Report) Incomplete() bool {
	return slices.ContainsFunc(r.Comparisons, func(c Comparison) bool { return c.Result == Unknown })
}

// Overall is the result of all comparisons: differs beats unknown beats ok.
func (r Report) Overall() Result {
	out := OK
	for _, c := range r.Comparisons {
		if c.Result == Differs {
			return Differs
		}
		if c.Result == Unknown {
			out = Unknown
		}
	}
	return out
}
