//go:build linux

// Package cgprog finds the BPF programs of control groups that see what sockets send and receive: those that are attached to
// the group of this process or to one above it.
//
// What a load balancer for sockets attaches (Cilium's connect4), it attaches to the root of the hierarchy, so that it is over all
// processes. Programs of a group of other processes alone are not found.
package cgprog

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/procfile"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// effective is BPF_F_QUERY_EFFECTIVE: with what the groups above have.
const effective = 1

// attach are the places of programs that a socket meets, by what it does.
func attach(do node.SocketDoes, f skb.Family, proto uint8) []ebpf.AttachType {
	six := f == skb.IPv6
	pick := func(four, other ebpf.AttachType) ebpf.AttachType {
		if six {
			return other
		}
		return four
	}
	switch do {
	case node.SocketConnects:
		out := []ebpf.AttachType{pick(ebpf.AttachCGroupInet4Connect, ebpf.AttachCGroupInet6Connect)}
		if proto == skb.UDP {
			out = append(out, pick(ebpf.AttachCGroupUDP4Sendmsg, ebpf.AttachCGroupUDP6Sendmsg))
		}
		return out
	case node.SocketSends:
		return []ebpf.AttachType{ebpf.AttachCGroupInetEgress}
	}
	return []ebpf.AttachType{ebpf.AttachCGroupInetIngress}
}

// Programs names the programs that a socket meets which does something. None where there is no hierarchy of version 2 to attach
// programs to.
func Programs(do node.SocketDoes, f skb.Family, proto uint8) ([]string, error) {
	fail := func(err error) error {
		e := &node.ReadError{What: "the BPF programs of this process's control group", Err: err}
		if errors.Is(err, unix.EPERM) {
			e.Needs, e.Err = "CAP_NET_ADMIN", fmt.Errorf("%w: %w", node.ErrPermission, err)
		}
		return e
	}
	dir, err := own()
	if err != nil || dir == "" {
		return nil, err
	}
	group, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fail(err)
	}
	defer unix.Close(group)
	var out []string
	for _, at := range attach(do, f, proto) {
		found, err := link.QueryPrograms(link.QueryOptions{Target: group, Attach: at, QueryFlags: effective})
		switch {
		case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
			continue // a kernel without cgroup BPF
		case err != nil:
			return nil, fail(err)
		}
		for _, p := range found.Programs {
			out = append(out, fmt.Sprintf("cgroup program %d%s (%s)", p.ID, name(p.ID), at))
		}
	}
	return out, nil
}

// name is the program's own name, where it may be read.
func name(id ebpf.ProgramID) string {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return ""
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil || info.Name == "" {
		return ""
	}
	return " " + info.Name
}

// own is the directory of this process's group in the hierarchy of version 2, "" when that is not mounted here.
func own() (string, error) {
	groups, err := procfile.Read("/proc/self/cgroup")
	if err != nil {
		return "", &node.ReadError{What: "this process's control group", Err: err}
	}
	mounts, err := procfile.Read("/proc/self/mountinfo")
	if err != nil {
		return "", &node.ReadError{What: "this process's mounts", Err: err}
	}
	return directory(string(groups), string(mounts)), nil
}

// directory finds the group in what /proc/PID/cgroup and /proc/PID/mountinfo say (cgroups(7), proc_pid_mountinfo(5)).
func directory(groups, mounts string) string {
	path, ok := "", false
	for line := range strings.Lines(groups) {
		if p, is := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); is {
			path, ok = p, true
		}
	}
	if !ok {
		return ""
	}
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		sep := len(f)
		for i, x := range f {
			if x == "-" {
				sep = i
				break
			}
		}
		if sep+1 >= len(f) || sep < 6 || f[sep+1] != "cgroup2" {
			continue
		}
		root, point := f[3], f[4]
		// The mount shows the hierarchy from root on. A group outside it is shown by its nearest: what is over both is found.
		rel, err := filepath.Rel(root, path)
		if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			rel = "."
		}
		return filepath.Join(point, rel)
	}
	return ""
}
