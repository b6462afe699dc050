//go:build linux

// Package container finds the processes of a container by its control group, without asking the container runtime, and
// tells as which user and group they send packets.
package container

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// Process is the first process of a container: the one that runs longest.
type Process struct {
	// PID is in the process ID namespace of the reader.
	PID int
	// Network is the inode number of its network namespace, as live.Node names namespaces; "" when it cannot be told.
	Network string
	// Program is its executable, as its own file system names it; "" when it cannot be told.
	Program string
	Credentials
	// Others are the users of the container's other processes, where they differ; sorted.
	Others []uint32
}

// Credentials are what the kernel notes on a socket that a process opens: the user and groups for access to files, by their
// numbers in the process's own user namespace, in which the rules of its network namespace name them too.
type Credentials struct {
	UID, GID uint32
	// Groups are the supplementary groups; not nil.
	Groups []uint32
}

// minID is the shortest ID that is searched for: a short text could stand in any path.
const minID = 12

// maxProcFile bounds what is read of one file under /proc.
const maxProcFile = 64 << 10

// Find returns the first process of the container with an ID, as a pod's status has it ("containerd://0123…"). proc is
// where the process file system is mounted. It returns node.ErrNotFound when no process is in a control group with this
// ID in its path.
func Find(proc, id string) (Process, error) {
	if _, bare, ok := strings.Cut(id, "://"); ok {
		id = bare
	}
	if len(id) < minID {
		return Process{}, fmt.Errorf("container ID %q is too short to be one", id)
	}
	dirs, err := filepath.Glob(filepath.Join(proc, "[0-9]*"))
	if err != nil {
		return Process{}, err
	}
	var (
		found []started
		users []uint32
	)
	for _, dir := range dirs {
		p, ok, err := look(dir, id)
		if err != nil {
			return Process{}, &node.ReadError{What: "the processes of container " + id, Err: err}
		}
		if ok {
			found, users = append(found, p), append(users, p.UID)
		}
	}
	if len(found) == 0 {
		return Process{}, fmt.Errorf("a process of container %s on this node: %w", id, node.ErrNotFound)
	}
	first := slices.MinFunc(found, func(a, b started) int {
		switch {
		case a.at != b.at:
			return compare(a.at < b.at)
		default:
			return a.PID - b.PID
		}
	})
	slices.Sort(users)
	first.Others = slices.DeleteFunc(slices.Compact(users), func(u uint32) bool { return u == first.UID })
	return first.Process, nil
}

func compare(less bool) int {
	if less {
		return -1
	}
	return 1
}

// started is a process with the time it started at, in ticks since the machine did.
type started struct {
	Process
	at uint64
}

// look reads one process; it is false when it is not of the container, or has ended.
func look(dir, id string) (p started, ok bool, err error) {
	groups, err := read(filepath.Join(dir, "cgroup"))
	if gone(err) || err == nil && !bytes.Contains(groups, []byte(id)) {
		return p, false, nil
	}
	if err != nil {
		return p, false, err
	}
	if p.PID, err = strconv.Atoi(filepath.Base(dir)); err != nil {
		return p, false, nil // no process
	}
	files := map[string][]byte{}
	for _, name := range []string{"status", "stat", "uid_map", "gid_map"} {
		b, err := read(filepath.Join(dir, name))
		if gone(err) {
			return p, false, nil
		}
		if err != nil {
			return p, false, err
		}
		files[name] = b
	}
	if p.Credentials, err = credentials(files["status"], files["uid_map"], files["gid_map"]); err != nil {
		return p, false, fmt.Errorf("process %d: %w", p.PID, err)
	}
	if p.at, err = startTime(files["stat"]); err != nil {
		return p, false, fmt.Errorf("process %d: %w", p.PID, err)
	}
	p.Program, _ = os.Readlink(filepath.Join(dir, "exe"))
	if ns, err := os.Readlink(filepath.Join(dir, "ns", "net")); err == nil {
		p.Network = strings.TrimSuffix(strings.TrimPrefix(ns, "net:["), "]")
	}
	return p, true, nil
}

// gone reports whether an error says that the process has ended meanwhile.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

func read(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxProcFile))
}

// credentials reads Uid, Gid (real, effective, saved, for files) and Groups of /proc/PID/status, and puts the numbers into
// the process's own user namespace.
func credentials(status, uids, gids []byte) (Credentials, error) {
	c := Credentials{Groups: []uint32{}}
	have := 0
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		key, rest, _ := strings.Cut(lines.Text(), ":")
		fields := strings.Fields(rest)
		switch key {
		case "Uid", "Gid":
			if len(fields) != 4 {
				return c, fmt.Errorf("%q has not four numbers", lines.Text())
			}
			to, ids := &c.UID, uids
			if key == "Gid" {
				to, ids = &c.GID, gids
			}
			v, err := inside(fields[3], ids)
			if err != nil {
				return c, err
			}
			*to, have = v, have+1
		case "Groups":
			for _, f := range fields {
				v, err := inside(f, gids)
				if err != nil {
					return c, err
				}
				c.Groups = append(c.Groups, v)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return c, err
	}
	if have != 2 {
		return c, errors.New("its status names no user and group")
	}
	return c, nil
}

// inside turns a number of the reader's user namespace into that of the process's, by lines "inside outside count" of
// /proc/PID/uid_map (user_namespaces(7)).
func inside(number string, ids []byte) (uint32, error) {
	v, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is no user or group: %w", number, err)
	}
	lines := bufio.NewScanner(bytes.NewReader(ids))
	for lines.Scan() {
		var in, out, count uint64
		if _, err := fmt.Sscan(lines.Text(), &in, &out, &count); err != nil {
			return 0, fmt.Errorf("user namespace: %q: %w", lines.Text(), err)
		}
		if v >= out && v-out < count && in+(v-out) <= 1<<32-1 {
			return uint32(in + (v - out)), nil
		}
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	return 0, fmt.Errorf("%d has no number in its user namespace", v)
}

// startTime is field 22 of /proc/PID/stat; the second, the program's name in parentheses, may hold anything.
func startTime(stat []byte) (uint64, error) {
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return 0, errors.New("its statistics name no program")
	}
	fields := strings.Fields(string(stat[i+1:]))
	const at = 22 - 3
	if len(fields) <= at {
		return 0, errors.New("its statistics are short")
	}
	v, err := strconv.ParseUint(fields[at], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the time it started: %w", err)
	}
	return v, nil
}
