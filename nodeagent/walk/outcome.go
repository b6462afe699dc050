package walk

import (
	"fmt"
	"math/big"
	"slices"
	"sort"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// end is the end of one branch.
type end struct {
	verdict trace.Verdict
	with    string // how it is rejected
	reason  string
	// listener is the socket that takes it, when it is delivered.
	listener *trace.Listener

	outcome trace.Outcome
	prob    *big.Rat
	assumed []rule.Assumption
}

// finishBranch records how a branch ends.
func (w *journey) finishBranch(b *branch, e end) {
	e.prob = b.prob
	seen := map[string]bool{}
	for a := b.assumed; a != nil; a = a.before {
		if key := a.what.String(); !seen[key] {
			seen[key] = true
			e.assumed = append(e.assumed, a.what)
		}
	}
	slices.Reverse(e.assumed)
	p := b.p
	if b.inner != nil {
		p = b.inner
	}
	o := trace.Outcome{
		Verdict: e.verdict, RejectWith: e.with, Reason: e.reason,
		Destination: p.Destination(), Source: p.Source(), Mark: trace.Mark(p.Mark),
		Masqueraded: p.Src() != w.start.Source.Addr(),
		Conditions:  []string{}, Tunnel: b.tunnel, Listener: e.listener,
	}
	for t := b.tracked; t != nil; t = t.before {
		o.Tracked = append(o.Tracked, t.entry)
	}
	slices.Reverse(o.Tracked)
	if e.verdict == trace.Forwarded {
		o.Out, o.NextHop = b.route.Out, b.route.Gateway
	}
	for s := b.path; s != nil; s = s.before {
		o.Path = append(o.Path, s.hop)
	}
	slices.Reverse(o.Path)
	if o.Path == nil {
		o.Path = []int{}
	}
	e.outcome = o
	w.ends = append(w.ends, e)
}

// key tells ends apart that a user would tell apart. The mark is not among them.
func (e end) key() string {
	o := e.outcome
	return fmt.Sprint(o.Verdict, o.Destination, o.Source, o.Masqueraded, o.RejectWith, o.Out, o.NextHop)
}

func (e end) assumptionKey() string {
	s := make([]string, len(e.assumed))
	for i, a := range e.assumed {
		s[i] = a.String()
	}
	sort.Strings(s)
	return strings.Join(s, "\x00")
}

// finish joins ends that are alike, writes the outcomes, and drops hops that no outcome passes.
func (w *journey) finish() {
	var order []string
	groups := map[string][]end{}
	for _, e := range w.ends {
		k := e.key()
		if _, ok := groups[k]; !ok {
			order = append(order, k)
		}
		groups[k] = append(groups[k], e)
	}
	for _, k := range order {
		for _, e := range join(groups[k]) {
			w.trace.Outcomes = append(w.trace.Outcomes, e.result())
		}
	}
	w.compact()
}

// join merges ends with one key: the same assumptions add their probabilities; two that differ in one assumption, held
// on one side and not on the other, do not depend on it.
func join(ends []end) []end {
	var list []end
	index := map[string]int{}
	add := func(e end) {
		k := e.assumptionKey()
		i, ok := index[k]
		if !ok {
			index[k] = len(list)
			list = append(list, e)
			return
		}
		x := &list[i]
		x.prob = new(big.Rat).Add(x.prob, e.prob)
		if x.outcome.Mark != e.outcome.Mark {
			x.outcome.Mark = 0
		}
	}
	for _, e := range ends {
		add(e)
	}
	for merged := true; merged; {
		merged = false
	search:
		for i := range list {
			for j := range list[i].assumed {
				flipped := slices.Clone(list[i].assumed)
				flipped[j].Negation = !flipped[j].Negation
				k, ok := index[end{assumed: flipped}.assumptionKey()]
				if !ok || k == i || list[k].prob.Cmp(list[i].prob) != 0 {
					continue
				}
				keep := list[min(i, k)]
				keep.assumed = slices.Delete(slices.Clone(list[i].assumed), j, j+1)
				if list[i].outcome.Mark != list[k].outcome.Mark {
					keep.outcome.Mark = 0
				}
				rest := list
				list, index = nil, map[string]int{}
				for n, e := range rest {
					switch n {
					case min(i, k):
						add(keep)
					case max(i, k):
					default:
						add(e)
					}
				}
				merged = true
				break search
			}
		}
	}
	return list
}

// result is the outcome as it is shown.
func (e end) result() trace.Outcome {
	o := e.outcome
	for _, a := range e.assumed {
		if a.Unknown == nil {
			o.Conditions = append(o.Conditions, a.String())
			continue
		}
		if !slices.Contains(o.Unknown, *a.Unknown) {
			o.Unknown = append(o.Unknown, *a.Unknown)
		}
		if o.Verdict != trace.Undetermined {
			o.Possible, o.Verdict = o.Verdict, trace.Undetermined
		}
		if !a.Negation {
			o.Reason = strings.TrimPrefix(o.Reason+"; if "+a.String(), "; ")
		} else {
			o.Reason = strings.TrimPrefix(o.Reason+"; unless "+strings.TrimPrefix(a.String(), "not: "), "; ")
		}
	}
	if len(e.assumed) == 0 {
		o.Probability = trace.ProbabilityOf(e.prob)
	}
	return o
}

// compact renumbers the hops so that only those on some outcome's path remain.
func (w *journey) compact() {
	used := make([]bool, len(w.trace.Hops))
	for _, o := range w.trace.Outcomes {
		for _, h := range o.Path {
			used[h] = true
		}
	}
	renumber := make([]int, len(used))
	hops := []trace.Hop{}
	for i, u := range used {
		if u {
			renumber[i] = len(hops)
			hops = append(hops, w.trace.Hops[i])
		}
	}
	for i := range w.trace.Outcomes {
		for j, h := range w.trace.Outcomes[i].Path {
			w.trace.Outcomes[i].Path[j] = renumber[h]
		}
	}
	w.trace.Hops = hops
}
