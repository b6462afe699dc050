//go:build linux

package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// unusedFor is how long a kernel is kept without use.
const unusedFor = 14 * 24 * time.Hour

// lockName is the file that processes lock while they look into the cache or fill it.
const lockName = "lock"

// cached returns a kernel from the user's cache, and puts it there before when it is not in it. A directory appears in one
// step, complete; its modification time is that of its last use.
func cached(ctx context.Context, p debianPackage) (Kernel, error) {
	user, err := os.UserCacheDir()
	if err != nil {
		return Kernel{}, fmt.Errorf("find a place for the kernel: %w", err)
	}
	return cachedIn(ctx, filepath.Join(user, "svctrace-vm"), p, unpack)
}

func cachedIn(ctx context.Context, cache string, p debianPackage, fill func(ctx context.Context, p debianPackage, dir string) error) (Kernel, error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return Kernel{}, err
	}
	unlock, err := lock(ctx, filepath.Join(cache, lockName))
	if err != nil {
		return Kernel{}, err
	}
	defer unlock()
	dir := filepath.Join(cache, p.name+"_"+strings.ReplaceAll(p.version, ":", "%3a"))
	now := time.Now()
	if os.Chtimes(dir, now, now) != nil {
		unmade := dir + ".new"
		if err := errors.Join(os.RemoveAll(unmade), os.Mkdir(unmade, 0o755)); err != nil {
			return Kernel{}, err
		}
		if err := fill(ctx, p, unmade); err != nil {
			return Kernel{}, errors.Join(fmt.Errorf("get the kernel %s %s: %w", p.name, p.version, err), os.RemoveAll(unmade))
		}
		if err := os.Rename(unmade, dir); err != nil {
			return Kernel{}, err
		}
		if err := prune(cache); err != nil {
			return Kernel{}, fmt.Errorf("prune the cache of kernels: %w", err)
		}
	}
	release := strings.TrimPrefix(p.name, "linux-image-")
	return Kernel{Release: release, Image: filepath.Join(dir, "boot", "vmlinuz-"+release), Root: dir}, nil
}

// prune removes kernels that have long not been used.
func prune(cache string) error {
	all, err := os.ReadDir(cache)
	if err != nil {
		return err
	}
	for _, d := range all {
		info, err := d.Info()
		if err != nil {
			return err
		}
		if !d.IsDir() || time.Since(info.ModTime()) < unusedFor {
			continue
		}
		if err := os.RemoveAll(filepath.Join(cache, d.Name())); err != nil {
			return err
		}
	}
	return nil
}

// lock takes a lock, waiting for whoever has it, and returns what gives it back. It ends with its process.
func lock(ctx context.Context, file string) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", file, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("waiting for the lock %s: %w", file, ctx.Err()), f.Close())
		case <-time.After(100 * time.Millisecond):
		}
	}
}
