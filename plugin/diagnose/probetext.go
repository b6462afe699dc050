package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// resultText says how a connection came out, as the end of a sentence about connections.
func resultText(x *wire.ProbeAttempt) string {
	switch x.Result {
	case wire.ProbeConnected:
		return "succeeded"
	case wire.ProbeAnswered:
		return "were answered"
	case wire.ProbeRefused:
		return "were refused by " + x.By
	case wire.ProbeReset:
		return "were reset"
	case wire.ProbeUnreachable:
		return strings.TrimSuffix("found no way: "+x.Errno+" by "+x.By, " by ")
	case wire.ProbeTimeout:
		return "got no answer in time"
	}
	return "failed: " + x.Errno
}

// endsText lists how outcomes end, each way once.
func endsText(outcomes []trace.Outcome) string {
	var out []string
	for _, o := range outcomes {
		s := string(o.Verdict)
		if o.Verdict == trace.Forwarded && o.Out != "" {
			s += " by " + o.Out + ", beyond which it does not see"
		}
		if o.RejectWith != "" {
			s += " with " + o.RejectWith
		}
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return "nowhere"
	}
	return strings.Join(out, " or ")
}

// attemptEvidence is what the kernel said about a connection: its entries, the end of its trace, and its drops.
func attemptEvidence(p *survey.Probe, x *wire.ProbeAttempt) []string {
	var out []string
	for _, t := range x.Tracked {
		out = append(out, fmt.Sprintf("conntrack in %s: %s -> %s, reply %s -> %s", t.Namespace, t.Source, t.Destination, t.ReplySource, t.ReplyDestination))
	}
	if n := len(x.Events); n > 0 {
		out = append(out, "the kernel's trace ends at "+EventText(p.Walk.Trace, &x.Events[n-1]))
	}
	for i := range x.Drops {
		out = append(out, DropText(&x.Drops[i]))
	}
	if len(out) == 0 {
		out = append(out, "the packet left without a trace event, a conntrack entry or a drop on this node")
	}
	return out
}

// EventText is a trace event with the rule's text, where the walk knows it.
func EventText(t *trace.Trace, e *wire.ProbeEvent) string {
	where := fmt.Sprintf("%s: %s %s", e.Namespace, e.Table, e.Chain)
	if e.Type != "rule" {
		return fmt.Sprintf("%s %s %s", where, e.Type, e.Verdict)
	}
	text := ""
	if t != nil {
		for i := range t.Hops {
			if h := &t.Hops[i]; h.Rule != nil && h.Namespace == e.Namespace && h.Table == e.Table && h.Chain == e.Chain && h.Rule.Handle == e.Handle {
				text = ": " + h.Rule.Text
			}
		}
	}
	return fmt.Sprintf("%s handle %d %s%s", where, e.Handle, e.Verdict, text)
}

// DropText is a drop in a sentence.
func DropText(d *wire.ProbeDrop) string {
	where := "before it had an interface"
	if d.Namespace != "" {
		where = "in " + d.Namespace
	}
	times := ""
	if d.Count > 1 {
		times = fmt.Sprintf(", %d times", d.Count)
	}
	return fmt.Sprintf("the kernel dropped %s -> %s %s: %s%s", d.Source, d.Destination, where, d.Reason, times)
}
