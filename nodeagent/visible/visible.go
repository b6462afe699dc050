// Package visible keeps text that others wrote from acting on a terminal or misleading who reads it: names, comments and
// messages come from a cluster.
package visible

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Text takes out of a text what cannot be seen: control characters, and format characters such as those that turn the
// direction of writing. Line breaks and tabs become blanks; what is no UTF-8 goes.
func Text(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t', r == '\r':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == '\u2028', r == '\u2029', r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, s)
}

// JSON escapes in encoded JSON what JSON lets stand and cannot be seen: control characters from U+007F on, and format
// characters. Nothing of the data is lost.
func JSON(b []byte) []byte {
	if allASCII(b) || !bytes.ContainsFunc(b, invisible) {
		return b
	}
	out := make([]byte, 0, len(b)+64)
	for _, r := range string(b) {
		if !invisible(r) {
			out = utf8.AppendRune(out, r)
			continue
		}
		for _, u := range utf16.Encode([]rune{r}) {
			out = fmt.Appendf(out, "\\u%04x", u)
		}
	}
	return out
}

// allASCII tells whether b has nothing but printable ASCII characters and line breaks, as most answers do.
func allASCII(b []byte) bool {
	for _, c := range b {
		if c != '\n' && (c < ' ' || c > '~') {
			return false
		}
	}
	return true
}

func invisible(r rune) bool {
	return r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r))
}
