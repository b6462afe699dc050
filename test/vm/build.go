//go:build linux

package vm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

// Build makes a static program for the machine out of the main package that a path names, as the go command understands it.
func Build(ctx context.Context, program, path string) error {
	return static(ctx, "build", "-o", program, path)
}

// BuildTests makes a static program out of the tests of the package that a path names.
func BuildTests(ctx context.Context, program, path string) error {
	return static(ctx, "test", "-c", "-o", program, path)
}

// static runs the go command, without cgo.
func static(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building a program for the virtual machine: %w\n%s", err, out)
	}
	return nil
}
