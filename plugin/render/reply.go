package render

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/journey"
)

// replies writes how the replies come back: one line for all that are alike.
func (p *page) replies(a *Answer, c *diagnose.Comparison) {
	type line struct {
		r    *journey.Reply
		ends []string
		// walked replies stand for count.
		walked, count int
	}
	var lines []*line
	by := map[string]*line{}
	for i := range c.Walk.Replies {
		r := &c.Walk.Replies[i]
		key := replyKey(r)
		l := by[key]
		if l == nil {
			l = &line{r: r}
			by[key] = l
			lines = append(lines, l)
		}
		if to := diagnose.EndpointOf(a.Model, c.Walk, &c.Walk.Trace.Outcomes[r.Outcome]).String(); !slices.Contains(l.ends, to) {
			l.ends = append(l.ends, to)
		}
		l.walked++
		l.count += 1 + len(r.Same)
	}
	for _, l := range lines {
		from := ""
		if len(lines) > 1 || l.count < ends(c) {
			from = " of " + l.ends[0]
			if len(l.ends) > 1 {
				from = fmt.Sprintf(" of %d endpoints", len(l.ends))
			}
		}
		if more := l.count - l.walked; more > 0 {
			from += fmt.Sprintf(" (%d walked for %d)", l.walked, l.count)
		}
		p.reply(from, l.r)
		if p.wide {
			p.replySteps(l.r)
		}
	}
}

// reply writes one line, or more when it says why.
func (p *page) reply(from string, r *journey.Reply) {
	s, word := plain, string(r.Return)
	switch r.Return {
	case journey.Lost, journey.Untranslated:
		s = red
	case journey.Unclear:
		s, word = yellow, "could not tell"
	}
	if r.Why != "" {
		p.paragraph(s, "    reply"+from+"  ", word+": "+r.Why)
		return
	}
	text := "goes back as it came"
	if len(r.Undone) > 0 {
		text = "conntrack undoes the translation on " + strings.Join(r.Undone, ", ")
	}
	text = "    reply" + from + "  " + text
	pad := columns - utf8.RuneCountInString(text) - utf8.RuneCountInString(word)
	if pad < 2 && !p.wide {
		p.paragraph(s, "    reply"+from+"  ", strings.TrimPrefix(text, "    reply"+from+"  ")+"  "+word)
		return
	}
	p.line(s, text+strings.Repeat(" ", max(2, pad))+word)
}

// ends counts the outcomes that a reply could come from.
func ends(c *diagnose.Comparison) int {
	n := 0
	for i := range c.Walk.Trace.Outcomes {
		switch c.Walk.Trace.Outcomes[i].Verdict {
		case trace.Delivered, trace.Local, trace.Forwarded:
			n++
		}
	}
	return n
}

// replySteps writes the reply's own way.
func (p *page) replySteps(r *journey.Reply) {
	if r.Trace == nil || len(r.Trace.Outcomes) == 0 {
		return
	}
	place := ""
	for _, i := range r.Trace.Outcomes[0].Path {
		if i < 0 || i >= len(r.Trace.Hops) {
			continue
		}
		h := &r.Trace.Hops[i]
		if at := placeText(h); at != place {
			p.line(faint, "      "+at)
			place = at
		}
		p.hop(h, h.Hook, h.Table, "      ")
	}
}

// replyKey is a text that replies share when they come back alike.
func replyKey(r *journey.Reply) string {
	return fmt.Sprint(r.Return, r.Why, r.Undone)
}
