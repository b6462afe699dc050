package lab

import (
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Names of the network namespaces beside the nodes'.
const (
	controlPlaneName = "cp"
	outsideName      = "outside"
)

// netnsDir is where init has the lab's network namespaces, as `ip netns` does.
const netnsDir = "/run/netns"

func namedNamespace(name string) string { return netnsDir + "/" + name }

// inNamespace runs f in the network namespace that the file at path stands for. f must not leave its goroutine for
// anything that depends on the namespace: sockets and processes that f makes itself are in it, and /proc/sys/net is its.
func inNamespace(path string, f func() error) error {
	target, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer target.Close()
	runtime.LockOSThread()
	origin, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer origin.Close()
	if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	err = f()
	if back := unix.Setns(int(origin.Fd()), unix.CLONE_NEWNET); back != nil {
		// The thread stays locked: it ends with its goroutine and no other goroutine runs in the wrong namespace.
		return fmt.Errorf("return from network namespace %s: %w", path, back)
	}
	runtime.UnlockOSThread()
	return err
}

// addNamespace makes a named network namespace.
func addNamespace(name string) (netns.NsHandle, error) {
	runtime.LockOSThread()
	origin, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return netns.None(), fmt.Errorf("open own network namespace: %w", err)
	}
	defer origin.Close()
	made, err := netns.NewNamed(name)
	if back := netns.Set(origin); back != nil {
		return netns.None(), fmt.Errorf("return from network namespace %s: %w", name, back)
	}
	runtime.UnlockOSThread()
	if err != nil {
		return netns.None(), fmt.Errorf("make network namespace %s: %w", name, err)
	}
	return made, nil
}

// setSysctls writes kernel parameters of the current network namespace, names with slashes.
func setSysctls(values ...[2]string) error {
	for _, v := range values {
		if err := os.WriteFile("/proc/sys/"+v[0], []byte(v[1]), 0o644); err != nil {
			return fmt.Errorf("set %s: %w", v[0], err)
		}
	}
	return nil
}
