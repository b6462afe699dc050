//go:build linux

package oracle

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// Judgement is what comparing an observation with the engine's answer gave.
type Judgement struct {
	// Problem is empty when engine and kernel agree.
	Problem string
	// Decided is true when the engine left nothing undetermined.
	Decided bool
	// Outcome is the index of the outcome that fits, -1 when none or more than one does.
	Outcome int
	// Fits are the indexes of all that fit: several when conditions alone tell them apart.
	Fits []int
}

// judge compares.
func judge(c *Case, o *Observation) Judgement {
	j := Judgement{Outcome: -1, Decided: true}
	if o.Err != nil {
		j.Problem = "the engine fails: " + o.Err.Error()
		return j
	}
	if len(o.Trace.Outcomes) == 0 {
		j.Problem = "the engine gives no outcome"
		return j
	}
	if w := c.Shots[o.Shot].Want; o.Stage == opening && len(w) > 0 && !wanted(w, o.Fate) {
		j.Problem = "the kernel's fate is not the one recorded"
		return j
	}
	// A rule that copies packets makes two that look alike: either may be the one.
	copied := len(o.seen) > 1 && c.copies() != nil
	for i, out := range o.Trace.Outcomes {
		if out.Verdict == trace.Undetermined {
			j.Decided = false
			continue
		}
		if fit(c, o, o.Fate, out) || copied && slices.ContainsFunc(o.seen, func(f Fate) bool { return fit(c, o, f, out) }) {
			j.Fits = append(j.Fits, i)
			j.Outcome = i
		}
	}
	switch {
	case len(j.Fits) > 1:
		j.Outcome = -1
	case len(j.Fits) == 0 && j.Decided:
		j.Problem = "the kernel's fate is not among the engine's outcomes"
	}
	if c.Certain && len(o.Trace.Outcomes) != 1 {
		j.Problem = "the engine leaves open what the packet and the state settle"
	}
	if !j.Decided && c.Decided {
		j.Problem = "the engine leaves something undetermined that is modelled"
	}
	return j
}

// wanted tells whether a fate is one of those recorded. A port written as 0 is any port.
func wanted(want []string, f Fate) bool {
	free := f
	free.Src = netip.AddrPortFrom(f.Src.Addr(), 0)
	for _, w := range want {
		if w == f.String() || w == free.String() {
			return true
		}
	}
	return false
}

// fit tells whether an outcome describes what was seen.
func fit(c *Case, o *Observation, f Fate, out trace.Outcome) bool {
	switch out.Verdict {
	case trace.Forwarded:
		if o.joined(out) && o.incomplete(f) {
			return true
		}
		// A bridge is left by one of its ports.
		return f.Kind == Forwarded && (f.Out == out.Out || c.bridged() && out.Out == "br0" && slices.Contains(bridgePorts, f.Out)) && sameEnd(f.Src, out.Source) && sameEnd(f.Dst, out.Destination)
	case trace.Local, trace.Delivered:
		if o.incomplete(f) {
			return true
		}
		return f.Kind == Local && sameEnd(f.Src, out.Source) && sameEnd(f.Dst, out.Destination)
	case trace.Rejected:
		if onlyCopied(c, o, f) {
			return true
		}
		if o.later && f.Kind == Silent {
			return true // the answer is to the first fragment
		}
		return f.Kind == Refused && f.With == out.RejectWith || f.Kind == Silent && (c.AnswersMayDie || strings.Contains(out.RejectWith, "exceeded") || unanswerable(out) || o.refused >= routeErrors && byRoute(o.Trace, out))
	case trace.Dropped:
		if onlyCopied(c, o, f) {
			return true
		}
		// When a rule's change leaves a local packet without a route, its sender gets the error of the routing decision.
		return f.Kind == Silent || f.Kind == Refused && o.sendErr != nil && !strings.Contains(f.With, "-")
	}
	return false
}

// onlyCopied tells whether nothing was seen but the copy that a rule has sent.
func onlyCopied(c *Case, o *Observation, f Fate) bool {
	return f.Kind == Forwarded && slices.Contains(c.copies(), f.Out) && f.Src == o.Start.Source &&
		!slices.ContainsFunc(o.seen, func(s Fate) bool { return s.Kind != Refused && s.Out != f.Out })
}

// copies are the interfaces that rules of the case send copies of packets by.
func (c *Case) copies() []string {
	var out []string
	if c.mentions("-j TEE") {
		out = append(out, "ext") // the gateways of the generators are beyond it
	}
	for _, dev := range ports {
		if c.mentions(" device "+dev) && c.mentions(" dup to ") || c.mentions(" dup to "+dev) {
			out = append(out, dev)
		}
	}
	return out
}

// incomplete tells whether a fragment may have waited for the other in vain: that one was dropped, or went another way.
func (o *Observation) incomplete(f Fate) bool {
	if o.other == nil || f.Kind != Silent {
		return false
	}
	switch o.other.Fate.Kind {
	case Silent:
		return slices.ContainsFunc(o.other.outcomes(), func(out trace.Outcome) bool {
			return out.Verdict == trace.Dropped || out.Verdict == trace.Undetermined
		})
	case Local:
		return false
	}
	return true
}

// joined tells whether the outcome is that of a whole packet, put together from fragments.
func (o *Observation) joined(out trace.Outcome) bool {
	return slices.ContainsFunc(out.Path, func(h int) bool { return o.Trace.Hops[h].Action == "defragmentation" })
}

func (o *Observation) outcomes() []trace.Outcome {
	if o.Trace == nil {
		return nil
	}
	return o.Trace.Outcomes
}

// bridgePorts are the ports of the bridge in cases that have one.
var bridgePorts = []string{"p2", "p3"}

// routeErrors is how many ICMP errors about routes the kernel sends one source in a row (net.ipv4.route.error_burst over
// error_cost; both are the whole machine's).
const routeErrors = 5

// byRoute tells whether a route refuses the packet, not a rule.
func byRoute(t *trace.Trace, out trace.Outcome) bool {
	return len(out.Path) > 0 && t.Hops[out.Path[len(out.Path)-1]].Hook == "route"
}

// unanswerable tells whether a refusal cannot be sent: a loopback address does not reach one beyond the node.
func unanswerable(out trace.Outcome) bool {
	return out.Source.Addr().IsLoopback() != out.Destination.Addr().IsLoopback()
}

// sameEnd compares addresses; port 0 of the engine is a port that the kernel chooses.
func sameEnd(seen, said netip.AddrPort) bool {
	return seen.Addr() == said.Addr() && (said.Port() == 0 || seen.Port() == said.Port())
}

// explain writes an observation for people.
func explain(c *Case, o *Observation, j Judgement) string {
	var b strings.Builder
	if j.Problem == "" {
		j.Problem = "engine and kernel agree"
	}
	fmt.Fprintf(&b, "%s\n  %s\n  stage %d: in %q, %s -> %s\n  kernel: %s\n", j.Problem, c.Shots[o.Shot], o.Stage, o.Start.In, o.Start.Source, o.Start.Destination, o.Fate)
	if len(o.seen) > 1 {
		fmt.Fprintf(&b, "  all seen: %v\n", o.seen)
	}
	if o.Trace == nil {
		return b.String()
	}
	for _, out := range o.Trace.Outcomes {
		fmt.Fprintf(&b, "  engine: %s", out.Verdict)
		if out.Probability != nil {
			fmt.Fprintf(&b, " p=%s", out.Probability)
		}
		if out.Verdict == trace.Undetermined {
			fmt.Fprintf(&b, " (possible %s)", out.Possible)
		}
		fmt.Fprintf(&b, " out=%s %s -> %s %s %s\n", out.Out, out.Source, out.Destination, out.RejectWith, out.Reason)
		if len(out.Conditions) > 0 {
			fmt.Fprintf(&b, "    if %s\n", strings.Join(out.Conditions, "; "))
		}
		for _, u := range out.Unknown {
			fmt.Fprintf(&b, "    unknown %s in %s\n", u.What, u.Where)
		}
		for _, h := range out.Path {
			hop := o.Trace.Hops[h]
			text := ""
			if hop.Rule != nil {
				text = hop.Rule.Text
			}
			fmt.Fprintf(&b, "    %s %s %s: %s (%s) %s\n", hop.Hook, hop.Table, hop.Chain, hop.Action, hop.Says, text)
		}
	}
	return b.String()
}
