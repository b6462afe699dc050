//go:build linux

package oracle

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stack is the node's own end: raw sockets that see what the node's stack takes, and that send what its processes send.
type stack struct {
	in4, in6 []rawSocket
	out4     int
	out6     int
	buf, oob []byte
	// sockets are those of the node's processes.
	sockets []int
}

type rawSocket struct {
	fd    int
	proto uint8
}

// openStack opens the sockets in the calling thread's namespace.
func openStack() (s *stack, err error) {
	s = &stack{out4: -1, out6: -1, buf: make([]byte, 1<<16), oob: make([]byte, 512)}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	open := func(family, proto int) (int, error) {
		fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
		if err != nil {
			return -1, fmt.Errorf("opening a raw socket: %w", err)
		}
		return fd, nil
	}
	for _, proto := range []int{protoTCP, protoUDP, protoSCTP, protoICMP, protoESP, protoAH, protoIPComp, protoDCCP} {
		fd, err := open(unix.AF_INET, proto)
		if err != nil {
			return s, err
		}
		s.in4 = append(s.in4, rawSocket{fd, uint8(proto)})
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20); err != nil {
			return s, err
		}
	}
	for _, proto := range []int{protoTCP, protoUDP, protoSCTP, protoICMPv6, protoESP, protoAH, protoIPComp, protoDCCP, protoMH} {
		fd, err := open(unix.AF_INET6, proto)
		if err != nil {
			return s, err
		}
		s.in6 = append(s.in6, rawSocket{fd, uint8(proto)})
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20); err != nil {
			return s, err
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1); err != nil {
			return s, err
		}
	}
	if s.out4, err = open(unix.AF_INET, unix.IPPROTO_RAW); err != nil {
		return s, err
	}
	if s.out6, err = open(unix.AF_INET6, unix.IPPROTO_RAW); err != nil {
		return s, err
	}
	return s, unix.SetsockoptInt(s.out6, unix.IPPROTO_IPV6, unix.IPV6_HDRINCL, 1)
}

// send hands a packet to the OUTPUT path, as a process does whose socket is bound to the source: the routing decision
// knows it. The error is the kernel's answer to the sending process.
func (s *stack) send(packet []byte, src, dst netip.Addr) error {
	if dst.Is4() {
		bound := unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: src.As4()})
		return unix.Sendmsg(s.out4, packet, bound, &unix.SockaddrInet4{Addr: dst.As4()}, 0)
	}
	bound := unix.PktInfo6(&unix.Inet6Pktinfo{Addr: src.As16()})
	return unix.Sendmsg(s.out6, packet, bound, &unix.SockaddrInet6{Addr: dst.As16()}, 0)
}

// receive reports every packet that the node's stack has taken since the last call.
func (s *stack) receive(see func(sighting)) error {
	for _, r := range s.in4 {
		err := s.drain(r, func(n int, _ []byte, _ unix.Sockaddr) {
			if s, ok := sightingOf(s.buf[:n]); ok {
				see(s)
			}
		})
		if err != nil {
			return err
		}
	}
	for _, r := range s.in6 {
		err := s.drain(r, func(n int, oob []byte, from unix.Sockaddr) {
			src, ok := from.(*unix.SockaddrInet6)
			dst, found := packetInfo(oob)
			if !ok || !found {
				return
			}
			if s, ok := transportSighting(r.proto, netip.AddrFrom16(src.Addr), dst, s.buf[:n]); ok {
				see(s)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *stack) drain(r rawSocket, each func(n int, oob []byte, from unix.Sockaddr)) error {
	for {
		n, oobn, _, from, err := unix.Recvmsg(r.fd, s.buf, s.oob, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("reading a raw socket of protocol %d: %w", r.proto, err)
		}
		each(n, s.oob[:oobn], from)
	}
}

// packetInfo finds the destination address of an IPv6 packet in its control messages.
func packetInfo(oob []byte) (netip.Addr, bool) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}, false
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= int(unsafe.Sizeof(unix.Inet6Pktinfo{})) {
			return netip.AddrFrom16([16]byte(m.Data[:16])), true
		}
	}
	return netip.Addr{}, false
}

func (s *stack) close() {
	for _, r := range append(s.in4, s.in6...) {
		unix.Close(r.fd)
	}
	for _, fd := range append([]int{s.out4, s.out6}, s.sockets...) {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
