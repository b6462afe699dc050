//go:build linux

package cgprog

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/cgroup"
)

// allow is a program that lets everything pass.
func allow(t *testing.T, typ ebpf.ProgramType, at ebpf.AttachType) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "allow_all", Type: typ, AttachType: at, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestProgramsOverThisProcessAreNamed(t *testing.T) {
	group := cgroup.Own(t)
	if dir, err := own(); err != nil || dir != group {
		t.Fatalf("the process is in %s, and is said to be in %q: %v", group, dir, err)
	}
	for name, c := range map[string]struct {
		typ    ebpf.ProgramType
		at     ebpf.AttachType
		do     node.SocketDoes
		family skb.Family
		proto  uint8
	}{
		"connect":             {ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Connect, node.SocketConnects, skb.IPv4, skb.TCP},
		"connect, IPv6":       {ebpf.CGroupSockAddr, ebpf.AttachCGroupInet6Connect, node.SocketConnects, skb.IPv6, skb.TCP},
		"a datagram":          {ebpf.CGroupSockAddr, ebpf.AttachCGroupUDP4Sendmsg, node.SocketConnects, skb.IPv4, skb.UDP},
		"what is sent":        {ebpf.CGroupSKB, ebpf.AttachCGroupInetEgress, node.SocketSends, skb.IPv4, skb.TCP},
		"what is received":    {ebpf.CGroupSKB, ebpf.AttachCGroupInetIngress, node.SocketReceives, skb.IPv6, skb.UDP},
		"a datagram, by IPv6": {ebpf.CGroupSockAddr, ebpf.AttachCGroupUDP6Sendmsg, node.SocketConnects, skb.IPv6, skb.UDP},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := Programs(c.do, c.family, c.proto); err != nil || len(got) != 0 {
				t.Fatalf("before: %q, %v", got, err)
			}
			l, err := link.AttachCgroup(link.CgroupOptions{Path: group, Attach: c.at, Program: allow(t, c.typ, c.at)})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			got, err := Programs(c.do, c.family, c.proto)
			if err != nil || len(got) != 1 || !strings.Contains(got[0], "allow_all") || !strings.HasPrefix(got[0], "cgroup program ") {
				t.Errorf("%q, %v", got, err)
			}
			other := skb.IPv6
			if c.family == skb.IPv6 {
				other = skb.IPv4
			}
			if got, err := Programs(node.SocketConnects, other, c.proto); err != nil || len(got) != 0 {
				t.Errorf("of the other family: %q, %v", got, err)
			}
		})
	}
}

// A program of a group beside this process's is not over it.
func TestProgramsOfOtherGroupsAreLeft(t *testing.T) {
	beside := filepath.Join(filepath.Dir(cgroup.Own(t)), fmt.Sprintf("svctrace-test-beside-%d", os.Getpid()))
	if err := os.Mkdir(beside, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(beside)
	l, err := link.AttachCgroup(link.CgroupOptions{Path: beside, Attach: ebpf.AttachCGroupInet4Connect, Program: allow(t, ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Connect)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got, err := Programs(node.SocketConnects, skb.IPv4, skb.TCP); err != nil || len(got) != 0 {
		t.Errorf("%q, %v", got, err)
	}
}

func TestDirectoryOfAGroup(t *testing.T) {
	const host = "24 1 0:5 / /proc rw - proc proc rw\n30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
	for name, c := range map[string]struct{ groups, mounts, want string }{
		"on the host":         {"0::/system.slice/x.service\n", host, "/sys/fs/cgroup/system.slice/x.service"},
		"both versions":       {"5:cpu:/a\n0::/\n", "9 1 0:9 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/unified"},
		"of a container":      {"0::/\n", "50 40 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup ro\n", "/sys/fs/cgroup"},
		"a part is mounted":   {"0::/kubepods/pod1/c\n", "50 40 0:26 /kubepods/pod1 /sys/fs/cgroup ro - cgroup2 cgroup ro\n", "/sys/fs/cgroup/c"},
		"outside the part":    {"0::/../other\n", "50 40 0:26 /kubepods /sys/fs/cgroup ro - cgroup2 cgroup ro\n", "/sys/fs/cgroup"},
		"version 1 alone":     {"5:cpu:/a\n", host, ""},
		"not mounted":         {"0::/\n", "24 1 0:5 / /proc rw - proc proc rw\n", ""},
		"nothing understood":  {"garbage", "garbage\n- \n a - cgroup2", ""},
		"a name like another": {"0::/\n", "24 1 0:5 / /cgroup2 rw - proc cgroup2 rw\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := directory(c.groups, c.mounts); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
