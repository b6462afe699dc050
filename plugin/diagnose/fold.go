package diagnose

import (
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// fold puts consequences under their causes: what one fault explains is no second fault. A finding goes under the first
// cause that explains it wherever it was seen; a cause may itself be a consequence.
func fold(findings []Finding) []Finding {
	parent := make([]int, len(findings))
	for i := range findings {
		parent[i] = slices.IndexFunc(findings, func(c Finding) bool { return c.explains(&findings[i]) })
	}
	for i := range parent { // two kinds that explain each other stay apart, rather than both vanish
		for at, steps := parent[i], 0; at >= 0; at, steps = parent[at], steps+1 {
			if at == i || steps > len(parent) {
				parent[i] = -1
				break
			}
		}
	}
	var gather func(i int) Finding
	gather = func(i int) Finding {
		f := findings[i]
		for k, p := range parent {
			if p == i {
				f.Consequences = append(f.Consequences, gather(k))
			}
		}
		return f
	}
	var out []Finding
	for i, p := range parent {
		if p < 0 {
			out = append(out, gather(i))
		}
	}
	slices.SortStableFunc(out, func(a, b Finding) int { return b.worst().rank() - a.worst().rank() })
	return out
}

// explains reports whether another finding follows from this one: the catalogue says so for its kind, and it was seen on no
// other node and no other access path. A cause without nodes is the API's and holds everywhere.
func (f *Finding) explains(o *Finding) bool {
	if f.ID == o.ID || !slices.Contains(f.Explains, o.ID) {
		return false
	}
	if len(f.Nodes) > 0 && (len(o.Nodes) == 0 || slices.ContainsFunc(o.Seen, func(n string) bool { return !slices.Contains(f.Seen, n) })) {
		return false
	}
	if f.About != nil && !slices.Contains(f.About, o.Subject) {
		return false
	}
	if len(f.Places) == 0 {
		return true
	}
	return !slices.ContainsFunc(o.Places, func(p Place) bool { return !f.seenAt(p) })
}

func (f *Finding) seenAt(p Place) bool {
	return slices.ContainsFunc(f.Places, func(own Place) bool {
		return own.Path == p.Path && (own.Client == p.Client || own.Client == intent.ClientKind(""))
	})
}

// worst is the severity of a finding or of the worst that follows from it.
func (f *Finding) worst() Severity {
	out := f.Severity
	for i := range f.Consequences {
		if s := f.Consequences[i].worst(); s.rank() > out.rank() {
			out = s
		}
	}
	return out
}

// All lists findings and their consequences, each cause before what follows from it.
func All(findings []Finding) []Finding {
	var out []Finding
	for _, f := range findings {
		out = append(append(out, f), All(f.Consequences)...)
	}
	return out
}

// Lead is the finding that the answer begins with: the worst one, if connections fail or may fail; nil else.
func (r Report) Lead() *Finding {
	if len(r.Findings) == 0 || !r.Findings[0].worst().AtLeast(Warning) {
		return nil
	}
	return &r.Findings[0]
}
