package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hierarchy is one mounted cgroup v1 hierarchy.
type hierarchy struct {
	// dir is where it is mounted.
	dir string
	// options are what mounting it anew takes: its controllers, or its name.
	options string
	// cpuset: new groups in it need processors and memory nodes before they can have processes.
	cpuset bool
}

// hierarchies finds the machine's cgroup v1 hierarchies, one mount of each.
func hierarchies() ([]hierarchy, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found []hierarchy
	for s := bufio.NewScanner(f); s.Scan(); {
		before, after, ok := strings.Cut(s.Text(), " - ")
		mount, source := strings.Fields(before), strings.Fields(after)
		if !ok || len(mount) < 6 || len(source) < 3 || source[0] != "cgroup" {
			continue
		}
		h := hierarchy{dir: mount[4]}
		var controllers []string
		for o := range strings.SplitSeq(source[2], ",") {
			switch {
			case strings.HasPrefix(o, "name="):
				h.options = "none," + o
			case o == "rw" || o == "ro" || o == "xattr" || strings.HasPrefix(o, "release_agent="):
			default:
				controllers = append(controllers, o)
			}
		}
		if h.options == "" {
			h.options = strings.Join(controllers, ",")
		}
		h.cpuset = slices.Contains(controllers, "cpuset")
		if !slices.ContainsFunc(found, func(o hierarchy) bool { return o.options == h.options }) {
			found = append(found, h)
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no cgroup v1 hierarchy is mounted: the lab's nodes need them")
	}
	return found, nil
}

// joinCgroups makes the group NAME/NODE in every hierarchy and moves the calling process into it.
func joinCgroups(hs []hierarchy, name, node string) error {
	for _, h := range hs {
		parent := h.dir
		for _, part := range []string{name, node} {
			dir := filepath.Join(parent, part)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			if h.cpuset {
				for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
					if err := inherit(parent, dir, file); err != nil {
						return err
					}
				}
			}
			parent = dir
		}
		if err := os.WriteFile(filepath.Join(parent, "cgroup.procs"), []byte("0"), 0o644); err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
	}
	return nil
}

func inherit(parent, child, file string) error {
	b, err := os.ReadFile(filepath.Join(parent, file))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(child, file), b, 0o644)
}

// removeCgroups removes the lab's groups from every hierarchy, waiting at most for limit for the last processes in them
// to be gone.
func removeCgroups(name string, limit time.Duration) error {
	hs, err := hierarchies()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(limit)
	for _, h := range hs {
		for {
			err := removeGroups(filepath.Join(h.dir, name))
			if err == nil {
				break
			}
			if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
				return fmt.Errorf("remove cgroups: %w", err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return nil
}

// removeGroups removes one group and those below it; a missing one is not an error.
func removeGroups(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeGroups(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}
