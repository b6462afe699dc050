//go:build linux

package walk_test

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// bound makes a socket at 127.0.0.1 with a port, of the thread's namespace.
func bound(t *testing.T, typ, port int) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// knock sends to a port of 127.0.0.1 without waiting for an answer.
func knock(t *testing.T, typ, port int, payload []byte) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	if err != nil && err != unix.EINPROGRESS {
		t.Fatal(err)
	}
	if typ == unix.SOCK_DGRAM {
		if _, err := unix.Write(fd, payload); err != nil {
			t.Fatal(err)
		}
	}
}

// atSocket walks to a port of 127.0.0.1 and returns the socket with the steps that tell about it.
func atSocket(t *testing.T, proto uint8, port uint16) (*trace.Listener, string) {
	t.Helper()
	s := start("127.0.0.1:40000", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String())
	s.Proto = proto
	x := walkHere(t, s)
	var says []string
	for _, h := range onTheWay(t, x) {
		if h.Hook == "socket" {
			says = append(says, h.Action+": "+h.Says)
		}
	}
	if x.Outcomes[0].Listener == nil {
		t.Fatalf("%+v", x.Outcomes[0])
	}
	return x.Outcomes[0].Listener, strings.Join(says, "\n")
}

func TestListenerThatNeverAcceptsIsSeenToBeFull(t *testing.T) {
	namespace(t, "ip link set lo up")
	if err := unix.Listen(bound(t, unix.SOCK_STREAM, 8080), 1); err != nil {
		t.Fatal(err)
	}
	if l, says := atSocket(t, skb.TCP, 8080); *l != (trace.Listener{Address: l.Address, Sockets: 1, QueueMax: 1}) || strings.Contains(says, "queue") {
		t.Errorf("before anybody connects: %+v\n%s", l, says)
	}
	for range 2 {
		knock(t, unix.SOCK_STREAM, 8080, nil)
	}
	if l, says := atSocket(t, skb.TCP, 8080); !l.Full || l.Queue != 2 || l.Drops != 0 || !strings.Contains(says, "the queue of 127.0.0.1:8080 is full: 2 connections wait to be accepted") {
		t.Errorf("two connections wait: %+v\n%s", l, says)
	}
	knock(t, unix.SOCK_STREAM, 8080, nil)
	if l, says := atSocket(t, skb.TCP, 8080); !l.Full || l.Drops == 0 || l.NamespaceOverflows == 0 || l.NamespaceDrops == 0 || !strings.Contains(says, "has dropped before") {
		t.Errorf("a third came: %+v\n%s", l, says)
	}
}

func TestSocketThatNeverReadsIsSeenToBeFull(t *testing.T) {
	namespace(t, "ip link set lo up")
	fd := bound(t, unix.SOCK_DGRAM, 53)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil {
		t.Fatal(err)
	}
	if l, says := atSocket(t, skb.UDP, 53); l.Full || l.Drops != 0 || strings.Contains(says, "queue") {
		t.Errorf("before anybody sends: %+v\n%s", l, says)
	}
	for range 40 {
		knock(t, unix.SOCK_DGRAM, 53, make([]byte, 500))
	}
	if l, says := atSocket(t, skb.UDP, 53); l.Drops == 0 || l.Queue == 0 || !strings.Contains(says, "has dropped before") {
		t.Errorf("%+v\n%s", l, says)
	}
}

func TestOfSeveralSocketsTheFullestIsDescribed(t *testing.T) {
	namespace(t, "ip link set lo up")
	for i := range 3 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			t.Fatal(err)
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: 8080, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			t.Fatal(err)
		}
		if err := unix.Listen(fd, i+1); err != nil {
			t.Fatal(err)
		}
	}
	for range 64 {
		knock(t, unix.SOCK_STREAM, 8080, nil)
	}
	if l, _ := atSocket(t, skb.TCP, 8080); l.Sockets != 3 || !l.Full || l.Drops == 0 {
		t.Errorf("%+v", l)
	}
}
