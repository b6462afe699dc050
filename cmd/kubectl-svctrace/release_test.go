//go:build linux

package main

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestReleaseIsStampedAndStatic builds as a release does: the linker says nothing of a variable that it does not find, nor
// the go command of a library that it links with.
func TestReleaseIsStampedAndStatic(t *testing.T) {
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "make", "-C", "../..", "build", "VERSION=v9.8.7", "OUT="+dir)
	build.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS") })
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for program, want := range map[string]string{
		"kubectl-svctrace": "kubectl-svctrace v9.8.7\n", "svctrace-agent": "svctrace-agent version v9.8.7\n",
	} {
		file := filepath.Join(dir, program)
		if out, err := exec.CommandContext(t.Context(), file, "--version").Output(); err != nil || string(out) != want {
			t.Errorf("%s --version: %q, %v", program, out, err)
		}
		f, err := elf.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP {
				t.Errorf("%s needs a dynamic linker: an image from scratch has none", program)
			}
		}
		f.Close()
	}
	// The plugin asks for the agent's image of its own version.
	out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "kubectl-svctrace"), "--help").Output()
	if err != nil || !strings.Contains(string(out), "kubectl-svctrace/svctrace-agent:v9.8.7") {
		t.Errorf("the help does not name the agent's image of this version: %v", err)
	}
}
