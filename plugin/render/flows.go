package render

import (
	"fmt"
	"slices"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// flows writes the live flows of each access path by endpoint; nothing when there are none.
func (p *page) flows(a *Answer) error {
	groups := diagnose.FlowGroups(a.Model, a.Nodes)
	if len(groups) == 0 {
		return nil
	}
	const limit = 12
	var rows [][]string
	hidden := 0
	for _, g := range groups {
		if !p.wide && len(groups) > limit && len(rows) >= limit-2 {
			hidden++
			continue
		}
		state := g.State
		if g.Unreplied {
			state += " [UNREPLIED]"
		}
		if state == "" {
			state = "replied"
		}
		to := g.Endpoint.String()
		if !g.Current {
			to += strayText(a.Model, g)
		}
		nodes := list(g.Nodes)
		if !p.wide && len(g.Nodes) > 1 {
			nodes = fmt.Sprintf("%d nodes", len(g.Nodes))
		} else if !p.wide {
			nodes = short(nodes, 14)
		}
		rows = append(rows, []string{fmt.Sprint(slices.Index(a.Model.Paths, g.Path) + 1), to, state, fmt.Sprint(g.Count), g.NAT(), expiryText(g.ExpiresSeconds), nodes})
	}
	p.blank()
	p.line(bold, "FLOWS")
	if err := p.table([]string{"PATH", "TO", "STATE", "FLOWS", "NAT", "EXPIRES", "NODES"}, rows); err != nil {
		return err
	}
	if hidden > 0 {
		p.line(plain, fmt.Sprintf("  … %d more kinds of flows (-o wide shows all)", hidden))
	}
	return nil
}

// strayText says why a flow goes to no current endpoint.
func strayText(m *intent.Model, g diagnose.FlowGroup) string {
	switch {
	case !g.DNAT:
		return " (as sent)"
	case m.OtherProxy != "" || g.Path.Proxied:
		return ""
	default:
		return " (gone)"
	}
}

// expiryText is a time in the largest unit that says enough.
func expiryText(seconds int) string {
	switch d := time.Duration(seconds) * time.Second; {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", int(d.Hours())/24)
	case d >= time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	case d >= time.Minute:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	default:
		return fmt.Sprintf("%ds", seconds)
	}
}
