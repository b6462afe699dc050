package render

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
)

// findings writes what was found, worst first, each with its evidence and its next step.
func (p *page) findings(a *Answer) {
	p.blank()
	for _, s := range a.Skipped {
		p.paragraph(yellow, "NOT TRACED  ", s.Why)
	}
	if a.Left > 0 {
		p.paragraph(yellow, "NOT TRACED  ", fmt.Sprintf("%d more nodes with endpoints: --max-nodes raises the limit, --node chooses", a.Left))
	}
	for _, u := range a.Unread {
		p.paragraph(yellow, "NOT READ  ", u)
	}
	if len(a.Report.Findings) == 0 {
		p.line(plain, "FINDINGS none")
		return
	}
	p.line(bold, "FINDINGS")
	for i := range a.Report.Findings {
		f := &a.Report.Findings[i]
		s := yellow
		if f.Severity == diagnose.Error {
			s = red
		}
		p.line(s, fmt.Sprintf("  %s %s", f.Severity, f.ID))
		p.paragraph(plain, "    ", onNodes(f)+f.Sentence)
		if places := p.places(a, f); places != "" {
			p.paragraph(plain, "    seen: ", places)
		}
		limit := 3
		if p.wide {
			limit = len(f.Evidence)
		}
		for k, e := range f.Evidence {
			if k == limit {
				p.line(faint, fmt.Sprintf("    proof: … %d more (-o wide shows all)", len(f.Evidence)-limit))
				break
			}
			p.paragraph(faint, "    proof: ", p.bounded(e.Text))
		}
		for _, c := range diagnose.All(f.Consequences) {
			p.paragraph(plain, "    hence: ", fmt.Sprintf("%s: %s%s", c.ID, onNodes(&c), c.Sentence))
		}
		p.paragraph(plain, "    fix: ", f.Fix)
	}
}

// bounded cuts a rule to two lines; -o wide shows all of it.
func (p *page) bounded(e string) string {
	if p.wide {
		return e
	}
	return short(e, 2*(columns-len("    proof: "))-8)
}

// onNodes begins a sentence with where it was found.
func onNodes(f *diagnose.Finding) string {
	if len(f.Nodes) == 0 {
		return ""
	}
	return list(f.Nodes) + ": "
}

// places names the access paths by their numbers, with the kinds of clients where not all are concerned.
func (p *page) places(a *Answer, f *diagnose.Finding) string {
	var out []string
	for i, path := range a.Model.Paths {
		var kinds []string
		found := false
		for _, pl := range f.Places {
			if pl.Path != path {
				continue
			}
			found = true
			if pl.Client != "" && !slices.Contains(kinds, string(pl.Client)) {
				kinds = append(kinds, string(pl.Client))
			}
		}
		switch {
		case !found:
		case len(kinds) == 0 || len(kinds) == 3:
			out = append(out, fmt.Sprintf("path %d", i+1))
		default:
			out = append(out, fmt.Sprintf("path %d from %s", i+1, strings.Join(kinds, " and ")))
		}
	}
	return strings.Join(out, ", ")
}
