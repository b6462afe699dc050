//go:build linux

package vm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Programs that lie where only root looks, or that must be the static ones.
const (
	depmod   = "/sbin/depmod"
	modprobe = "/sbin/modprobe"
	busybox  = "/bin/busybox"
	qemu     = "qemu-system-x86_64"
)

// needs are the programs that a machine takes, and the Debian packages they come in.
var needs = []struct{ program, debianPackage string }{
	{qemu, "qemu-system-x86"},
	{busybox, "busybox-static"},
	{depmod, "kmod"},
	{modprobe, "kmod"},
}

// MissingError says which Debian packages a machine needs that are not installed.
type MissingError struct{ Packages []string }

// Error says what to install.
func (e *MissingError) Error() string {
	return "a virtual machine needs the Debian packages " + strings.Join(e.Packages, ", ") + ": 'make deps' installs them"
}

// Missing returns a *MissingError unless every program is there.
func Missing() error {
	var e MissingError
	for _, n := range needs {
		if _, err := exec.LookPath(n.program); err != nil && !slices.Contains(e.Packages, n.debianPackage) {
			e.Packages = append(e.Packages, n.debianPackage)
		}
	}
	if e.Packages != nil {
		return &e
	}
	return nil
}

// output runs a program of the host in a directory and returns what it prints.
func output(ctx context.Context, dir, program string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = dir, &stdout, &stderr, append(os.Environ(), "LC_ALL=C")
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
