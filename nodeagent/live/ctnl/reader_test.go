//go:build linux

package ctnl

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/fuzz"
)

func open(t *testing.T, commands ...string) *Reader {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("making a network namespace (needs root): %v", err)
	}
	for _, c := range append([]string{"ip link set lo up", "ip addr add 10.96.0.25/32 dev lo"}, commands...) {
		f := strings.Fields(c)
		if out, err := exec.Command(f[0], f[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", c, err, out)
		}
	}
	r, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// send opens a UDP flow from a socket on this thread.
func send(t *testing.T, from, to string) {
	t.Helper()
	local, remote := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from)), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))
	c, err := net.DialUDP("udp", local, remote)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
}

func TestFlowsAreFoundByTupleAndByDestination(t *testing.T) {
	r := open(t, "iptables-legacy -t nat -A OUTPUT -d 10.96.0.25/32 -p udp --dport 53 -j DNAT --to-destination 127.0.0.1:5353")
	ctx := context.Background()
	for _, from := range []string{"127.0.0.1:4001", "127.0.0.1:4002"} {
		send(t, from, "10.96.0.25:53")
	}
	send(t, "127.0.0.1:4003", "10.96.0.25:54")
	ap := netip.MustParseAddrPort

	c, reply, err := r.Lookup(ctx, skb.Tuple{Proto: skb.UDP, Src: ap("127.0.0.1:4001"), Dst: ap("10.96.0.25:53")}, 0)
	if err != nil || reply || c.Reply.Src != ap("127.0.0.1:5353") || c.Status&skb.StatusDstNAT == 0 {
		t.Fatalf("by the original tuple: %+v, reply %v, %v", c, reply, err)
	}
	c, reply, err = r.Lookup(ctx, skb.Tuple{Proto: skb.UDP, Src: ap("127.0.0.1:5353"), Dst: ap("127.0.0.1:4001")}, 0)
	if err != nil || !reply || c.Orig.Dst != ap("10.96.0.25:53") {
		t.Errorf("by the reply tuple: %+v, reply %v, %v", c, reply, err)
	}
	if _, _, err := r.Lookup(ctx, skb.Tuple{Proto: skb.UDP, Src: ap("127.0.0.1:9"), Dst: ap("10.96.0.25:53")}, 0); !errors.Is(err, node.ErrNotFound) {
		t.Errorf("a flow that is not there: %v, want ErrNotFound", err)
	}

	found := func(proto uint8, dst string) (sources []string) {
		err := r.To(ctx, proto, ap(dst), func() { sources = nil }, func(c *skb.Conn) error {
			sources = append(sources, c.Orig.Src.String())
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return sources
	}
	if got := found(skb.UDP, "10.96.0.25:53"); len(got) != 2 {
		t.Errorf("to port 53: %v, want two flows", got)
	}
	if got := found(skb.UDP, "10.96.0.25:0"); len(got) != 3 {
		t.Errorf("to any port: %v, want three flows", got)
	}
	if got := found(skb.TCP, "10.96.0.25:53"); len(got) != 0 {
		t.Errorf("by TCP: %v, want none", got)
	}
	any := 0
	err = r.ToAny(ctx, skb.UDP, []netip.Addr{netip.MustParseAddr("10.96.0.25"), netip.MustParseAddr("10.0.0.1")}, 53, func() { any = 0 }, func(c *skb.Conn) error {
		any++
		return nil
	})
	if err != nil || any != 2 {
		t.Errorf("to one of two addresses: %d, %v, want two flows", any, err)
	}
	if err := r.ToAny(ctx, skb.UDP, nil, 53, nil, nil); err != nil {
		t.Errorf("to none: %v", err)
	}
	for n, want := range map[int]int{1: 1, 2: 2, 10: 3} {
		if some, err := r.Some(ctx, n); err != nil || len(some) != want {
			t.Errorf("%d of the first %d entries, %v", len(some), n, err)
		}
	}
	count, limit, err := r.Fill(ctx)
	if err != nil || count < 3 || limit <= 0 {
		t.Errorf("fill %d of %d, %v", count, limit, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 8, 0, 3, 0, 0, 0, 1, 0x8a})
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, func() {
			c, err := Decode(b)
			if err == nil && (!c.Orig.Src.Addr().IsValid() || !c.Reply.Src.Addr().IsValid()) {
				t.Error("an entry without tuples was taken")
			}
		})
	})
}
