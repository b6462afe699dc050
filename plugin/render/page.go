package render

import (
	"bytes"
	"io"
	"strings"
	"unicode/utf8"
)

// columns is the width that the answer is fitted to, so that it can be pasted into an issue.
const columns = 80

// page collects the lines of an answer for people. Everything that goes through line is cleaned and fitted.
type page struct {
	b      bytes.Buffer
	wide   bool
	colour bool
}

func (p *page) width() int {
	if p.wide {
		return 0
	}
	return columns
}

// line writes one line in one style.
func (p *page) line(s style, text string) {
	p.b.WriteString(p.paint(s, strings.TrimRight(fit(Clean(text), p.width()), " ")))
	p.b.WriteByte('\n')
}

// heading writes a line with a word at the right edge, each in its style.
func (p *page) heading(s style, text string, t style, right string) {
	room := columns - utf8.RuneCountInString(right) - 1
	text = fit(Clean(text), room)
	p.b.WriteString(p.paint(s, text))
	p.b.WriteString(strings.Repeat(" ", room-utf8.RuneCountInString(text)+1))
	p.b.WriteString(p.paint(t, right))
	p.b.WriteByte('\n')
}

// paragraph writes a text broken at blanks; the first line begins with first, the others with as many blanks.
func (p *page) paragraph(s style, first, text string) {
	indent := strings.Repeat(" ", utf8.RuneCountInString(first))
	if p.wide {
		p.line(s, first+text)
		return
	}
	lead, cur := first, ""
	for _, word := range strings.Fields(Clean(text)) {
		if cur != "" && utf8.RuneCountInString(lead)+utf8.RuneCountInString(cur)+1+utf8.RuneCountInString(word) > columns {
			p.line(s, lead+cur)
			lead, cur = indent, ""
		}
		if cur != "" {
			cur += " "
		}
		cur += word
	}
	if cur != "" {
		p.line(s, lead+cur)
	}
}

func (p *page) blank() { p.b.WriteByte('\n') }

func (p *page) writeTo(w io.Writer) error {
	_, err := p.b.WriteTo(w)
	return err
}
