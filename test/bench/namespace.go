//go:build linux

package main

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// Where the packet comes from, and by which interface. The generated endpoints' addresses lie behind the same one.
const (
	clientAddress = "10.200.0.1"
	clientPort    = "40000"
	podInterface  = "pods"
)

// commands make a node of a network namespace: an address of its own, a route to all pods, a way out, and forwarding.
var commands = [][]string{
	{"ip", "link", "set", "lo", "up"},
	{"ip", "link", "add", podInterface, "type", "veth", "peer", "name", "outside"},
	{"ip", "address", "add", "192.168.0.1/24", "dev", podInterface},
	{"ip", "link", "set", podInterface, "up"},
	{"ip", "link", "set", "outside", "up"},
	{"ip", "route", "add", "10.128.0.0/9", "dev", podInterface},
	{"ip", "route", "add", "default", "via", "192.168.0.254"},
	{"sysctl", "-qw", "net.ipv4.ip_forward=1"},
}

// inNamespace runs f on a thread in a network namespace of its own. Programs that f starts are in it too. The namespace
// ends with f and with what it started.
func inNamespace(ctx context.Context, f func() error) error {
	result := make(chan error, 1)
	go func() {
		// The thread is not given back: it ends with this goroutine.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("making a network namespace: %w", err)
			return
		}
		for _, c := range commands {
			if out, err := exec.CommandContext(ctx, c[0], c[1:]...).CombinedOutput(); err != nil {
				result <- fmt.Errorf("%v: %w: %s", c, err, out)
				return
			}
		}
		result <- f()
	}()
	return <-result
}
