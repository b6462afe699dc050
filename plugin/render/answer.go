// Package render writes an answer: for people, fitted to a terminal, or as a versioned model in JSON and YAML.
package render

import (
	"fmt"
	"io"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// Answer is everything there is to say about one Service.
type Answer struct {
	Model  *intent.Model
	Nodes  []*survey.Node
	Report diagnose.Report
	// Probes are the real connections of --probe; nil without it.
	Probes []survey.Probe
	// Skipped are nodes that ought to have been traced and could not be.
	Skipped []intent.Skipped
	// Unread says what could not be read of the API and would only have explained more.
	Unread []string
	// Left is the number of further nodes with endpoints that were left out because of the limit.
	Left int
}

// Format is a form of output.
type Format string

// The formats.
const (
	Human Format = ""
	Wide  Format = "wide"
	JSON  Format = "json"
	YAML  Format = "yaml"
)

// Formats lists what -o takes.
func Formats() []string { return []string{string(Wide), string(JSON), string(YAML)} }

// ParseFormat reads the value of -o.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case Human, Wide, JSON, YAML:
		return f, nil
	}
	return "", fmt.Errorf("unknown output format %q: use wide, json or yaml", s)
}

// Write writes the answer in a format. colour asks for terminal colours; it has no effect on JSON and YAML.
func Write(w io.Writer, a *Answer, f Format, colour bool) error {
	switch f {
	case JSON:
		return writeJSON(w, NewServiceTrace(a))
	case YAML:
		return writeYAML(w, NewServiceTrace(a))
	default:
		return writeHuman(w, a, f == Wide, colour)
	}
}
