package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// datagrams is a UDP socket that knows which of its addresses a datagram was sent to and answers from that address:
// a host with several would else answer from the one that the route prefers.
type datagrams interface {
	read(buf []byte) (n int, from, to netip.AddrPort, err error)
	write(buf []byte, from, to netip.AddrPort) error
}

// listenUDP opens the sockets for one address: two when it is empty or a name with both families.
func listenUDP(address string) ([]datagrams, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", address, err)
	}
	var conns []datagrams
	literal, notLiteral := netip.ParseAddr(host)
	if host == "" || notLiteral != nil || literal.Is4() {
		c, err := net.ListenPacket("udp4", address)
		if err != nil {
			return nil, err
		}
		p := ipv4.NewPacketConn(c)
		if err := p.SetControlMessage(ipv4.FlagDst, true); err != nil {
			return nil, fmt.Errorf("ask for destination addresses: %w", err)
		}
		conns = append(conns, &datagrams4{p, port(c)})
	}
	if host == "" || (notLiteral == nil && literal.Is6()) {
		c, err := net.ListenPacket("udp6", address)
		if err != nil {
			if host == "" { // no IPv6 here
				return conns, nil
			}
			return nil, err
		}
		p := ipv6.NewPacketConn(c)
		if err := p.SetControlMessage(ipv6.FlagDst, true); err != nil {
			return nil, fmt.Errorf("ask for destination addresses: %w", err)
		}
		conns = append(conns, &datagrams6{p, port(c)})
	}
	return conns, nil
}

func port(c net.PacketConn) uint16 {
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

// serveUDP answers each datagram with one datagram until the socket fails.
func (a answer) serveUDP(c datagrams) error {
	buf := make([]byte, maxSize)
	for {
		n, from, to, err := c.read(buf)
		if err != nil {
			return fmt.Errorf("read datagram: %w", err)
		}
		a.Client, a.Server = from.String(), to.String()
		out, err := json.Marshal(a)
		if err != nil {
			return fmt.Errorf("encode answer: %w", err)
		}
		if err := c.write(padded(out, n), to, from); err != nil {
			fmt.Fprintln(os.Stderr, "answer", from, "failed:", err)
		}
	}
}

type datagrams4 struct {
	*ipv4.PacketConn
	port uint16
}

func (d *datagrams4) read(buf []byte) (n int, from, to netip.AddrPort, err error) {
	for {
		n, cm, src, err := d.ReadFrom(buf)
		if err != nil {
			return 0, from, to, err
		}
		udp, ok := src.(*net.UDPAddr)
		if !ok || cm == nil {
			return 0, from, to, syscall.EPROTO
		}
		dst, ok := netip.AddrFromSlice(cm.Dst)
		if !ok {
			continue
		}
		return n, unmapped(udp.AddrPort()), netip.AddrPortFrom(dst.Unmap(), d.port), nil
	}
}

func (d *datagrams4) write(buf []byte, from, to netip.AddrPort) error {
	_, err := d.WriteTo(buf, &ipv4.ControlMessage{Src: from.Addr().AsSlice()}, net.UDPAddrFromAddrPort(to))
	return err
}

type datagrams6 struct {
	*ipv6.PacketConn
	port uint16
}

func (d *datagrams6) read(buf []byte) (n int, from, to netip.AddrPort, err error) {
	for {
		n, cm, src, err := d.ReadFrom(buf)
		if err != nil {
			return 0, from, to, err
		}
		udp, ok := src.(*net.UDPAddr)
		if !ok || cm == nil {
			return 0, from, to, syscall.EPROTO
		}
		dst, ok := netip.AddrFromSlice(cm.Dst)
		if !ok {
			continue
		}
		return n, udp.AddrPort(), netip.AddrPortFrom(dst, d.port), nil
	}
}

func (d *datagrams6) write(buf []byte, from, to netip.AddrPort) error {
	_, err := d.WriteTo(buf, &ipv6.ControlMessage{Src: from.Addr().AsSlice()}, net.UDPAddrFromAddrPort(to))
	return err
}

func unmapped(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
