package nftables

// Targets returns the chains that the rule names as targets of jumps and gotos by itself, not by a map.
func (r *Rule) Targets() []string {
	var out []string
	for _, x := range r.Exprs {
		if i, ok := x.(*Immediate); ok && i.Verdict != nil && i.Verdict.Chain != "" {
			out = append(out, i.Verdict.Chain)
		}
	}
	return out
}
