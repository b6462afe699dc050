package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode"

	"sigs.k8s.io/yaml"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/visible"
)

func writeJSON(w io.Writer, s *ServiceTrace) error {
	b, err := encode(s)
	if err == nil {
		_, err = w.Write(visible.JSON(b))
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

func writeYAML(w io.Writer, s *ServiceTrace) error {
	b, err := encode(s)
	if err == nil { // YAML escapes characters of control, and lets those of format stand
		b, err = yaml.JSONToYAML(visible.JSON(bytes.Map(func(r rune) rune {
			if unicode.Is(unicode.Cf, r) {
				return -1
			}
			return r
		}, b)))
	}
	if err != nil {
		return fmt.Errorf("writing YAML: %w", err)
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("writing YAML: %w", err)
	}
	return nil
}
