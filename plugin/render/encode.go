package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"sigs.k8s.io/yaml"
)

func writeJSON(w io.Writer, s *ServiceTrace) error {
	b, err := encode(s)
	if err == nil {
		_, err = w.Write(escapeInvisible(b))
	}
	if err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	return nil
}

func encode(s *ServiceTrace) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(s)
	return b.Bytes(), err
}

// escapeInvisible writes the characters of JSON's strings that could act on a terminal or mislead a reader, and that JSON
// lets stand, as \u escapes: those of control from U+007F on, and those of format.
func escapeInvisible(b []byte) []byte {
	if !bytes.ContainsFunc(b, invisible) {
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

func invisible(r rune) bool {
	return r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r))
}

func writeYAML(w io.Writer, s *ServiceTrace) error {
	b, err := encode(s)
	if err == nil { // YAML escapes characters of control, and lets those of format stand
		b, err = yaml.JSONToYAML(bytes.Map(func(r rune) rune {
			if unicode.Is(unicode.Cf, r) {
				return -1
			}
			return r
		}, b))
	}
	if err != nil {
		return fmt.Errorf("writing YAML: %w", err)
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("writing YAML: %w", err)
	}
	return nil
}
