//go:build linux

package live

import (
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nat"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// TestMasqueradeTakesTheAddressThatTheKernelWould holds the choice of an IPv6 source address against the kernel's own, which
// a route lookup without a source tells.
func TestMasqueradeTakesTheAddressThatTheKernelWould(t *testing.T) {
	setup := []string{
		"ip link set lo up", "ip link add eth0 type veth peer name peer0", "ip link set eth0 up", "ip link set peer0 up",
		"ip link add eth1 type veth peer name peer1", "ip link set eth1 up", "ip link set peer1 up",
		"ip -6 addr add fd00:1::1/64 dev eth0 nodad", "ip -6 addr add 2001:db8:1::1/64 dev eth0 nodad",
		"ip -6 addr add 2001:db8:2::1/64 dev eth0 nodad preferred_lft 0", "ip -6 addr add 2001:db8:3::1/64 dev eth1 nodad",
		"ip -6 route add 2001:db8::/32 dev eth0", "ip -6 route add fd00::/16 dev eth0", "ip -6 route add 2002::/16 dev eth0", "ip -6 route add 2001:db9::/32 dev eth1",
	}
	for name, more := range map[string][]string{
		"as it is":              nil,
		"own addresses only":    {"sysctl -qw net.ipv6.conf.eth1.use_oif_addrs_only=1", "ip -6 addr del 2001:db8:3::1/64 dev eth1", "ip -6 addr add fd00:3::1/64 dev eth1 nodad preferred_lft 0"},
		"without its own":       {"ip -6 addr del 2001:db8:3::1/64 dev eth1"},
		"its own is deprecated": {"ip -6 addr del 2001:db8:3::1/64 dev eth1", "ip -6 addr add fd00:3::1/64 dev eth1 nodad preferred_lft 0"},
		"with 6to4 on another":  {"ip -6 addr add 2002:1::1/48 dev eth1 nodad"},
	} {
		t.Run(name, func(t *testing.T) {
			runtime.LockOSThread() // not given back
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				t.Fatalf("making a network namespace (needs root): %v", err)
			}
			for _, c := range append(setup, more...) {
				f := strings.Fields(c)
				if out, err := exec.Command(f[0], f[1:]...).CombinedOutput(); err != nil {
					t.Fatalf("%s: %v: %s", c, err, out)
				}
			}
			time.Sleep(50 * time.Millisecond) // link-local addresses come to be
			ns, err := Open()
			if err != nil {
				t.Fatal(err)
			}
			defer ns.Close()
			for _, to := range []string{"2001:db8:1::9", "2001:db8:2::9", "2001:db8:3::9", "fd00:1::9", "fd00:9::9", "2002:5::1", "2001:db9::1"} {
				dst := netip.MustParseAddr(to)
				r, err := ns.Route(t.Context(), node.RouteQuery{Dst: dst})
				if err != nil {
					t.Fatal(err)
				}
				got, err := nat.SelectIPv6(t.Context(), ns, r.Out, dst)
				if err != nil || got != r.PrefSrc {
					t.Errorf("to %s by %s: %s, %v, and the kernel takes %s", dst, r.Out, got, err, r.PrefSrc)
				}
			}
		})
	}
}
