//go:build linux

package vm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func TestKernelIsGotOnceForEachVersion(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	old := filepath.Join(dir, "linux-image-5.10-amd64_1")
	if err := os.MkdirAll(old, 0o755); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-2 * unusedFor)
	if err := os.Chtimes(old, long, long); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	filled := map[debianPackage]int{}
	fill := func(_ context.Context, p debianPackage, dir string) error {
		mu.Lock()
		defer mu.Unlock()
		filled[p]++
		return os.MkdirAll(filepath.Join(dir, "boot"), 0o755)
	}
	one, two := debianPackage{"linux-image-6.1.0-1-amd64", "6.1.1-1"}, debianPackage{"linux-image-6.1.0-1-amd64", "6.1.2-1"}
	var all sync.WaitGroup
	for _, p := range []debianPackage{one, two, one, two} {
		all.Go(func() {
			k, err := cachedIn(t.Context(), dir, p, fill)
			if err != nil || k.Release != "6.1.0-1-amd64" || k.Image != filepath.Join(k.Root, "boot", "vmlinuz-6.1.0-1-amd64") {
				t.Errorf("%+v %v", k, err)
			}
			if _, err := os.Stat(filepath.Dir(k.Image)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if filled[one] != 1 || filled[two] != 1 {
		t.Errorf("filled %v", filled)
	}
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("a kernel that was long not used: %v", err)
	}
}

func TestKernelThatCannotBeGotIsNotCached(t *testing.T) {
	dir := t.TempDir()
	p, failure := debianPackage{"linux-image-6.1.0-1-amd64", "6.1.1-1"}, errors.New("no network")
	for range 2 {
		_, err := cachedIn(t.Context(), dir, p, func(_ context.Context, _ debianPackage, to string) error {
			return errors.Join(os.WriteFile(filepath.Join(to, "half"), nil, 0o644), failure)
		})
		if !errors.Is(err, failure) {
			t.Errorf("%v", err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || left[0].Name() != lockName {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestWaitingForTheLockEndsWithItsContext(t *testing.T) {
	file := filepath.Join(t.TempDir(), lockName)
	unlock, err := lock(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lock(ctx, file); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	unlock()
	if unlock, err = lock(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	unlock()
}
