package render

import "github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/visible"

// Clean takes out of a text from the cluster what could act on a terminal or mislead a reader: control characters, and
// format characters such as those that turn the direction of writing. Line breaks and tabs become blanks.
func Clean(s string) string { return visible.Text(s) }

// fit shortens a text to a width in characters; a width of 0 leaves it as it is.
func fit(s string, width int) string {
	r := []rune(s)
	if width <= 0 || len(r) <= width {
		return s
	}
	return string(r[:width-1]) + "…"
}

// short cleans and shortens a name.
func short(s string, width int) string { return fit(Clean(s), width) }
