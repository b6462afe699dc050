package render

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
)

// table writes rows under a header without any lines, as kubectl's own tables are, indented by two.
func (p *page) table(header []string, rows [][]string) error {
	var b bytes.Buffer
	t := tablewriter.NewTable(&b,
		tablewriter.WithRenderer(renderer.NewBlueprint(tw.Rendition{
			Borders:  tw.BorderNone,
			Settings: tw.Settings{Separators: tw.SeparatorsNone, Lines: tw.LinesNone},
		})),
		tablewriter.WithHeaderAutoFormat(tw.Off),
		tablewriter.WithHeaderAlignment(tw.AlignLeft),
		tablewriter.WithRowAlignment(tw.AlignLeft),
		tablewriter.WithRowAutoWrap(tw.WrapNone),
		tablewriter.WithHeaderAutoWrap(tw.WrapNone),
		tablewriter.WithPadding(tw.Padding{Left: "", Right: "  ", Overwrite: true}),
	)
	t.Header(header)
	for _, r := range rows {
		cells := make([]string, len(r))
		for i, c := range r {
			if cells[i] = Clean(c); cells[i] == "" {
				cells[i] = "-"
			}
		}
		if err := t.Append(cells); err != nil {
			return fmt.Errorf("building a table: %w", err)
		}
	}
	if err := t.Render(); err != nil {
		return fmt.Errorf("building a table: %w", err)
	}
	for i, l := range strings.Split(strings.TrimRight(b.String(), "\n"), "\n") {
		s := plain
		if i == 0 {
			s = faint
		}
		p.line(s, "  "+l)
	}
	return nil
}
