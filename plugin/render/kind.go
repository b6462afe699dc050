package render

import (
	"fmt"
	"io"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
)

// WriteKind explains one kind of finding for people.
func WriteKind(w io.Writer, k diagnose.Kind, colour bool) error {
	p := &page{colour: colour}
	p.line(bold, fmt.Sprintf("%s  (%s): %s", k.ID, k.Severity, k.Title))
	for _, part := range []struct{ heading, text string }{
		{"WHAT IT MEANS", k.Means}, {"HOW IT IS PROVEN", k.Proven}, {"WHAT TO DO", k.Fix},
	} {
		p.blank()
		p.line(bold, part.heading)
		p.paragraph(plain, "  ", sentenceCase(part.text))
	}
	if len(k.References) > 0 {
		p.blank()
		p.line(bold, "MET BY OTHERS")
		for _, r := range k.References {
			p.line(plain, "  "+link(r))
		}
	}
	return p.writeTo(w)
}

// WriteCatalogue lists every kind of finding by family.
func WriteCatalogue(w io.Writer, families []diagnose.Family, colour bool) error {
	p := &page{colour: colour}
	for i, f := range families {
		if i > 0 {
			p.blank()
		}
		p.line(bold, strings.ToUpper(f.Name))
		var rows [][]string
		for _, k := range f.Kinds {
			rows = append(rows, []string{k.ID, string(k.Severity), k.Title})
		}
		if err := p.table([]string{"ID", "SEVERITY", "TITLE"}, rows); err != nil {
			return err
		}
	}
	return p.writeTo(w)
}

// KindPage is the documentation page of a kind, in Markdown. sample is what the plugin printed when a test caused the
// fault; empty when there is none.
func KindPage(k diagnose.Kind, sample string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n**%s** · %s\n\n%s\n", k.ID, k.Severity, k.Title, sentenceCase(k.Means))
	fmt.Fprintf(&b, "\n## How it is proven\n\n%s\n", sentenceCase(k.Proven))
	fmt.Fprintf(&b, "\n## What to do\n\n%s\n", sentenceCase(k.Fix))
	if sample != "" {
		fmt.Fprintf(&b, "\n## What it looks like\n\nPrinted when a test caused it in a real cluster:\n\n```text\n%s\n```\n", strings.TrimRight(sample, "\n"))
	}
	if len(k.References) > 0 {
		b.WriteString("\n## Met by others\n\n")
		for _, r := range k.References {
			fmt.Fprintf(&b, "- [%s](%s)\n", r, link(r))
		}
	}
	return b.String()
}

// CatalogueIndex is the index of the documentation pages, in Markdown.
func CatalogueIndex(families []diagnose.Family) string {
	var b strings.Builder
	b.WriteString("# Findings\n\nEvery kind of finding, as `kubectl svctrace explain` lists them. An *error* means that connections fail now, a *warning* " +
		"that some fail or will, and *info* is worth knowing. The pages are made from the catalogue in `plugin/diagnose`.\n")
	for _, f := range families {
		fmt.Fprintf(&b, "\n## %s\n\n| finding | severity | title |\n| --- | --- | --- |\n", f.Name)
		for _, k := range f.Kinds {
			fmt.Fprintf(&b, "| [%s](%s.md) | %s | %s |\n", k.ID, k.ID, k.Severity, k.Title)
		}
	}
	return b.String()
}

// link is the address of a thread that is named owner/repository#number, or of an enhancement proposal KEP-number.
func link(ref string) string {
	if number, ok := strings.CutPrefix(ref, "KEP-"); ok {
		return "https://github.com/kubernetes/enhancements/issues/" + number
	}
	repository, number, _ := strings.Cut(ref, "#")
	return "https://github.com/" + repository + "/issues/" + number
}

// sentenceCase begins a text with a capital, unless it begins with a name, and ends it with a full stop.
func sentenceCase(s string) string {
	if s == "" {
		return s
	}
	first, _, _ := strings.Cut(s, " ")
	if !strings.ContainsAny(first, "/.ABCDEFGHIJKLMNOPQRSTUVWXYZ") && !strings.HasPrefix(first, "kube-") {
		s = strings.ToUpper(s[:1]) + s[1:]
	}
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}
