package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab/image"
)

// agentImage is the image that the plugin asks for when it is told nothing else.
const agentImage = "kubectl-svctrace/svctrace-agent:v0.1.0"

// buildVariable names a directory with the two programs in it; without it they are built.
const buildVariable = "SVCTRACE_BUILD"

// programs are what is under test.
type programs struct {
	// agent is the agent's binary, archive its image.
	agent, archive string
}

var built programs

// update rewrites what the tests record and what the plugin printed under docs/findings.
var update = flag.Bool("update", false, "rewrite the samples and the records under docs/findings")

// root is the repository's.
var root = filepath.Join("..", "..")

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "svctrace-e2e-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if built, err = build(ctx, dir); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// build makes both programs and the agent's image, and puts the plugin on PATH, where kubectl looks for plugins.
func build(ctx context.Context, dir string) (programs, error) {
	bin := os.Getenv(buildVariable)
	if bin == "" {
		bin = dir
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir+"/", "./cmd/kubectl-svctrace", "./cmd/svctrace-agent")
		cmd.Dir = filepath.Join("..", "..")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return programs{}, fmt.Errorf("build the programs: %w\n%s", err, strings.TrimSpace(string(out)))
		}
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		return programs{}, err
	}
	p := programs{agent: filepath.Join(bin, "svctrace-agent"), archive: filepath.Join(dir, "agent.tar")}
	err = image.Write(p.archive, image.Spec{
		Name:       agentImage,
		Entrypoint: []string{"/svctrace-agent"},
		Platforms: []image.Platform{{
			Architecture: runtime.GOARCH, Files: []image.File{{Path: "/svctrace-agent", Source: p.agent}},
		}},
	})
	if err != nil {
		return programs{}, err
	}
	return p, os.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
}
