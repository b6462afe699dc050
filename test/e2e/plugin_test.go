package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
)

// The plugin's exit codes.
const (
	exitOK          = 0
	exitFindings    = 1
	exitUsage       = 2
	exitUnknown     = 3
	exitInterrupted = 130
)

// ran is what came of a run of the plugin.
type ran struct {
	args           []string
	code           int
	stdout, stderr string
}

func (r ran) String() string {
	return fmt.Sprintf("kubectl svctrace %s: exit code %d\nstderr:\n%s\nstdout:\n%s", strings.Join(r.args, " "), r.code, r.stderr, r.stdout)
}

// answer decodes the JSON of a run with -o json.
func (r ran) answer() (*render.ServiceTrace, error) {
	var a render.ServiceTrace
	d := json.NewDecoder(strings.NewReader(r.stdout))
	d.DisallowUnknownFields()
	if err := d.Decode(&a); err != nil {
		return nil, fmt.Errorf("decode the answer: %w\n%v", err, r)
	}
	return &a, nil
}

// findings lists the IDs of the findings, each once.
func findings(a *render.ServiceTrace) map[string]render.Finding {
	out := map[string]render.Finding{}
	for _, f := range a.Findings {
		out[f.ID] = f
	}
	return out
}

// plugin prepares kubectl svctrace beside the API server, as kubectl's plugin.
func (c *cluster) plugin(ctx context.Context, args ...string) (*exec.Cmd, error) {
	return c.ControlPlane().Command(ctx, "kubectl", append([]string{"svctrace"}, args...)...)
}

// run runs kubectl svctrace to its end. An error means that it did not run.
func (c *cluster) run(ctx context.Context, args ...string) (ran, error) {
	cmd, err := c.plugin(ctx, args...)
	if err != nil {
		return ran{}, err
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	r := ran{args: args}
	err = cmd.Run()
	r.stdout, r.stderr = stdout.String(), stderr.String()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		r.code, err = exit.ExitCode(), nil
	}
	if err != nil {
		return r, fmt.Errorf("%v: %w", r, err)
	}
	return r, nil
}

// trace runs kubectl svctrace with arguments that ask for JSON, which must come, and returns it with the run.
func (c *cluster) trace(ctx context.Context, t *testing.T, args ...string) (*render.ServiceTrace, ran) {
	t.Helper()
	r, err := c.run(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	a, err := r.answer()
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range a.Walks {
		// The agent's pod is allowed to read the kernel's own lists of hooks, in its node's namespace and in pods'.
		if w.Trace != nil && w.Trace.Reads.Hooks != trace.HooksListed {
			t.Errorf("%v: the hooks of a walk on %s are %q", args, w.Node, w.Trace.Reads.Hooks)
		}
	}
	return a, r
}
