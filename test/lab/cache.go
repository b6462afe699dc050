package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// unusedFor is how long an entry of the cache is kept without use.
const unusedFor = 14 * 24 * time.Hour

// Beside each entry lies the file that its makers lock; while it is made it has another name.
const (
	lockSuffix  = ".lock"
	unmadeEntry = ".new"
)

// cache is a directory of built things. The name of an entry is its kind, a dash, and a hash of what it is made from. Its
// modification time is that of its last use.
type cache struct {
	dir string
	say func(format string, args ...any)
}

// userCache is the lab's cache of this user.
func userCache(say func(format string, args ...any)) (cache, error) {
	user, err := os.UserCacheDir()
	if err != nil {
		return cache{}, fmt.Errorf("find a place for built programs: %w", err)
	}
	c := cache{dir: filepath.Join(user, "svctrace-lab"), say: say}
	return c, os.MkdirAll(c.dir, 0o755)
}

// once makes an entry with make unless it is there, and returns its path. It appears in one step, complete. Other
// processes that want it wait. A new entry is the occasion to remove those of its kind that have long not been used.
func (c cache) once(ctx context.Context, name string, make func(dir string) error) (string, error) {
	dir := filepath.Join(c.dir, name)
	if used(dir) {
		return dir, nil
	}
	unlock, err := c.lock(ctx, name)
	if err != nil {
		return "", err
	}
	defer unlock()
	if used(dir) {
		return dir, nil
	}
	tmp := dir + unmadeEntry
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return "", err
	}
	if err := make(tmp); err != nil {
		return "", errors.Join(err, os.RemoveAll(tmp))
	}
	if err := os.Rename(tmp, dir); err != nil {
		return "", err
	}
	if !used(dir) {
		return "", fmt.Errorf("%s is gone as soon as it was made", dir)
	}
	return dir, c.prune(kind(name))
}

// used says whether an entry is there, and notes that it is used.
func used(dir string) bool {
	now := time.Now()
	return os.Chtimes(dir, now, now) == nil
}

var (
	hashed  = regexp.MustCompile(`^(.+)-[0-9a-f]{12}$`)
	version = regexp.MustCompile(`^v[0-9].*`)
)

// kind is what entries have in common that replace each other: every version of Kubernetes is of one kind. It is empty for
// what is no name of an entry.
func kind(name string) string {
	m := hashed.FindStringSubmatch(name)
	switch {
	case m == nil:
		return ""
	case version.MatchString(m[1]):
		return "Kubernetes"
	}
	return m[1]
}

// prune removes the entries of a kind that have not been used for long, and what is left of attempts to make them. An entry
// that somebody is making stays.
func (c cache) prune(of string) error {
	files, err := os.ReadDir(c.dir)
	if err != nil {
		return fmt.Errorf("prune the cache: %w", err)
	}
	seen := map[string]bool{}
	for _, f := range files {
		name := strings.TrimSuffix(strings.TrimSuffix(f.Name(), lockSuffix), unmadeEntry)
		if kind(name) != of || seen[name] {
			continue
		}
		seen[name] = true
		if err := c.remove(name); err != nil {
			return fmt.Errorf("prune the cache: %w", err)
		}
	}
	return nil
}

// remove removes an entry that has not been used for long, with its lock file last, by which others wait for it.
func (c cache) remove(name string) error {
	dir := filepath.Join(c.dir, name)
	if !unused(dir, dir+unmadeEntry, dir+lockSuffix) {
		return nil
	}
	unlock, err := c.tryLock(name)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	if !unused(dir, dir+unmadeEntry) { // somebody was quicker
		return nil
	}
	return errors.Join(os.RemoveAll(dir), os.RemoveAll(dir+unmadeEntry), os.Remove(dir+lockSuffix))
}

// unused says whether all files that are there were last used long ago.
func unused(files ...string) bool {
	for _, f := range files {
		if info, err := os.Stat(f); err == nil && time.Since(info.ModTime()) < unusedFor {
			return false
		}
	}
	return true
}

// lock takes the lock of an entry, telling once that another process has it.
func (c cache) lock(ctx context.Context, name string) (unlock func(), err error) {
	told := false
	err = until(ctx, 200*time.Millisecond, func() (bool, error) {
		unlock, err = c.tryLock(name)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			if !told {
				told = true
				c.say("waiting for another process that builds %s", name)
			}
			return false, nil
		}
		return err == nil, err
	})
	return unlock, err
}

// tryLock takes the lock of an entry, or returns EWOULDBLOCK.
func (c cache) tryLock(name string) (unlock func(), err error) {
	path := filepath.Join(c.dir, name+lockSuffix)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil && !same(f, path) { // it was removed since: its lock keeps nobody out
		err = syscall.EWOULDBLOCK
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

// same says whether an open file is the one at a path.
func same(f *os.File, path string) bool {
	there, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	open, e := f.Stat()
	return err == nil && e == nil && os.SameFile(there, open)
}
