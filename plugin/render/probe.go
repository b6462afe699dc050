package render

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// Probe is real connections, apart from the walks.
type Probe struct {
	// AccessPath is an index into accessPaths.
	AccessPath int    `json:"accessPath"`
	Node       string `json:"node"`
	Client     Client `json:"client"`
	// Answer is what happened; absent when Error says why nothing did.
	Answer *wire.ProbeAnswer `json:"answer,omitempty"`
	Error  *wire.Error       `json:"error,omitempty"`
}

// probesOf turns probes into the versioned model.
func probesOf(m *intent.Model, probes []survey.Probe) []Probe {
	var out []Probe
	for i := range probes {
		p := &probes[i]
		x := Probe{
			AccessPath: pathIndex(m, p.Walk.Path), Node: p.Node, Answer: p.Answer, Error: p.Error,
			Client: Client{Kind: string(p.Walk.Client.Kind), Address: p.Walk.Client.Source},
		}
		if p.Walk.Client.Pod != "" {
			x.Client.Pod = p.Walk.Client.PodNamespace + "/" + p.Walk.Client.Pod
		}
		out = append(out, x)
	}
	return out
}

// probes writes what happened to real connections, each access path and client for itself.
func (p *page) probes(a *Answer) {
	if a.Probes == nil {
		return
	}
	sent := 0
	for i := range a.Probes {
		if a.Probes[i].Answer != nil {
			sent += len(a.Probes[i].Answer.Attempts)
		}
	}
	p.blank()
	p.line(bold, fmt.Sprintf("PROBE  %d real connections", sent))
	if len(a.Probes) == 0 {
		p.line(plain, "  no client here can open one")
	}
	for i := range a.Probes {
		x := &a.Probes[i]
		p.paragraph(plain, fmt.Sprintf("  path %d ", pathIndex(a.Model, x.Walk.Path)+1), fmt.Sprintf("%s -> %s", x.Walk.Client, x.Walk.Destination))
		if x.Answer == nil {
			p.paragraph(yellow, "    ", "not probed: "+x.Error.Message)
			continue
		}
		p.probe(a, x)
	}
}

// probe writes one probe: its results, the endpoints reached, what went wrong, and what could not be watched.
func (p *page) probe(a *Answer, x *survey.Probe) {
	for _, r := range resultsOf(x.Answer) {
		s := plain
		if !r.first.Result.Succeeded() {
			s = yellow
		}
		p.paragraph(s, "    ", r.text())
		if r.first.Result.Succeeded() && !p.wide {
			continue
		}
		if n := len(r.first.Events); n > 0 && !p.wide {
			p.paragraph(faint, "      trace ", p.bounded(diagnose.EventText(x.Walk.Trace, &r.first.Events[n-1])))
		}
		for k := range r.first.Drops {
			p.paragraph(faint, "      ", diagnose.DropText(&r.first.Drops[k]))
		}
	}
	for _, to := range spreadLines(a, x) {
		p.line(plain, "    "+to)
	}
	if p.wide {
		p.probeDetail(x)
	}
	for _, n := range x.Answer.Notes {
		p.paragraph(faint, "    note: ", n)
	}
}

// probeDetail writes all that the kernel said about the first connection, and the counters that moved.
func (p *page) probeDetail(x *survey.Probe) {
	for i := range x.Answer.Attempts[:min(1, len(x.Answer.Attempts))] {
		first := &x.Answer.Attempts[i]
		for _, t := range first.Tracked {
			p.line(faint, fmt.Sprintf("    conntrack %s: %s -> %s, reply %s -> %s", t.Namespace, t.Source, t.Destination, t.ReplySource, t.ReplyDestination))
		}
		for k := range first.Events {
			p.line(faint, "    trace "+diagnose.EventText(x.Walk.Trace, &first.Events[k]))
		}
	}
	for _, c := range x.Answer.Counters {
		p.line(faint, fmt.Sprintf("    counter %s: %s %s #%d  +%d packets, +%d bytes", c.Namespace, c.Table, c.Chain, c.Handle, c.Packets, c.Bytes))
	}
}

// probeResult is connections that came out alike.
type probeResult struct {
	first          *wire.ProbeAttempt
	count          int
	fastest, slows int64
}

func resultsOf(a *wire.ProbeAnswer) []*probeResult {
	var out []*probeResult
	for i := range a.Attempts {
		x := &a.Attempts[i]
		k := slices.IndexFunc(out, func(r *probeResult) bool {
			return r.first.Result == x.Result && r.first.Errno == x.Errno && r.first.By == x.By
		})
		if k < 0 {
			k = len(out)
			out = append(out, &probeResult{first: x, fastest: x.Micros})
		}
		r := out[k]
		r.count++
		r.fastest, r.slows = min(r.fastest, x.Micros), max(r.slows, x.Micros)
	}
	return out
}

// text is "20 connected in 0.31ms to 1.9ms", "1 refused (ECONNREFUSED) by tcp reset after 0.2ms".
func (r *probeResult) text() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%d %s", r.count, r.first.Result)
	if r.first.Errno != "" {
		s.WriteString(" (" + r.first.Errno + ")")
	}
	if r.first.By != "" {
		s.WriteString(" by " + r.first.By)
	}
	s.WriteString(" after " + micros(r.fastest))
	if r.slows > r.fastest {
		s.WriteString(" to " + micros(r.slows))
	}
	return s.String()
}

func micros(n int64) string {
	return (time.Duration(n) * time.Microsecond).Round(10 * time.Microsecond).String()
}

// spreadLines lists the endpoints that were reached, each with how often and with what the walk says.
func spreadLines(a *Answer, x *survey.Probe) []string {
	counts := map[netip.AddrPort]int{}
	var order []netip.AddrPort
	for i := range x.Answer.Attempts {
		end, seen := diagnose.Reached(x.Walk, &x.Answer.Attempts[i])
		if !seen {
			continue
		}
		if counts[end.Endpoint()] == 0 {
			order = append(order, end.Endpoint())
		}
		counts[end.Endpoint()]++
	}
	slices.SortFunc(order, netip.AddrPort.Compare)
	var shares []diagnose.KernelShare
	for i := range a.Report.Comparisons {
		if c := &a.Report.Comparisons[i]; c.Walk == x.Walk {
			shares = c.Kernel
		}
	}
	var out []string
	for _, e := range order {
		said := "not in the walk"
		if k := slices.IndexFunc(shares, func(s diagnose.KernelShare) bool { return s.Endpoint == e }); k >= 0 {
			said = "walk " + diagnose.Fraction(shares[k].Probability)
		} else if e == x.Walk.Destination {
			said = "not translated"
		}
		out = append(out, fmt.Sprintf("%-21s %d of %d, %s", e, counts[e], len(x.Answer.Attempts), said))
	}
	return out
}
