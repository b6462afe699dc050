package render

import (
	"fmt"
	"io"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
)

// WriteAssertions writes one line for each access path, ok or failed, and what failed in words; success is printed too.
func WriteAssertions(w io.Writer, a *Answer, colour bool) error {
	p := &page{wide: true, colour: colour}
	for _, path := range a.Model.Paths {
		groups := groupsOf(a.Model, &a.Report, path)
		word, s, walks := "ok", green, 0
		var why []string
		for _, g := range groups {
			walks += len(g.members)
			switch c := g.members[0]; c.Result {
			case diagnose.Differs:
				word, s = "failed", red
				why = append(why, fmt.Sprintf("%s (%s on %s)", verdictText(c), strings.Join(g.kinds(), ", "), list(g.nodes())))
			case diagnose.Unknown:
				if word == "ok" {
					word, s = "unknown", yellow
				}
				why = append(why, fmt.Sprintf("could not tell (%s on %s)", strings.Join(g.kinds(), ", "), list(g.nodes())))
			}
		}
		switch {
		case walks == 0:
			word, s, why = "unknown", yellow, []string{"no walk was possible"}
		case len(why) == 0:
			why = []string{fmt.Sprintf("%d walks as the API asks", walks)}
		}
		p.line(s, fmt.Sprintf("%-8s%s/%s  %s: %s", word, a.Model.Namespace, a.Model.Name, path, strings.Join(why, "; ")))
	}
	for i := range a.Report.Findings {
		f := &a.Report.Findings[i]
		p.line(plain, fmt.Sprintf("%-8s%s: %s", f.Severity, f.ID, onNodes(f)+f.Sentence))
	}
	return p.writeTo(w)
}
