//go:build linux

package procfile

import (
	"errors"
	"os"
	"testing"
)

func TestFilesAreReadToTheirEnd(t *testing.T) {
	for _, name := range []string{"/proc/self/limits", "/proc/filesystems", "/dev/null"} {
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Read(name); err != nil || string(got) != string(want) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(want), err)
		}
	}
}

func TestFileThatIsNotThere(t *testing.T) {
	if _, err := Read("/proc/absent"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want os.ErrNotExist", err)
	}
}
