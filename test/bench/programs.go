//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// module is the module that the agent is in.
const module = "github.com/kubectl-svctrace/kubectl-svctrace"

// programs are the files that are measured, and what makes the state.
type programs struct {
	dir   string
	maker string
	agent string
	floor string
}

// build builds the agent as it is released, and the state maker.
func build(ctx context.Context, progress io.Writer) (*programs, error) {
	maker, err := lab.KubeProxyState(ctx, progress)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "svctrace-bench")
	if err != nil {
		return nil, err
	}
	p := &programs{dir: dir, maker: maker, agent: filepath.Join(dir, "svctrace-agent"), floor: filepath.Join(dir, "floor")}
	for _, b := range []struct{ module, pkg, to string }{
		{module, "./cmd/svctrace-agent", p.agent}, {module + "/test/bench", "./cmd/floor", p.floor},
	} {
		if err := compile(ctx, b.module, b.pkg, b.to); err != nil {
			p.remove()
			return nil, fmt.Errorf("building %s: %w", b.pkg, err)
		}
	}
	return p, nil
}

// compile builds a package of a module that the working directory's module knows.
func compile(ctx context.Context, module, pkg, to string) error {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return fmt.Errorf("finding its source (run this in test/bench): %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", to, pkg)
	cmd.Dir = strings.TrimSpace(string(root))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

func (p *programs) remove() { os.RemoveAll(p.dir) }
