package render

// style is a terminal colour.
type style string

const (
	plain  style = ""
	bold   style = "\x1b[1m"
	red    style = "\x1b[31m"
	green  style = "\x1b[32m"
	yellow style = "\x1b[33m"
	faint  style = "\x1b[2m"
)

// paint colours a text that has been cleaned; only when colour is on.
func (p *page) paint(s style, text string) string {
	if !p.colour || s == plain || text == "" {
		return text
	}
	return string(s) + text + "\x1b[0m"
}
