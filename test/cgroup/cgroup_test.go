//go:build linux

package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func groups(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestOwnGroupIsLeftAndRemoved(t *testing.T) {
	before, dir := groups(t), ""
	t.Run("inside", func(t *testing.T) {
		dir = Own(t)
		if !strings.Contains(groups(t), "/"+filepath.Base(dir)+"\n") {
			t.Errorf("the process is not in %s: %s", dir, groups(t))
		}
	})
	if after := groups(t); after != before {
		t.Errorf("the process was in %q and is in %q", before, after)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", dir, err)
	}
}
