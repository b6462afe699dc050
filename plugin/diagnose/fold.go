package diagnose

import "slices"

// fold puts consequences under their causes: what one fault explains is no second fault. A finding goes under what
// explains it wherever it was seen; a cause may itself be a consequence.
func fold(findings []Finding) []Finding {
	parent := make([]int, len(findings))
	for i := range findings {
		parent[i] = cause(findings, &findings[i])
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

// mayExplain reports whether the catalogue says that findings like another one follow from this one.
func (f *Finding) mayExplain(o *Finding) bool {
	return f.ID != o.ID && slices.Contains(f.Explains, o.ID) && (f.About == nil || slices.Contains(f.About, o.Subject))
}

// covers reports whether the finding was seen where another one was. A cause without nodes is the API's and holds
// everywhere; a finding without places is about its nodes. Whose a flow is that was seen on a node is not known.
func (f *Finding) covers(m meeting) bool {
	return slices.ContainsFunc(f.met, func(own meeting) bool {
		if own.node != "" && own.node != m.node {
			return false
		}
		return own.place == Place{} || m.place == Place{} ||
			own.place.Path == m.place.Path && (own.place.Client == m.place.Client || own.place.Client == "" || m.place.Client == "" && m.node != "")
	})
}

// cause finds what explains a finding wherever it was seen. Several causes may do so together: two rules that drop, each
// the packets of other clients; it then goes under the first of them. -1 if a part is left unexplained.
func cause(findings []Finding, o *Finding) int {
	first := -1
	for _, m := range o.met {
		i := slices.IndexFunc(findings, func(c Finding) bool { return c.mayExplain(o) && c.covers(m) })
		if i < 0 {
			return -1
		}
		if first < 0 || i < first {
			first = i
		}
	}
	return first
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
