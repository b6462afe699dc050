package faults

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// buildAgent makes the agent's binary in a directory that the nodes see.
func buildAgent(t *testing.T, dir string) string {
	t.Helper()
	out := filepath.Join(dir, "svctrace-agent")
	cmd := exec.Command("go", "build", "-o", out, "./cmd/svctrace-agent")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the agent: %v: %s", err, b)
	}
	return out
}

// agent is an agent that runs on a node, in all of its namespaces, as in its pod. It answers one request at a time.
type agent struct {
	mu    sync.Mutex
	in    io.WriteCloser
	out   io.ReadCloser
	hello *wire.Hello
	id    int
	// factless agents do not know what facts are, as those of older releases.
	factless bool
}

// startAgent starts an agent that ends with the test.
func startAgent(t *testing.T, n *lab.Node, command ...string) *agent {
	t.Helper()
	cmd, err := n.Command(t.Context(), command[0], append(command[1:len(command):len(command)], "serve")...)
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{}
	if a.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if a.out, err = cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = a.in.Close()
		_ = cmd.Wait() // the test's context ends it too
	})
	return a
}

// Ask sends one request and waits for its answer.
func (a *agent) Ask(_ context.Context, r wire.Request) (*wire.Answer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.factless && r.Facts != nil {
		return &wire.Answer{Error: &wire.Error{Code: wire.CodeBadRequest, Message: "the request asks for nothing that this agent knows"}}, nil
	}
	a.id++
	r.ID = a.id
	if err := wire.Write(a.in, r); err != nil {
		return nil, err
	}
	if a.hello == nil {
		a.hello = &wire.Hello{}
		if err := wire.Read(a.out, a.hello); err != nil {
			return nil, fmt.Errorf("reading the greeting: %w", err)
		}
	}
	var ans wire.Answer
	if err := wire.Read(a.out, &ans); err != nil {
		return nil, err
	}
	if ans.ID != r.ID {
		return nil, fmt.Errorf("answer %d to request %d", ans.ID, r.ID)
	}
	return &ans, nil
}

// Hello is the agent's greeting.
func (a *agent) Hello() *wire.Hello {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hello
}
