package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/cluster"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
)

// foundError is the end of a run that could trace nothing, with what the API alone shows.
type foundError struct {
	err      error
	findings []diagnose.Finding
}

func (e *foundError) Error() string { return e.err.Error() }

func (e *foundError) Unwrap() error { return e.err }

// build makes the model. Where no node translates the Service, what the API shows of it goes along with the error.
func (o *runOptions) build(ctx context.Context, objects *cluster.Objects) (*intent.Model, error) {
	m, err := intent.Build(objects.Service, objects.Slices, objects.Nodes)
	var nothing *intent.UntranslatableError
	if errors.As(err, &nothing) {
		if found := diagnose.Untranslatable(cluster.Around(ctx, o.client, objects)); len(found) > 0 {
			return nil, &foundError{err: err, findings: found}
		}
	}
	return m, err
}

// report writes the findings, each with its fix.
func (e *foundError) report(w io.Writer) {
	for i := range e.findings {
		f := &e.findings[i]
		fmt.Fprintf(w, "found: %s %s: %s\n", f.Severity, f.ID, render.Clean(f.Sentence))
		fmt.Fprintf(w, "fix:   %s\n", render.Clean(f.Fix))
	}
}
