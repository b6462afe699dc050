package render

import (
	"fmt"
	"net/netip"
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
		groups := groupsOf(&a.Report, path)
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
	hook, table, done := "", "", false
	endsWell := len(t.Outcomes) == 1 && classOf(&t.Outcomes[0]) == "reaches"
	for _, i := range path {
		if i < 0 || i >= len(t.Hops) {
			continue
		}
		h := &t.Hops[i]
		if !p.wide && (routine(h) || done) {
			continue
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

// routine reports whether a step says nothing that a reader looks for: a policy that accepts, or a jump whose rule gives
// no reason and whose target the next line shows.
func routine(h *trace.Hop) bool {
	if h.Rule == nil {
		return h.Action == "policy accept" || h.Action == "accept" || h.Action == "continue"
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
	p.line(plain, fmt.Sprintf("%s%-11s %-*s %s", indent, hook, chainWidth, where, p.stepText(h)))
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

// branches writes the outcomes as the leaves of a tree, each with its probability.
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
		tee := "├"
		if i == len(outs)-1 {
			tee = "└"
		}
		o := &outs[i]
		text, s := endText(a.Model, c, o, p.wide)
		p.line(s, fmt.Sprintf("    %s %-*s  %s", tee, width, probabilityText(o), text))
		for _, cond := range o.Conditions {
			p.line(faint, "        if "+cond)
		}
		if p.wide && len(o.Path) > shared {
			for _, k := range o.Path[shared:] {
				if k >= 0 && k < len(c.Walk.Trace.Hops) {
					h := &c.Walk.Trace.Hops[k]
					p.hop(h, h.Hook, h.Table, "      ")
				}
			}
		}
	}
	if limit < len(outs) {
		p.line(plain, fmt.Sprintf("    └ … %d more branches (-o wide shows all)", len(outs)-limit))
	}
}

// endText says where a branch ends.
func endText(m *intent.Model, c *diagnose.Comparison, o *trace.Outcome, wide bool) (string, style) {
	to := destinationText(m, c, o)
	switch o.Verdict {
	case trace.Undetermined:
		what := o.Reason
		if len(o.Unknown) > 0 {
			what = o.Unknown[0].What + atWhere(o.Unknown[0].Where)
		}
		return "could not tell: " + what, yellow
	case trace.Rejected:
		return strings.TrimSpace(fmt.Sprintf("%srejected with %s  %s", to, o.RejectWith, o.Reason)), wanted(c, intent.Rejected)
	case trace.Dropped:
		return strings.TrimSpace(to + "dropped  " + o.Reason), wanted(c, intent.Dropped)
	}
	end := "reached"
	switch {
	case o.Verdict == trace.Forwarded && o.Out != "":
		end = "by " + o.Out
	case o.Verdict == trace.Forwarded:
		end = "forwarded"
	case o.Verdict == trace.Local:
		end = "this node's own stack"
	case o.Verdict == trace.Delivered:
		end = "delivered"
	}
	if to == "" {
		return "not translated, " + end, wanted(c, intent.Untouched)
	}
	source := ""
	if o.Masqueraded && (wide || c.Walk.Client.Kind != intent.FromNode) {
		source = ", masq"
		if c.Walk.Client.Source == dstAddr(o) {
			source = ", hairpin"
		}
		if a := o.Source.Addr(); wide && a.IsValid() {
			source += " as " + a.String()
		}
	}
	return to + end + source, plain
}

func dstAddr(o *trace.Outcome) netip.Addr { return o.Destination.Addr().Unmap() }

// wanted colours an end red unless it is the one that ought to be.
func wanted(c *diagnose.Comparison, f intent.Fate) style {
	if c.Expect.Fate == f {
		return plain
	}
	return red
}

// destinationText is the endpoint of a branch with its pod and node, followed by two blanks; empty when the destination
// was not translated.
func destinationText(m *intent.Model, c *diagnose.Comparison, o *trace.Outcome) string {
	dst := netip.AddrPortFrom(o.Destination.Addr().Unmap(), o.Destination.Port())
	if dst == c.Walk.Destination || !dst.IsValid() {
		return ""
	}
	for _, e := range m.Ports[c.Walk.Path.PortIndex].Endpoints {
		if e.Address != dst {
			continue
		}
		name := e.Pod
		if name == "" {
			name = e.State()
		}
		return fmt.Sprintf("%s  %s on %s  ", dst, short(podTail(name), 24), orDash(e.Node))
	}
	return fmt.Sprintf("%s  no endpoint of the Service  ", dst)
}

// podTail keeps a long pod name's end, which tells replicas apart.
func podTail(name string) string {
	r := []rune(name)
	if len(r) <= 22 {
		return name
	}
	return "…" + string(r[len(r)-21:])
}

func atWhere(where string) string {
	if where == "" {
		return ""
	}
	return " at " + where
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
