//go:build linux

package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// defaultTime and defaultMemory are used where Options do not say.
const (
	defaultTime   = 5 * time.Minute
	defaultMemory = 1024
)

// Options say what is run in a machine, and on which one.
type Options struct {
	// Command is the program, by its path or by its name in Debian's usual PATH, and its arguments. It runs as root.
	Command []string
	// Env are further variables, NAME=VALUE. Of the environment of the host's process it gets none.
	Env []string
	// Dir is the directory it runs in, "/" when empty.
	Dir string
	// Modules are names of kernel modules to load before, with what they depend on. Those that the kernel itself asks for,
	// as for a new kind of interface, are loaded without that.
	Modules []string
	// Memory is the machine's, in MiB, 1024 when 0. What the command writes to files is in it too.
	Memory int
	// Timeout bounds the machine's life, 5 minutes when 0.
	Timeout time.Duration
}

// Result is what a command did.
type Result struct {
	// Stdout and Stderr are what it wrote, Status is its exit status: above 128 when a signal ended it, as shells count.
	Stdout, Stderr string
	Status         int
	// Kernel is the release that it ran on.
	Kernel string
}

// EndedError says that a machine ended, or was ended, before its command did.
type EndedError struct {
	// Console is the end of what the kernel and the preparations wrote; Stdout and Stderr are what the command did until then.
	Console, Stdout, Stderr string
	// Err is why: context.DeadlineExceeded when the time was up.
	Err error
}

// Error says why, and quotes what was written last.
func (e *EndedError) Error() string {
	return fmt.Sprintf("the virtual machine ended before its command did: %v\nconsole: %s\nstdout: %s\nstderr: %s",
		e.Err, e.Console, tail(e.Stdout), tail(e.Stderr))
}

// Unwrap returns the cause.
func (e *EndedError) Unwrap() error { return e.Err }

// Run boots a machine, runs the command in it and ends it. A command that fails is no error: see Result.Status. It is an
// *EndedError when the command did not come to its end, and a *MissingError when programs are missing on the host.
func Run(ctx context.Context, o Options) (_ Result, err error) {
	if len(o.Command) == 0 {
		return Result{}, errors.New("no command to run in the virtual machine")
	}
	if err := Missing(); err != nil {
		return Result{}, err
	}
	k, err := GetKernel(ctx)
	if err != nil {
		return Result{}, err
	}
	root, err := initramfs(ctx, k)
	if err != nil {
		return Result{}, err
	}
	job, err := os.MkdirTemp("", "svctrace-vm-")
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(job)) }()
	for name, content := range map[string]string{
		"initramfs": string(root), "command": o.script(), "modules": filepath.Join(k.Root, "lib", "modules"), "load": strings.Join(o.Modules, "\n"),
	} {
		if err := os.WriteFile(filepath.Join(job, name), []byte(content), 0o644); err != nil {
			return Result{}, err
		}
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTime
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	console, err := boot(ctx, k, job, o.Memory)
	return result(k, job, console, err)
}

// result reads what a machine left behind.
func result(k Kernel, job, console string, err error) (Result, error) {
	stdout, stderr, status := left(job, "stdout"), left(job, "stderr"), left(job, "status")
	if err == nil && status == "" {
		err = errors.New("it stopped by itself")
	}
	if err != nil {
		return Result{}, &EndedError{Console: tail(console), Stdout: stdout, Stderr: stderr, Err: err}
	}
	n, err := strconv.Atoi(strings.TrimSpace(status))
	if err != nil {
		return Result{}, fmt.Errorf("the status of the command in the virtual machine: %w", err)
	}
	return Result{Stdout: stdout, Stderr: stderr, Status: n, Kernel: k.Release}, nil
}

// left is what the machine wrote into a file, "" when it did not come to that.
func left(job, name string) string {
	b, _ := os.ReadFile(filepath.Join(job, name))
	return string(b)
}

// script is the command as a shell script.
func (o Options) script() string {
	dir := o.Dir
	if dir == "" {
		dir = "/"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "cd %s || exit\nexport HOME=/tmp\n", quote(dir))
	for _, e := range o.Env {
		name, value, _ := strings.Cut(e, "=")
		fmt.Fprintf(&b, "export %s=%s\n", name, quote(value))
	}
	b.WriteString("exec")
	for _, word := range o.Command {
		b.WriteString(" " + quote(word))
	}
	return b.String() + "\n"
}

// quote makes one word of a shell script.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// tail is the end of a text, for messages.
func tail(s string) string {
	const most = 8000
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}
