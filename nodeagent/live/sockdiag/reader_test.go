//go:build linux

package sockdiag

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

func TestListeningSocketsAreFoundByAddress(t *testing.T) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("making a network namespace (needs root): %v", err)
	}
	ioctlUp(t)
	r, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	listen := func(network, addr string) {
		l, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
	}
	listen("tcp4", "127.0.0.1:8081")
	listen("tcp4", "0.0.0.0:8082")
	listen("tcp", "[::]:8083")
	listen("tcp6", "[::]:8084") // tcp6 makes the socket V6ONLY
	u, err := net.ListenPacket("udp4", "0.0.0.0:53")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for _, c := range []struct {
		proto uint8
		dst   string
		want  bool
	}{
		{skb.TCP, "127.0.0.1:8081", true}, {skb.TCP, "10.0.0.1:8081", false}, {skb.TCP, "10.0.0.1:8082", true},
		{skb.TCP, "10.0.0.1:8083", true}, {skb.TCP, "[fd00::1]:8083", true}, {skb.TCP, "10.0.0.1:8084", false},
		{skb.TCP, "[fd00::1]:8084", true}, {skb.TCP, "[fd00::1]:8082", false}, {skb.TCP, "10.0.0.1:9999", false},
		{skb.UDP, "10.0.0.1:53", true}, {skb.TCP, "10.0.0.1:53", false},
	} {
		got, err := r.Listening(context.Background(), c.proto, netip.MustParseAddrPort(c.dst))
		if err != nil || (len(got) > 0) != c.want {
			t.Errorf("%s %s: %+v, %v, want listening %v", skb.ProtoName(c.proto), c.dst, got, err, c.want)
		}
	}
	got, err := r.OnPort(context.Background(), skb.TCP, skb.IPv4, 8081)
	if err != nil || len(got) != 1 || got[0].Local != netip.MustParseAddrPort("127.0.0.1:8081") {
		t.Errorf("on port 8081: %+v, %v", got, err)
	}
}

// ioctlUp brings the loopback interface up.
func ioctlUp(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		t.Fatal(err)
	}
}
