package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is one mount of a node's file system.
type mount struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

func (m mount) do() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
	}
	return nil
}

// machineSettings are kernel parameters that kubelet insists on and would set itself. They are the machine's, not the
// node's: the node sees files that say so instead.
var machineSettings = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// enterNodeRoot makes the node's root file system and moves into it: the machine's, read only beneath a tmpfs, with the
// node's own /proc, /sys, /run and cgroups. What containerd and kubelet write goes to the lab's directory, because an
// overlay cannot have an overlay as its upper layer.
func enterNodeRoot(s state, node string, hs []hierarchy) error {
	const root, layers = "/run/root", "/run/layers"
	if err := (mount{source: "tmpfs", target: layers, fstype: "tmpfs"}).do(); err != nil {
		return err
	}
	upper, work := layers+"/upper", layers+"/work"
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	disk := func(part string) string { return s.path(node, "disk", part) }
	for _, part := range []string{"containerd", "kubelet"} {
		if err := os.MkdirAll(disk(part), 0o755); err != nil {
			return err
		}
	}
	lowest := "lowerdir=/,upperdir=" + upper + ",workdir=" + work
	mounts := []mount{
		{source: "overlay", target: root, fstype: "overlay", data: lowest},
		{source: "proc", target: root + "/proc", fstype: "proc"},
		{source: "sysfs", target: root + "/sys", fstype: "sysfs"},
		{source: "/dev", target: root + "/dev", flags: unix.MS_BIND | unix.MS_REC},
		{source: "tmpfs", target: root + "/sys/fs/cgroup", fstype: "tmpfs"},
	}
	for _, h := range hs {
		mounts = append(mounts, mount{
			source: "cgroup", target: root + "/sys/fs/cgroup/" + filepath.Base(h.dir), fstype: "cgroup", data: h.options,
		})
	}
	mounts = append(mounts,
		mount{source: "tmpfs", target: root + "/run", fstype: "tmpfs"},
		mount{source: disk("containerd"), target: root + "/var/lib/containerd", flags: unix.MS_BIND},
		mount{source: disk("kubelet"), target: root + "/var/lib/kubelet", flags: unix.MS_BIND},
		mount{source: string(s), target: root + string(s), flags: unix.MS_BIND},
	)
	for _, m := range mounts {
		if err := m.do(); err != nil {
			return err
		}
	}
	if err := pretendSettings(root); err != nil {
		return err
	}
	return pivot(root)
}

// pretendSettings puts files over the kernel parameters that a node must not change.
func pretendSettings(root string) error {
	dir := root + "/run/settings"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, value := range machineSettings {
		file := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(file, root+"/proc/sys/"+name, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("cover %s: %w", name, err)
		}
	}
	return nil
}

// pivot makes root the root of the mount namespace and lets go of the old one. Kubelet needs mounts to be shared.
func pivot(root string) error {
	const old = "/run/old"
	if err := os.MkdirAll(root+old, 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll(root+"/run/lock", 0o755); err != nil { // iptables' lock is here
		return err
	}
	if err := unix.PivotRoot(root, root+old); err != nil {
		return fmt.Errorf("pivot to the node's root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Unmount(old, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the old root: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts: %w", err)
	}
	return nil
}
