package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// soOriginalDst is SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST (linux/netfilter_ipv4.h and
// linux/netfilter_ipv6/ip6_tables.h): the destination before NAT, from the connection's conntrack entry.
const soOriginalDst = 80

// originalDestination asks conntrack where a redirected connection was meant to go.
func originalDestination(conn *net.TCPConn) (netip.AddrPort, error) {
	local, ok := conn.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%v is not a TCP address", conn.LocalAddr())
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	var to netip.AddrPort
	var failed error
	ask := func(fd uintptr) {
		if local.IP.To4() != nil {
			// of the right size for a sockaddr_in (16 bytes), which is what the option gives
			var m *unix.IPv6Mreq
			if m, failed = unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, soOriginalDst); failed == nil {
				b := m.Multiaddr
				to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4]))
			}
			return
		}
		// begins with a sockaddr_in6, which is what the option gives
		var m *unix.IPv6MTUInfo
		if m, failed = unix.GetsockoptIPv6MTUInfo(int(fd), unix.SOL_IPV6, soOriginalDst); failed == nil {
			var port [2]byte
			binary.NativeEndian.PutUint16(port[:], m.Addr.Port)
			to = netip.AddrPortFrom(netip.AddrFrom16(m.Addr.Addr), binary.BigEndian.Uint16(port[:]))
		}
	}
	if err := raw.Control(ask); err != nil {
		return to, err
	}
	if failed != nil {
		return to, fmt.Errorf("ask for the original destination: %w", failed)
	}
	return to, nil
}
