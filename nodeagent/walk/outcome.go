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
	j := joining{index: map[string]int{}}
	for _, e := range ends {
		j.add(len(j.list), e)
	}
	// What was merged may merge again: it is looked at again behind the others.
	for n := 0; n < len(j.queue); n++ {
		i := j.queue[n]
		if e := j.list[i]; e != nil {
			j.merge(i, e)
		}
	}
	var out []end
	for _, e := range j.list {
		if e != nil {
			out = append(out, e.end)
		}
	}
	return out
}

// joining are ends of one key under way to fewer: nil where one was merged with another.
type joining struct {
	list []*joined
	// index finds an end by its assumptions; queue are the places to look at.
	index map[string]int
	queue []int
}

// joined is an end with its assumptions as text, and those of their negations.
type joined struct {
	end
	held, negated []string
}

// key is the same for the same assumptions in any order; those at flip count as negated, -1 for none.
func (e *joined) key(flip int) string {
	s := slices.Clone(e.held)
	if flip >= 0 {
		s[flip] = e.negated[flip]
	}
	sort.Strings(s)
	return strings.Join(s, "\x00")
}

// add puts an end at a place, or its probability to the end that has the same assumptions.
func (j *joining) add(place int, e end) {
	x := &joined{end: e}
	for _, a := range e.assumed {
		x.held = append(x.held, a.String())
		a.Negation = !a.Negation
		x.negated = append(x.negated, a.String())
	}
	k := x.key(-1)
	if i, ok := j.index[k]; ok {
		same := j.list[i]
		same.prob = new(big.Rat).Add(same.prob, e.prob)
		if same.outcome.Mark != e.outcome.Mark {
			same.outcome.Mark = 0
		}
		j.queue = append(j.queue, i)
		return
	}
	if place == len(j.list) {
		j.list = append(j.list, nil)
	}
	j.list[place], j.index[k] = x, place
	j.queue = append(j.queue, place)
}

// merge looks for an end that differs from the one at a place in one assumption only, and makes one of both.
func (j *joining) merge(i int, e *joined) {
	for n := range e.assumed {
		k, ok := j.index[e.key(n)]
		if !ok || k == i || j.list[k].prob.Cmp(e.prob) != 0 {
			continue
		}
		first := min(i, k)
		keep := j.list[first].end
		keep.assumed = slices.Delete(slices.Clone(e.assumed), n, n+1)
		if e.outcome.Mark != j.list[k].outcome.Mark {
			keep.outcome.Mark = 0
		}
		delete(j.index, e.key(-1))
		delete(j.index, j.list[k].key(-1))
		j.list[i], j.list[k] = nil, nil
		j.add(first, keep)
		return
	}
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
