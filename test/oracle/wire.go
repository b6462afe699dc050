//go:build linux

package oracle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// wire is the far end of all of the node's interfaces: one packet socket that sees and sends everything there.
type wire struct {
	fd  int
	buf []byte
	// index and port translate between ports and the far ends' interface indexes of the current generation.
	index []int
	port  map[int]int
}

// openWire opens the socket in the calling thread's namespace.
func openWire() (*wire, error) {
	all := int(htons(unix.ETH_P_ALL))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all)
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("packet socket buffer: %w", err)
	}
	return &wire{fd: fd, buf: make([]byte, 1<<16)}, nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// attach learns the interface indexes of a generation of far ends. It runs in the far namespace.
func (w *wire) attach(generation int) error {
	w.index, w.port = make([]int, len(ports)), map[int]int{}
	for i := range ports {
		ifi, err := net.InterfaceByName(farName(generation, i))
		if err != nil {
			return err
		}
		w.index[i], w.port[ifi.Index] = ifi.Index, i
	}
	return nil
}

// send puts a packet on the wire towards the node's interface.
// to is the hardware address that the frame is for.
func (w *wire) send(port int, packet []byte, v4 bool, to [6]byte) error {
	dst, src := to, mac(port, true)
	frame := append(dst[:], src[:]...)
	etherType := uint16(unix.ETH_P_IPV6)
	if v4 {
		etherType = unix.ETH_P_IP
	}
	frame = binary.BigEndian.AppendUint16(frame, etherType)
	frame = append(frame, packet...)
	at := &unix.SockaddrLinklayer{Protocol: htons(etherType), Ifindex: w.index[port], Halen: 6}
	copy(at.Addr[:], dst[:])
	if err := unix.Sendto(w.fd, frame, 0, at); err != nil {
		return fmt.Errorf("sending on the far end of %s: %w", ports[port], err)
	}
	return nil
}

// receive reports every packet that has come out of the node since the last call.
func (w *wire) receive(see func(port int, s sighting)) error {
	for {
		n, from, err := unix.Recvfrom(w.fd, w.buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN):
			continue
		case err != nil:
			return fmt.Errorf("reading the packet socket: %w", err)
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		if !ok || ll.Pkttype == unix.PACKET_OUTGOING || n < 14 {
			continue
		}
		port, ok := w.port[ll.Ifindex]
		if !ok {
			continue
		}
		if s, ok := sightingOf(w.buf[14:n]); ok {
			see(port, s)
		}
	}
}

func (w *wire) close() error { return unix.Close(w.fd) }
