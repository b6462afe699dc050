package xtables

// Comment returns the text of the rule's comment match, empty when it has none.
func (t *Table) Comment(r Rule) string {
	text := ""
	if r.raw == nil {
		return ""
	}
	r.matches(t.l, func(name string, _ uint8, info []byte) bool {
		if name == "comment" {
			text = cstring(info)
		}
		return text == ""
	})
	return text
}
