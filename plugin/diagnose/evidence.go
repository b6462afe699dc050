package diagnose

import (
	"fmt"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// hopText is a hop as evidence: where it stands, and the rule as the user's own tools print it. The same rule is the same
// evidence at whatever hook it was met.
func hopText(h *trace.Hop) string {
	switch {
	case h.Rule == nil && h.Table == "":
		return h.Hook + ": " + h.Action
	case h.Rule == nil:
		return fmt.Sprintf("%s %s %s: %s", h.Hook, h.Table, h.Chain, h.Action)
	case strings.HasPrefix(h.Rule.Text, "-A "): // iptables names the chain itself
		return h.Table + ": " + h.Rule.Text
	default:
		return fmt.Sprintf("%s %s handle %d: %s", h.Table, h.Chain, h.Rule.Handle, h.Rule.Text)
	}
}

// lastRule is the last hop of an outcome's path that says something, as evidence; nothing if the path is empty.
func lastRule(t *trace.Trace, o *trace.Outcome) []Evidence {
	for i := len(o.Path) - 1; i >= 0; i-- {
		if h := hopAt(t, o.Path[i]); h != nil && h.Rule != nil {
			return []Evidence{hopOf(h)}
		}
	}
	if len(o.Path) > 0 {
		if h := hopAt(t, o.Path[len(o.Path)-1]); h != nil {
			return []Evidence{hopOf(h)}
		}
	}
	return nil
}

// endOf is the evidence for how an outcome ended: its reason, and the last hop of its path.
func endOf(t *trace.Trace, o *trace.Outcome) []Evidence {
	var out []Evidence
	if n := len(o.Path); n > 0 {
		if h := hopAt(t, o.Path[n-1]); h != nil && h.Rule == nil {
			out = append(out, hopOf(h))
		}
	}
	out = append(lastRule(t, o), out...)
	if len(out) == 2 && out[0].Text == out[1].Text {
		out = out[:1]
	}
	if o.Reason != "" {
		out = append(out, said("%s", o.Reason))
	}
	return out
}

// forks is the evidence for which endpoints the kernel chooses from: the translating rule of each branch.
func forks(t *trace.Trace) []Evidence {
	var out []Evidence
	for i := range t.Outcomes {
		for _, k := range t.Outcomes[i].Path {
			h := hopAt(t, k)
			if h != nil && h.Rule != nil && strings.Contains(strings.ToLower(h.Action), "dnat") {
				out = append(out, hopOf(h))
			}
		}
	}
	return out
}

func hopAt(t *trace.Trace, i int) *trace.Hop {
	if i < 0 || i >= len(t.Hops) {
		return nil
	}
	return &t.Hops[i]
}
