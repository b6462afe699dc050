package diagnose

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// ProbeDiffers is the finding about real connections that went otherwise than the walk says.
var ProbeDiffers = Kind{
	ID: "probe-differs", Severity: Error, Title: "probe differs",
	Means:  "A real connection, made because --probe was given, went otherwise than the walk of the same packet says.",
	Proven: "The connection's own end, its conntrack entry and the kernel's trace are held against the outcomes of the walk.",
	Fix: "the evidence says what the kernel did with the packet: trust it more than the walk; what is on its way beyond this node, or a program that is " +
		"not modelled, is the usual reason",
}

func probeFamily() Family {
	return Family{Name: "Real connections", Kinds: []Kind{ProbeDiffers}}
}

// AddProbes holds real connections against the walks of the same packets, and adds what differs to the findings.
func (r *Report) AddProbes(m *intent.Model, probes []survey.Probe) {
	l := ledger{at: map[string]*Finding{}}
	for i := range r.Findings {
		f := &r.Findings[i]
		l.findings = append(l.findings, f)
		l.at[f.ID+"\x00"+f.Subject] = f
	}
	for i := range probes {
		p := &probes[i]
		if p.Answer == nil || p.Walk.Trace == nil {
			continue
		}
		drafts := checkProbe(p)
		k := slices.IndexFunc(r.Comparisons, func(c Comparison) bool { return c.Walk == p.Walk })
		if k >= 0 && m.Affinity == 0 {
			drafts = append(drafts, checkSpread(p, r.Comparisons[k].Kernel)...)
		}
		for _, d := range drafts {
			l.add(p.Node, d, Place{Path: p.Walk.Path, Client: p.Walk.Client.Kind})
			if k >= 0 {
				r.Comparisons[k].note(d.kind)
			}
		}
	}
	r.Findings = fold(l.sorted())
}

// checkProbe compares each connection with the outcomes of the walk. Connections that differ alike are one finding.
func checkProbe(p *survey.Probe) []draft {
	type difference struct {
		draft
		count int
	}
	var found []*difference
	for i := range p.Answer.Attempts {
		x := &p.Answer.Attempts[i]
		subject, what, ok := compareAttempt(p, x)
		if ok {
			continue
		}
		k := slices.IndexFunc(found, func(d *difference) bool { return d.subject == subject && d.sentence == what })
		if k < 0 {
			k = len(found)
			found = append(found, &difference{draft: draft{kind: ProbeDiffers, subject: subject, sentence: what, evidence: saidAll(attemptEvidence(p, x))}})
		}
		found[k].count++
	}
	out := make([]draft, 0, len(found))
	for _, d := range found {
		d.sentence = fmt.Sprintf("%d of %s from %s to %s %s", d.count, connections(len(p.Answer.Attempts), p.Walk.Path.Protocol), p.Walk.Client, p.Walk.Destination, d.sentence)
		out = append(out, d.draft)
	}
	return out
}

func connections(n int, protocol string) string {
	if n == 1 {
		return "1 real " + protocol + " connection"
	}
	return fmt.Sprintf("%d real %s connections", n, protocol)
}

// compareAttempt says how one connection differs from every outcome of the walk; ok is true when it fits one.
func compareAttempt(p *survey.Probe, x *wire.ProbeAttempt) (subject, what string, ok bool) {
	outcomes := p.Walk.Trace.Outcomes
	if slices.ContainsFunc(outcomes, func(o trace.Outcome) bool { return o.Verdict == trace.Undetermined }) {
		return "", "", true
	}
	fitting := outcomes
	if end, seen := Reached(p.Walk, x); seen {
		fitting = nil
		for _, o := range outcomes {
			if unmapped(o.Destination) == end.destination {
				fitting = append(fitting, o)
			}
		}
		if len(fitting) == 0 {
			return end.destination.String(), fmt.Sprintf("went to %s, which the walk does not lead to", end.destination), false
		}
		if what, ok := compareSource(p, x, end, fitting); !ok {
			return "source " + end.destination.String(), what, false
		}
	}
	if slices.ContainsFunc(fitting, func(o trace.Outcome) bool { return agrees(p.Answer, x, &o) }) {
		return "", "", true
	}
	return string(x.Result), fmt.Sprintf("%s, while the walk ends %s", resultText(x), endsText(fitting)), false
}

// compareSource compares the source translation of a connection that was tracked.
func compareSource(p *survey.Probe, x *wire.ProbeAttempt, end reached, fitting []trace.Outcome) (string, bool) {
	if x.SeenBy != "conntrack" || p.Walk.Client.Kind == intent.FromNode {
		return "", true
	}
	kept := end.source.Addr() == x.Source.Addr()
	for _, o := range fitting {
		if o.Masqueraded != kept || o.Source.Addr().Unmap() == end.source.Addr() {
			return "", true
		}
	}
	if kept {
		return fmt.Sprintf("kept the source %s to %s, which the walk translates", end.source.Addr(), end.destination), false
	}
	return fmt.Sprintf("got the source %s to %s, which the walk does not translate", end.source.Addr(), end.destination), false
}

// reached is where a connection was seen to go.
type reached struct{ destination, source netip.AddrPort }

// Reached tells where a connection went, by its conntrack entries, its trace or its drop. A proxy in the endpoint's own
// namespace may translate once more, so that of several translations the one that the walk knows counts.
func Reached(w *survey.Walk, x *wire.ProbeAttempt) (reached, bool) {
	if !x.FinalDestination.IsValid() {
		return reached{}, false
	}
	last := reached{unmapped(x.FinalDestination), unmapped(x.FinalSource)}
	for i := len(x.Tracked) - 1; i >= 0; i-- {
		e := reached{unmapped(x.Tracked[i].ReplySource), unmapped(x.Tracked[i].ReplyDestination)}
		if w.Trace != nil && slices.ContainsFunc(w.Trace.Outcomes, func(o trace.Outcome) bool { return unmapped(o.Destination) == e.destination }) {
			return e, true
		}
	}
	return last, true
}

// Endpoint is the address that a connection went to; the zero value when that was not seen.
func (r reached) Endpoint() netip.AddrPort { return r.destination }

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// agrees reports whether a connection's result is what an outcome of the walk leads to.
func agrees(a *wire.ProbeAnswer, x *wire.ProbeAttempt, o *trace.Outcome) bool {
	refused := x.Result == wire.ProbeRefused || x.Result == wire.ProbeUnreachable
	switch o.Verdict {
	case trace.Delivered, trace.Forwarded:
		// A UDP server may have no answer to a text that it does not know.
		return x.Result.Succeeded() || a.Protocol == "udp" && x.Result == wire.ProbeTimeout
	case trace.Rejected:
		// The kernel sends few ICMP messages a second to one address (icmp_ratelimit): of many rejects some are silent.
		return refused || x.Result == wire.ProbeTimeout && strings.HasPrefix(o.RejectWith, "icmp") &&
			slices.ContainsFunc(a.Attempts, func(y wire.ProbeAttempt) bool {
				return y.Result == wire.ProbeRefused || y.Result == wire.ProbeUnreachable
			})
	case trace.Dropped:
		return x.Result == wire.ProbeTimeout || x.Result == wire.ProbeFailed && x.Errno == "EPERM"
	}
	return true // the stack's own answer, or nothing that could be told
}

// spreadBound is the probability below which a spread is no chance.
const spreadBound = 1e-6

// checkSpread compares how often each endpoint was reached with the walk's probabilities.
func checkSpread(p *survey.Probe, shares []KernelShare) []draft {
	counts, parts := make([]int, len(shares)), make([]float64, len(shares))
	sum := 0.0
	for i, s := range shares {
		if s.Probability == nil {
			return nil
		}
		parts[i], _ = s.Probability.Float64()
		sum += parts[i]
	}
	if sum <= 0 {
		return nil
	}
	for i := range p.Answer.Attempts {
		end, seen := Reached(p.Walk, &p.Answer.Attempts[i])
		k := slices.IndexFunc(shares, func(s KernelShare) bool { return seen && s.Endpoint == end.destination })
		if k >= 0 {
			counts[k]++
		}
	}
	total := 0
	for i := range parts {
		parts[i] /= sum
		total += counts[i]
	}
	chance, ok := chiSquare(counts, parts)
	if !ok || chance >= spreadBound {
		return nil
	}
	d := draft{
		kind: ProbeDiffers, subject: "spread",
		sentence: fmt.Sprintf("%s from %s to %s are not spread as the walk says (chance %.1g)", connections(total, p.Walk.Path.Protocol), p.Walk.Client, p.Walk.Destination, chance),
	}
	for i, s := range shares {
		d.evidence = append(d.evidence, said("%s got %d of %d, %s by the walk", s.Endpoint, counts[i], total, Fraction(s.Probability)))
	}
	return []draft{d}
}
