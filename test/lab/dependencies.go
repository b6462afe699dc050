package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// needs are Debian's programs that a lab runs, and the packages they come in.
var needs = []struct{ program, debianPackage string }{
	{"containerd", "containerd"},
	{"ctr", "containerd"},
	{"containerd-shim-runc-v2", "containerd"},
	{"runc", "runc"},
	{pluginDir + "/bridge", "containernetworking-plugins"},
	{pluginDir + "/host-local", "containernetworking-plugins"},
	{pluginDir + "/portmap", "containernetworking-plugins"},
	{"iptables", "iptables"},
	{legacyIPTables, "iptables"},
	{"nft", "nftables"},
	{"ipset", "ipset"},
	{"conntrack", "conntrack"},
	{"ip", "iproute2"},
	{busybox, "busybox-static"},
	{"nsenter", "util-linux"},
	{"mount", "mount"},
}

// MissingError says that programs are missing that a lab runs.
type MissingError struct {
	// Programs are the names or paths of the programs, Packages the Debian packages they come in.
	Programs, Packages []string
}

// Error implements error.
func (e *MissingError) Error() string {
	return fmt.Sprintf("missing %s: install the Debian packages %s (`lab deps` does)",
		strings.Join(e.Programs, ", "), strings.Join(e.Packages, " "))
}

// Missing returns a *MissingError unless every program is there that a lab runs.
func Missing() error {
	var e MissingError
	for _, n := range needs {
		if findProgram(n.program) {
			continue
		}
		e.Programs = append(e.Programs, n.program)
		if !slices.Contains(e.Packages, n.debianPackage) {
			e.Packages = append(e.Packages, n.debianPackage)
		}
	}
	if len(e.Programs) == 0 {
		return nil
	}
	return &e
}

// findProgram looks where the lab's processes will, whatever the caller's own PATH.
func findProgram(name string) bool {
	if filepath.IsAbs(name) {
		_, err := os.Stat(name)
		return err == nil
	}
	for dir := range strings.SplitSeq(systemPath, ":") {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode()&0o111 != 0 {
			return true
		}
	}
	return false
}

// Install installs what Missing names with apt-get, whose output goes to out. It does nothing when nothing is missing.
func Install(ctx context.Context, out io.Writer) error {
	missing, ok := Missing().(*MissingError)
	if !ok {
		return nil
	}
	for _, args := range [][]string{
		{"update"},
		append([]string{"install", "--yes", "--no-install-recommends"}, missing.Packages...),
	} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("apt-get %s: %w", args[0], err)
		}
	}
	return Missing()
}
