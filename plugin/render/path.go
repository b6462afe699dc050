package render

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// most is how many branches are shown without -o wide.
const most = 12

// paths writes each access path once, with the walks of its groups.
func (p *page) paths(a *Answer) {
	for i, path := range a.Model.Paths {
		groups := groupsOf(a.Model, &a.Report, path)
		if len(groups) == 0 {
			continue
		}
		p.blank()
		result, s := resultOf(groups)
		p.heading(bold, fmt.Sprintf("PATH %d  %s%s", i+1, path, portName(a.Model, path)), s, result)
		for _, g := range groups {
			p.group(a, g)
		}
	}
}

func portName(m *intent.Model, path intent.AccessPath) string {
	port := m.Ports[path.PortIndex]
	if port.Name == "" {
		return " -> " + port.Target
	}
	return fmt.Sprintf(" (%s) -> %s", port.Name, port.Target)
}

func resultOf(groups []group) (string, style) {
	out, s := "OK", green
	if !slices.ContainsFunc(groups, func(g group) bool { return g.members[0].Expect.Fate != intent.Rejected }) {
		out, s = "NO ENDPOINTS", red
	}
	for _, g := range groups {
		switch g.members[0].Result {
		case diagnose.Differs:
			return "DIFFERS", red
		case diagnose.Unknown:
			out, s = "UNKNOWN", yellow
		}
	}
	return out, s
}

// group writes one group: whom it holds for, the steps that all branches share, and the branches.
func (p *page) group(a *Answer, g group) {
	c := g.shown()
	p.paragraph(plain, "  from ", g.clients())
	if c.Expect.Why != "" {
		p.paragraph(faint, "    ", c.Expect.Why)
	}
	if c.Walk.Trace == nil {
		msg := "the agent gave no answer"
		if c.Walk.Error != nil {
			msg = c.Walk.Error.Message
		}
		p.paragraph(red, "    ", "could not be walked: "+msg)
		return
	}
	t := c.Walk.Trace
	shared := prefix(t)
	p.hops(t, shared)
	if !p.wide {
		p.fork(t, len(shared))
	}
	p.branches(a, c, len(shared))
	p.replies(a, c)
}

// prefix is the hops that the paths of all outcomes begin with.
func prefix(t *trace.Trace) []int {
	if len(t.Outcomes) == 0 {
		return nil
	}
	out := t.Outcomes[0].Path
	for _, o := range t.Outcomes[1:] {
		n := 0
		for n < len(out) && n < len(o.Path) && out[n] == o.Path[n] {
			n++
		}
		out = out[:n]
	}
	return out
}

// hops writes steps: hook, table and chain, and what the step does. A hook or table that is that of the line above is left
// out. Of a single branch that ends well, the steps after the translation are only shown with -o wide.
func (p *page) hops(t *trace.Trace, path []int) {
	hook, table, place, done := "", "", "", false
	manyPlaces := slices.ContainsFunc(path, func(i int) bool {
		return i >= 0 && i < len(t.Hops) && placeText(&t.Hops[i]) != placeText(&t.Hops[path[0]])
	})
	endsWell := len(t.Outcomes) == 1 && classOf(&t.Outcomes[0]) == "reaches"
	for _, i := range path {
		if i < 0 || i >= len(t.Hops) {
			continue
		}
		h := &t.Hops[i]
		if !p.wide && (routine(h) || done) {
			continue
		}
		if at := placeText(h); at != place {
			if manyPlaces {
				p.line(faint, "    "+at)
			}
			hook, table, place = "", "", at
		}
		done = endsWell && strings.HasPrefix(h.Action, "dnat")
		showHook, showTable := h.Hook, h.Table
		if h.Hook == hook {
			showHook = ""
			if h.Table == table {
				showTable = ""
			}
		}
		hook, table = h.Hook, h.Table
		p.hop(h, showHook, showTable, "    ")
	}
}

// routine reports whether a step says nothing that a reader looks for: who sends, a policy that accepts, or a jump whose
// rule gives no reason and whose target the next line shows.
func routine(h *trace.Hop) bool {
	if h.Rule == nil {
		return h.Hook == "process" || h.Action == "policy accept" || h.Action == "accept" || h.Action == "continue"
	}
	return isJump(h) && h.Says == "" && h.Rule.Comment == ""
}

func isJump(h *trace.Hop) bool {
	return strings.HasPrefix(h.Action, "jump ") || strings.HasPrefix(h.Action, "goto ")
}

const chainWidth = 24

func (p *page) hop(h *trace.Hop, hook, table, indent string) {
	where := strings.TrimSpace(table + " " + h.Chain)
	if !p.wide {
		if utf8.RuneCountInString(where) > chainWidth && table != "" {
			where = h.Chain
		}
		where = short(where, chainWidth)
	}
	if where == "" && hook != "" { // no table: the step itself may be long
		p.line(plain, fmt.Sprintf("%s%-11s %s", indent, hook, p.stepText(h)))
	} else {
		p.line(plain, fmt.Sprintf("%s%-11s %-*s %s", indent, hook, chainWidth, where, p.stepText(h)))
	}
	if p.wide && h.Rule != nil {
		p.line(faint, fmt.Sprintf("%s%-11s %s", indent, "", ruleText(h.Rule)))
	}
}

// stepText is what a step does, and why. Where room is short, the reason alone stands for a jump.
func (p *page) stepText(h *trace.Hop) string {
	why := h.Says
	if why == "" && h.Rule != nil {
		why = h.Rule.Comment
	}
	switch {
	case why == "":
		return h.Action
	case isJump(h) && !p.wide, h.Action == "":
		return why
	default:
		return h.Action + "  (" + why + ")"
	}
}

// numgen finds the choice in an nftables rule.
var numgen = regexp.MustCompile(`numgen (random|inc) mod \d+|jhash [^{]*mod \d+`)

// fork writes where the paths part, if it is one chain that chooses: the choice as the rules have it.
func (p *page) fork(t *trace.Trace, shared int) {
	chain, text := "", ""
	for i := range t.Outcomes {
		path := t.Outcomes[i].Path
		if len(path) <= shared || path[shared] < 0 || path[shared] >= len(t.Hops) {
			return
		}
		h := &t.Hops[path[shared]]
		if h.Rule == nil || chain != "" && h.Chain != chain {
			return
		}
		chain = h.Chain
		switch choice := numgen.FindString(h.Rule.Text); {
		case choice != "":
			text = choice
		case text == "" && strings.Contains(h.Rule.Text, "statistic"):
			text = "statistic, one rule for each endpoint"
		}
	}
	if text != "" && len(t.Outcomes) > 1 {
		p.line(plain, fmt.Sprintf("    %-11s %-*s %s", "", chainWidth, short(chain, chainWidth), text))
	}
}

func ruleText(r *trace.Rule) string {
	counters := ""
	if r.Packets != nil && r.Bytes != nil {
		counters = fmt.Sprintf("  [%d packets, %d bytes]", *r.Packets, *r.Bytes)
	}
	return fmt.Sprintf("#%d  %s%s", r.Handle, r.Text, counters)
}

// branches writes the outcomes as the leaves of a tree, each with its probability. What does not fit on a line goes on
// the next.
func (p *page) branches(a *Answer, c *diagnose.Comparison, shared int) {
	outs := c.Walk.Trace.Outcomes
	limit := len(outs)
	if !p.wide && limit > most {
		limit = most - 2
	}
	width := 0
	for i := range outs[:limit] {
		width = max(width, utf8.RuneCountInString(probabilityText(&outs[i])))
	}
	for i := range outs[:limit] {
		tee, bar := "├", "│"
		if i == len(outs)-1 {
			tee, bar = "└", " "
		}
		o := &outs[i]
		e := endOfBranch(a.Model, c, i, p.wide)
		text := fmt.Sprintf("    %s %-*s  %s", tee, width, probabilityText(o), strings.TrimSpace(e.to+"  "+e.what))
		if e.to != "" && !p.wide && utf8.RuneCountInString(text) > columns {
			p.line(plain, fmt.Sprintf("    %s %-*s  %s", tee, width, probabilityText(o), e.to))
			p.paragraph(e.style, fmt.Sprintf("    %s %-*s    ", bar, width, ""), e.what)
		} else {
			p.line(e.style, text)
		}
		for _, cond := range o.Conditions {
			p.line(faint, "        if "+cond)
		}
		if p.wide && len(o.Path) > shared {
			p.branchSteps(c.Walk.Trace, o.Path, shared)
		}
	}
	if limit < len(outs) {
		p.line(plain, fmt.Sprintf("    └ … %d more branches (-o wide shows all)", len(outs)-limit))
	}
}

// branchSteps writes the steps of a branch behind those that all share.
func (p *page) branchSteps(t *trace.Trace, path []int, shared int) {
	place := ""
	if shared > 0 && path[shared-1] >= 0 && path[shared-1] < len(t.Hops) {
		place = placeText(&t.Hops[path[shared-1]])
	}
	for _, k := range path[shared:] {
		if k < 0 || k >= len(t.Hops) {
			continue
		}
		h := &t.Hops[k]
		if at := placeText(h); at != place {
			p.line(faint, "      "+at)
			place = at
		}
		p.hop(h, h.Hook, h.Table, "      ")
	}
}

// placeText says where a step is taken: a node, or a pod's namespace on it.
func placeText(h *trace.Hop) string {
	switch {
	case h.Namespace == "" || h.Namespace == "host":
		return "on " + orDash(h.Node)
	default:
		return "on " + orDash(h.Node) + " in " + h.Namespace
	}
}
