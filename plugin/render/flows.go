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
	aged := slices.ContainsFunc(groups, func(g diagnose.FlowGroup) bool { return g.OldestSeconds != nil })
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
		if g.Zone != 0 {
			state += fmt.Sprintf(" zone %d", g.Zone)
		}
		row := []string{fmt.Sprint(slices.Index(a.Model.Paths, g.Path) + 1), to, state, fmt.Sprint(g.Count), g.NAT(), expiryText(g.ExpiresSeconds), nodes}
		if aged {
			row = slices.Insert(row, 5, ageText(g))
		}
		rows = append(rows, row)
	}
	p.blank()
	p.line(bold, "FLOWS")
	header := []string{"PATH", "TO", "STATE", "FLOWS", "NAT", "EXPIRES", "NODES"}
	if aged {
		header = slices.Insert(header, 5, "AGE")
	}
	if err := p.table(header, rows); err != nil {
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

// ageText is how long flows have been there; "?" when the kernel does not say.
func ageText(g diagnose.FlowGroup) string {
	if g.OldestSeconds == nil {
		return "?"
	}
	young, old := expiryText(int(*g.YoungestSeconds)), expiryText(int(*g.OldestSeconds))
	if young == old {
		return old
	}
	return young + "-" + old
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
