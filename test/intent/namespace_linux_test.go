package intent

import (
	"fmt"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// commands make the node: its own address, a way to its pods, and a way out.
var commands = []string{
	"ip link set lo up",
	"sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0",
	"ip link add eth0 type veth peer name switch",
	"ip link add pods type veth peer name pod",
	"ip address add 10.250.0.11/24 dev eth0",
	"ip address add fd00:250::11/64 dev eth0 nodad",
	"ip address add 10.244.1.1/24 dev pods",
	"ip address add fd00:244:1::1/64 dev pods nodad",
	"ip link set switch up", "ip link set pod up", "ip link set eth0 up", "ip link set pods up",
	"ip route add default via 10.250.0.1",
	"ip -6 route add default via fd00:250::1",
}

// inNode runs f on a thread in a network namespace that is a node. Programs that f starts are in it too.
func inNode(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // not given back: the namespace ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("making a network namespace: %w", err)
			return
		}
		for _, c := range commands {
			words := strings.Fields(c)
			if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
				result <- fmt.Errorf("%s: %w: %s", c, err, out)
				return
			}
		}
		result <- f()
	}()
	return <-result
}
