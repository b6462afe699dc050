package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// statePrefix begins the name of each lab's directory and of its cgroups.
const statePrefix = "svctrace-lab-"

// state is the directory that holds all of a lab's files; its name is the lab's name in the file system.
//
//	config.json   what the lab is like     lab.json    its processes
//	bin/          labkube, kubectl, client pki/        certificates and kubeconfigs
//	cp/           the control plane's logs and data
//	nodeN/        the node's logs, control socket and disk
type state string

func stateOf(name string) state { return state(filepath.Join(os.TempDir(), statePrefix+name)) }

func (s state) path(elem ...string) string {
	return filepath.Join(append([]string{string(s)}, elem...)...)
}

func (s state) cgroup() string               { return filepath.Base(string(s)) }
func (s state) name() string                 { return strings.TrimPrefix(s.cgroup(), statePrefix) }
func (s state) bin(program string) string    { return s.path("bin", program) }
func (s state) pki(file string) string       { return s.path("pki", file) }
func (s state) kubeconfig(who string) string { return s.pki(who + ".kubeconfig") }
func (s state) control(group string) string  { return s.path(group, "control") }

// nodeName is the name of node i, 1 being the first.
func nodeName(i int) string { return "node" + strconv.Itoa(i) }

// config is what the lab's own processes need to know.
type config struct {
	Options Options
	// Archives are the image archives to load into each node.
	Archives []string
}

// record says which processes a lab has. A process is known by its number and its start time, for numbers come again.
type record struct {
	Keeper, Init process
}

// process is one process on this machine.
type process struct {
	PID int
	// Start is the time it started in clock ticks after boot, field 22 of /proc/PID/stat.
	Start uint64
}

// processOf looks a running process up. A zombie does not count as running.
func processOf(pid int) (process, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	// the second field, the command in brackets, may hold anything
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 20 {
		return process{}, fmt.Errorf("/proc/%d/stat: %d fields after the command", pid, len(fields))
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return process{}, fs.ErrNotExist
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return process{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	return process{PID: pid, Start: start}, nil
}

// alive says whether the very process still runs.
func (p process) alive() bool {
	now, err := processOf(p.PID)
	return err == nil && p.PID != 0 && now == p
}

// signal sends a signal unless the process has ended.
func (p process) signal(s syscall.Signal) error {
	if !p.alive() {
		return nil
	}
	if err := syscall.Kill(p.PID, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %v to process %d: %w", s, p.PID, err)
	}
	return nil
}

// writeJSON writes a file in one step, so that a reader sees all or nothing of it.
func writeJSON(file string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", file, err)
	}
	if err := os.WriteFile(file+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

func readJSON(file string, v any) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("decode %s: %w", file, err)
	}
	return nil
}

func (s state) config() (config, error) {
	var c config
	err := readJSON(s.path("config.json"), &c)
	return c, err
}

func (s state) record() (record, error) {
	var r record
	err := readJSON(s.path("lab.json"), &r)
	return r, err
}
