//go:build linux

package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// lab is a node with pods: network namespaces of the test's own, which end with it.
//
//	pod 1 (the client) ── 10.n.1.1 node 10.n.2.1 ── pod 2
//	                                    10.n.3.1 ── pod 3
//
// n is made of the process's number: the search for a namespace sees the whole machine, other tests included.
type lab struct {
	t      *testing.T
	prefix string
	pods   [4]int // process numbers, from 1
}

func newLab(t *testing.T) *lab {
	t.Helper()
	runtime.LockOSThread() // never given back: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("making a network namespace (needs root): %v", err)
	}
	l := &lab{t: t, prefix: fmt.Sprintf("10.%d", 100+os.Getpid()%150)}
	l.run("ip", "link", "set", "lo", "up")
	for file, value := range map[string]string{"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv6/conf/default/accept_dad": "0"} {
		if err := os.WriteFile("/proc/sys/net/"+file, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	for i := 1; i <= 3; i++ {
		l.pods[i] = l.pod(i)
	}
	return l
}

// pod joins a namespace to the node by a veth pair.
func (l *lab) pod(i int) int {
	cmd := exec.Command("unshare", "-n", "sleep", "600")
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	pid := fmt.Sprint(cmd.Process.Pid)
	own, _ := os.Readlink("/proc/thread-self/ns/net")
	for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if ns, err := os.Readlink("/proc/" + pid + "/ns/net"); err == nil && ns != own {
			break
		}
		if time.Since(start) > 10*time.Second {
			l.t.Fatal("no namespace for a pod")
		}
	}
	veth := fmt.Sprintf("pod%d", i)
	l.in(cmd.Process.Pid, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
	l.run("ip", "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", pid)
	l.run("ip", "addr", "add", l.addr(i, 1)+"/24", "dev", veth)
	l.run("ip", "addr", "add", l.addr6(i, 1)+"/64", "dev", veth, "nodad")
	l.run("ip", "link", "set", veth, "up")
	for _, c := range []string{
		"ip link set lo up", "ip link set eth0 up", "ip addr add " + l.addr(i, 10) + "/24 dev eth0", "ip addr add " + l.addr6(i, 16) + "/64 dev eth0 nodad",
		"ip route add default via " + l.addr(i, 1), "ip -6 route add default via " + l.addr6(i, 1),
	} {
		l.in(cmd.Process.Pid, strings.Fields(c)...)
	}
	return cmd.Process.Pid
}

func (l *lab) addr(pod, host int) string { return fmt.Sprintf("%s.%d.%d", l.prefix, pod, host) }
func (l *lab) addr6(pod, host int) string {
	return fmt.Sprintf("fd00:%s:%x::%x", strings.TrimPrefix(l.prefix, "10."), pod, host)
}
func (l *lab) client() netip.Addr         { return netip.MustParseAddr(l.addr(1, 10)) }
func (l *lab) to(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// run runs a program in the node's namespace and returns what it prints.
func (l *lab) run(name string, args ...string) string {
	l.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// in runs a program in a pod's namespace.
func (l *lab) in(pid int, args ...string) string {
	l.t.Helper()
	return l.run("nsenter", append([]string{"-t", fmt.Sprint(pid), "-n"}, args...)...)
}

// nft loads rules into the node's namespace.
func (l *lab) nft(rules string) {
	l.t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(strings.NewReplacer("POD1", l.addr(1, 10), "POD2", l.addr(2, 10), "POD3", l.addr(3, 10)).Replace(rules))
	if out, err := cmd.CombinedOutput(); err != nil {
		l.t.Fatalf("nft: %v\n%s", err, out)
	}
}

// inPod calls f with a thread in a pod's namespace: sockets that f opens stay there.
func (l *lab) inPod(pod int, f func()) {
	l.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // not given back
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", l.pods[pod]), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		l.t.Fatal(err)
	}
}

// serve accepts TCP connections in a pod on a port, IPv4 and IPv6.
func (l *lab) serve(pod, port int) {
	l.inPod(pod, func() {
		s, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			l.t.Error(err)
			return
		}
		l.t.Cleanup(func() { s.Close() })
		go func() {
			for {
				c, err := s.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
	})
}

// echo answers UDP datagrams in a pod, and hands them on.
func (l *lab) echo(pod, port int) <-chan string {
	got := make(chan string, 1000)
	l.inPod(pod, func() {
		s, err := net.ListenPacket("udp4", fmt.Sprintf(":%d", port))
		if err != nil {
			l.t.Error(err)
			return
		}
		l.t.Cleanup(func() { s.Close() })
		go func() {
			b := make([]byte, 1500)
			for {
				n, from, err := s.ReadFrom(b)
				if err != nil {
					return
				}
				got <- string(b[:n])
				_, _ = s.WriteTo(b[:n], from)
			}
		}()
	})
	return got
}

// probe runs a probe, and checks that it left nothing.
func (l *lab) probe(r wire.ProbeRequest) *wire.ProbeAnswer {
	l.t.Helper()
	if !r.Source.IsValid() {
		r.Source = l.client()
	}
	if r.TimeoutMillis == 0 {
		r.TimeoutMillis = 1500
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Second)
	defer cancel()
	a, err := Run(ctx, r)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, n := range a.Notes {
		l.t.Errorf("note: %s", n)
	}
	l.clean()
	return a
}

// clean checks that no table of a probe stands in the node's or the client's namespace.
func (l *lab) clean() {
	l.t.Helper()
	for _, tables := range []string{l.run("nft", "list", "tables"), l.in(l.pods[1], "nft", "list", "tables")} {
		if strings.Contains(tables, TablePrefix) {
			l.t.Errorf("left behind: %s", tables)
		}
	}
}

// handle finds the handle of the rule with a text in a chain.
func (l *lab) handle(table, chain, text string) uint64 {
	l.t.Helper()
	for line := range strings.SplitSeq(l.run("nft", "-a", "list", "chain", "ip", table, chain), "\n") {
		if before, h, ok := strings.Cut(line, " # handle "); ok && strings.Contains(before, text) && !strings.HasPrefix(strings.TrimSpace(before), "chain") {
			n, err := strconv.ParseUint(strings.TrimSpace(h), 10, 64)
			if err != nil {
				l.t.Fatal(err)
			}
			return n
		}
	}
	l.t.Fatalf("no rule %q in chain %s", text, chain)
	return 0
}
