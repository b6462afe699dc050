//go:build linux

package tunnels

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/netns"
)

// Protocols of outer packets.
const (
	protoIPIP    = 4
	protoUDP     = 17
	protoIPv6    = 41
	protoGRE     = 47
	protoOptions = 60 // of the destination, in which ip6tnl has its limit
)

// udp4 and udp6 are the bytes of the IP and UDP headers.
const (
	udp4 = 20 + 8
	udp6 = 40 + 8
)

// sameOuter sends a packet as large as the tunnel's MTU from the first pod to the second, captures its outer packet on the
// second node, and requires that it is as a walk says: protocol, addresses, ports and size. One that is too large by the walk's
// numbers must not arrive in one piece.
func sameOuter(t *testing.T, p netns.Pair, to netip.Addr, proto uint8, says *trace.Tunnel) {
	t.Helper()
	seen := p.Node[1].Capture(t, "eth0")
	headers := udp4
	if to.Is6() {
		headers = udp6
	}
	send(t, p.Pod[0], netip.AddrPortFrom(to, 9), says.MTU-headers)
	outer, before := seen.Until(func(s netns.Seen) bool { return s.Proto == proto && s.Length >= says.MTU && !s.Fragment })
	if fits := says.MTU+says.Overhead <= says.OuterMTU; !fits || outer == nil {
		if fits != (outer != nil) {
			t.Errorf("%d + %d bytes over %d: arrives in one piece: %v; seen: %v", says.MTU, says.Overhead, says.OuterMTU, outer != nil, before)
		}
		return
	}
	from, dst := outer.Ports()
	want := *says
	if want.Source.Port() == 0 { // the kernel chooses it, or there is none
		from = 0
	}
	if want.Destination.Port() == 0 {
		dst = 0
	}
	got := fmt.Sprintf("%s > %s, %d bytes more", netip.AddrPortFrom(outer.Source, from), netip.AddrPortFrom(outer.Destination, dst), outer.Length-says.MTU)
	if said := fmt.Sprintf("%s > %s, %d bytes more", says.Source, says.Destination, says.Overhead); got != said {
		t.Errorf("the outer packet: %s; the walk says %s", got, said)
	}
}

// send sends a UDP datagram from a place, with so many bytes.
func send(t *testing.T, p *netns.Place, to netip.AddrPort, bytes int) {
	t.Helper()
	p.Do(func() {
		c, err := net.Dial("udp", to.String())
		if err != nil {
			t.Errorf("sending to %s: %v", to, err)
			return
		}
		defer c.Close()
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err == nil { // a path MTU that was learnt before must not cut it
			err = raw.Control(func(fd uintptr) {
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
			})
		}
		if err == nil {
			_, err = c.Write(make([]byte, bytes))
		}
		if err != nil && err != syscall.ECONNREFUSED {
			t.Errorf("sending to %s: %v", to, err)
		}
	})
}

// tunnelOf is how the only outcome of a walk is wrapped.
func tunnelOf(t *testing.T, x *trace.Trace) *trace.Tunnel {
	t.Helper()
	if len(x.Outcomes) != 1 || x.Outcomes[0].Tunnel == nil {
		t.Fatalf("not wrapped: %+v\n%s", x.Outcomes, netns.Says(x))
	}
	return x.Outcomes[0].Tunnel
}
