//go:build linux

package vm

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestArchiveIsUnpackedAsItWasMade(t *testing.T) {
	files := map[string]string{"d/empty": "", "d/one": "x", "d/four": "abcd", "init": "#!/bin/sh\nexit 0\n"}
	var a archive
	a.dir("d")
	for name, content := range files {
		a.file(name, []byte(content))
	}
	to := t.TempDir()
	cmd := exec.Command(busybox, "cpio", "-i")
	cmd.Dir, cmd.Stdin = to, bytes.NewReader(a.bytes())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, content := range files {
		got, err := os.ReadFile(filepath.Join(to, name))
		if err != nil || string(got) != content {
			t.Errorf("%s: %q, want %q: %v", name, got, content, err)
		}
	}
	if out, err := exec.Command(filepath.Join(to, "init")).CombinedOutput(); err != nil {
		t.Errorf("a file that may be executed: %v: %s", err, out)
	}
}
