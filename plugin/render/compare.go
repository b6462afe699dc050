package render

import (
	"fmt"
	"math/big"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// compare writes the comparison of the three sources, one row a group.
func (p *page) compare(a *Answer) error {
	var rows [][]string
	for i, path := range a.Model.Paths {
		for k, g := range groupsOf(a.Model, &a.Report, path) {
			c := g.members[0]
			number, flows := fmt.Sprint(i+1), flowsText(a, path)
			if k > 0 {
				number, flows = " ", " "
			}
			nodes := list(g.nodes())
			if !p.wide && len([]rune(nodes)) > 18 {
				if n := g.nodes(); len(n) > 1 {
					nodes = fmt.Sprintf("%d nodes", len(n))
				} else {
					nodes = short(nodes, 18)
				}
			}
			rows = append(rows, []string{number, strings.Join(g.kinds(), " "), nodes, wantText(c), kernelText(c), flows, verdictText(c)})
		}
	}
	p.blank()
	p.line(bold, "COMPARE")
	if len(rows) == 0 {
		p.line(plain, "  nothing could be compared")
		return nil
	}
	return p.table([]string{"PATH", "FROM", "NODES", "API", "KERNEL", "FLOWS", "RESULT"}, rows)
}

// wantText is what the API asks for: the number of endpoints, or the fate.
func wantText(c *diagnose.Comparison) string {
	switch c.Expect.Fate {
	case intent.Translated:
		return fmt.Sprint(len(c.Expect.Endpoints()))
	case intent.Rejected:
		return "reject"
	case intent.Dropped:
		return "drop"
	default:
		return "leave"
	}
}

// kernelText is what the kernel does: the number of endpoints and their shares, or how the packet ends.
func kernelText(c *diagnose.Comparison) string {
	if c.Walk.Trace == nil {
		return "?"
	}
	if len(c.Kernel) == 0 && c.Sidecar {
		return "sidecar"
	}
	if len(c.Kernel) == 0 {
		for i := range c.Walk.Trace.Outcomes {
			switch c.Walk.Trace.Outcomes[i].Verdict {
			case trace.Rejected:
				return "reject"
			case trace.Dropped:
				return "drop"
			case trace.Undetermined:
				return "?"
			}
		}
		return "leave"
	}
	total := new(big.Rat)
	for _, s := range c.Kernel {
		if s.Probability == nil {
			return fmt.Sprintf("%d, depends", len(c.Kernel))
		}
		total.Add(total, s.Probability)
	}
	switch {
	case len(c.Kernel) == 1 && diagnose.Fraction(c.Kernel[0].Probability) == "1":
		return "1"
	case !diagnose.Even(c.Kernel):
		return fmt.Sprintf("%d, uneven", len(c.Kernel))
	default:
		return fmt.Sprintf("%d, %s each", len(c.Kernel), diagnose.Fraction(c.Kernel[0].Probability))
	}
}

// flowsText counts the live flows of an access path on all nodes.
func flowsText(a *Answer, path intent.AccessPath) string {
	total, gone, unread := 0, 0, false
	for _, n := range a.Nodes {
		total += len(n.FlowsOf(path))
		gone += diagnose.FlowsToGone(a.Model, n, path)
		unread = unread || n.FlowsError != ""
	}
	switch {
	case unread:
		return "?"
	case gone > 0 && !path.Proxied:
		return fmt.Sprintf("%d (%d stray)", total, gone)
	default:
		return fmt.Sprint(total)
	}
}

// verdictText is OK or the difference in a few words; the findings say it in full.
func verdictText(c *diagnose.Comparison) string {
	switch {
	case c.Result == diagnose.OK:
		return "OK"
	case c.Result == diagnose.Unknown:
		return "could not tell"
	}
	for _, k := range c.Kinds {
		if k.Severity.AtLeast(diagnose.Warning) {
			return k.Title
		}
	}
	return "differs"
}
