//go:build linux

package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// captureTime bounds how long a capture waits for what it looks for.
const captureTime = 3 * time.Second

// Capture sees the IP packets that arrive at an interface of a place.
type Capture struct{ socket int }

// Seen is an IP packet on a link.
type Seen struct {
	Source, Destination netip.Addr
	// Proto is the IP protocol, Length that of the packet with its IP header, and Data what follows it.
	Proto  uint8
	Length int
	Data   []byte
	// Fragment is true for a part of an IPv4 packet.
	Fragment bool
}

// String is the packet's addresses, protocol and length.
func (s Seen) String() string {
	return fmt.Sprintf("%s > %s proto %d, %d bytes", s.Source, s.Destination, s.Proto, s.Length)
}

// Ports are the first two 16-bit numbers behind the IP header: the ports of TCP and UDP.
func (s Seen) Ports() (from, to uint16) {
	if len(s.Data) < 4 {
		return 0, 0
	}
	return uint16(s.Data[0])<<8 | uint16(s.Data[1]), uint16(s.Data[2])<<8 | uint16(s.Data[3])
}

// Capture begins to see what arrives at an interface, until the test ends.
func (p *Place) Capture(t *testing.T, dev string) *Capture {
	t.Helper()
	c := &Capture{socket: -1}
	var err error
	p.Do(func() {
		var index uint32
		if index, err = interfaceIndex(dev); err != nil {
			return
		}
		if c.socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		limit := unix.Timeval{Usec: 100_000}
		err = errors.Join(
			unix.SetsockoptTimeval(c.socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
			unix.Bind(c.socket, &unix.SockaddrLinklayer{Protocol: unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8, Ifindex: int(index)}))
	})
	if err != nil {
		t.Fatalf("capturing on %s of %s: %v", dev, p.name, err)
	}
	t.Cleanup(func() { unix.Close(c.socket) })
	return c
}

func interfaceIndex(name string) (uint32, error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(s)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	err = unix.IoctlIfreq(s, unix.SIOCGIFINDEX, r)
	return r.Uint32(), err
}

// Until returns the first packet that is looked for, and what was seen before it. It waits for three seconds.
func (c *Capture) Until(wanted func(Seen) bool) (found *Seen, before []Seen) {
	buf := make([]byte, 1<<16)
	for end := time.Now().Add(captureTime); time.Now().Before(end); {
		n, from, err := unix.Recvfrom(c.socket, buf, 0)
		if err != nil {
			continue // the time to look at the clock
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); !ok || ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		s, ok := seen(append([]byte(nil), buf[:n]...))
		if !ok {
			continue
		}
		if wanted(s) {
			return &s, before
		}
		before = append(before, s)
	}
	return nil, before
}

func seen(b []byte) (s Seen, ok bool) {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		s.Source, s.Destination = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		head := int(b[0]&15) * 4
		s.Proto, s.Length, s.Fragment = b[9], int(b[2])<<8|int(b[3]), b[6]&0x3f != 0 || b[7] != 0
		if len(b) < s.Length || s.Length < head {
			return s, false
		}
		s.Data = b[head:s.Length]
	case len(b) >= 40 && b[0]>>4 == 6:
		s.Source, s.Destination = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		s.Proto, s.Length = b[6], 40+(int(b[4])<<8|int(b[5]))
		if len(b) < s.Length {
			return s, false
		}
		s.Data = b[40:s.Length]
	default:
		return s, false
	}
	return s, true
}
