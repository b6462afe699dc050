//go:build linux

package live

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// ServedBy names the process that owns a socket, as "pid 812 /server"; "" when none is found.
func (n *Namespace) ServedBy(inode uint64) string {
	return ownerOf(inode, func(string) bool { return true })
}

// ownerOf looks for the process that has a socket open, among those whose /proc directory is wanted.
func ownerOf(inode uint64, wanted func(proc string) bool) string {
	want := fmt.Sprintf("socket:[%d]", inode)
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		if !wanted(p) {
			continue
		}
		fds, _ := filepath.Glob(p + "/fd/*")
		for _, f := range fds {
			if to, err := os.Readlink(f); err == nil && to == want {
				return nameOf(p)
			}
		}
	}
	return ""
}

func nameOf(proc string) string {
	exe, _ := os.Readlink(proc + "/exe")
	return "pid " + filepath.Base(proc) + " " + exe
}

// Processes names the processes in this namespace that run a program, by the name that they were started under: their own,
// or the first argument of a binary that holds several programs.
func (n *Namespace) Processes(_ context.Context, program string) ([]string, error) {
	here, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("naming the network namespace: %w", err)
	}
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range procs {
		line, err := os.ReadFile(p + "/cmdline")
		if err != nil {
			continue // it has ended
		}
		first, rest, _ := bytes.Cut(line, []byte{0})
		second, _, _ := bytes.Cut(rest, []byte{0})
		if filepath.Base(string(first)) != program && string(second) != program {
			continue
		}
		if there, err := os.Readlink(p + "/ns/net"); err == nil && there == here {
			out = append(out, nameOf(p))
		}
	}
	return out, nil
}
