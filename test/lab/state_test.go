package lab

import (
	"context"
	"errors"
	"io/fs"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

func TestProcessIsKnownByItsStartTimeToo(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := processOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if !p.alive() {
		t.Error("a running process does not count as alive")
	}
	stranger := process{PID: p.PID, Start: p.Start + 1}
	if stranger.alive() {
		t.Error("another process of the same number counts as this one")
	}
	if err := stranger.signal(syscall.SIGKILL); err != nil || !p.alive() {
		t.Errorf("the signal for another process was sent to this one: %v", err)
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	// nobody has waited for it: a zombie must not count as alive
	if err := until(ctx, time.Millisecond, func() (bool, error) { return !p.alive(), nil }); err != nil {
		t.Errorf("a killed process still counts as alive: %v", err)
	}
	_ = cmd.Wait()
}

func TestNoSuchLab(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	if _, err := Open("nobody"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open: %v", err)
	}
	if err := Down(t.Context(), "nobody"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Down: %v", err)
	}
	if names, err := List(); err != nil || len(names) != 0 {
		t.Errorf("List: %v, %v", names, err)
	}
}
