package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How long the steps of a teardown may take.
const (
	downTimeout   = 30 * time.Second
	cgroupTimeout = 15 * time.Second
)

// remove removes what the processes of a lab that has ended have left: cgroups, mounts and files. It is harmless when
// there is nothing.
func (s state) remove() error {
	return errors.Join(removeCgroups(s.cgroup(), cgroupTimeout), s.removeFiles())
}

// removeFiles removes the lab's directory, but nothing that is mounted in it: a lab mounts nothing in the machine's own
// mount namespace, and were there a mount it would not be the lab's to empty.
func (s state) removeFiles() error {
	mounts, err := mountsBelow(string(s))
	if err != nil {
		return err
	}
	slices.Reverse(mounts)
	for _, m := range mounts {
		if err := unix.Unmount(m, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s: %w", m, err)
		}
	}
	if err := os.RemoveAll(string(s)); err != nil {
		return fmt.Errorf("remove the lab's files: %w", err)
	}
	return nil
}

// mountsBelow lists the mount points in and below dir, in the order of their mounting.
func mountsBelow(dir string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found []string
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		fields := strings.Fields(scan.Text())
		if len(fields) > 4 && (fields[4] == dir || strings.HasPrefix(fields[4], dir+"/")) {
			found = append(found, fields[4])
		}
	}
	return found, scan.Err()
}

// Down ends the lab of that name and removes all of it. It returns an error that wraps fs.ErrNotExist if there is no
// such lab.
func Down(ctx context.Context, name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("%q is not a lab's name", name)
	}
	s := stateOf(name)
	if _, err := os.Stat(string(s)); err != nil {
		return fmt.Errorf("no lab %s: %w", name, err)
	}
	return s.down(ctx)
}

// down ends a lab, through its keeper if it has one, and returns when nothing is left.
func (s state) down(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, downTimeout)
	defer cancel()
	r, err := s.record()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if r.Keeper.alive() {
		if err := r.Keeper.signal(syscall.SIGTERM); err != nil {
			return err
		}
		if err := until(ctx, 20*time.Millisecond, func() (bool, error) { return !r.Keeper.alive(), nil }); err != nil {
			return fmt.Errorf("wait for the end of lab %s: %w", s.name(), err)
		}
		if _, err := os.Stat(string(s)); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	// No keeper, or one that could not finish.
	if err := r.Init.signal(syscall.SIGKILL); err != nil {
		return err
	}
	if err := until(ctx, 20*time.Millisecond, func() (bool, error) { return !r.Init.alive(), nil }); err != nil {
		return fmt.Errorf("wait for the end of lab %s: %w", s.name(), err)
	}
	return s.remove()
}

// sweep removes what is left of labs that have died together with their keepers. That it fails is no reason not to go on.
func sweep(ctx context.Context) {
	names, err := List()
	if err != nil {
		return
	}
	for _, name := range names {
		s := stateOf(name)
		if r, err := s.record(); err == nil && !r.Keeper.alive() && !r.Init.alive() {
			_ = s.down(ctx)
		}
	}
}

// List is the names of the labs on this machine, those included that have died without their keeper.
func List() ([]string, error) {
	dirs, err := filepath.Glob(string(stateOf("*")))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, d := range dirs {
		names = append(names, state(d).name())
	}
	return names, nil
}

// until calls done every so often until it says true or fails, or the context ends.
func until(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	for {
		ok, err := done()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(every):
		}
	}
}
