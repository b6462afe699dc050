//go:build linux

package probe

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Origins of struct sock_extended_err (include/uapi/linux/errqueue.h).
const (
	originLocal = 1
	originICMP  = 2
	originICMP6 = 3
)

// refusal reads a socket's error queue and says who refused; empty when no ICMP message and no local error is queued.
func (a *attempt) refusal() string {
	buf, oob := make([]byte, 256), make([]byte, 512)
	said := ""
	for range 8 {
		_, n, _, _, err := unix.Recvmsg(a.fd, buf, oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil {
			return said
		}
		list, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil {
			return said
		}
		for _, m := range list {
			if m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_RECVERR || m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_RECVERR {
				if s := extendedError(m.Data); s != "" {
					said = s
				}
			}
		}
	}
	return said
}

// extendedError reads struct sock_extended_err with the offender's address behind it.
func extendedError(b []byte) string {
	const size = 16
	if len(b) < size {
		return ""
	}
	origin, typ, code := b[4], b[5], b[6]
	what := ""
	switch origin {
	case originICMP:
		what = "icmp " + icmpName(typ, code)
	case originICMP6:
		what = "icmpv6 " + icmp6Name(typ, code)
	case originLocal:
		return "this host itself"
	default:
		return ""
	}
	if from := offender(b[size:]); from.IsValid() {
		what += " from " + from.String()
	}
	return what
}

// offender reads a struct sockaddr_in or sockaddr_in6.
func offender(b []byte) netip.Addr {
	if len(b) < 2 {
		return netip.Addr{}
	}
	switch family := binary.NativeEndian.Uint16(b); {
	case family == unix.AF_INET && len(b) >= 8:
		return netip.AddrFrom4([4]byte(b[4:8]))
	case family == unix.AF_INET6 && len(b) >= 24:
		return netip.AddrFrom16([16]byte(b[8:24])).Unmap()
	}
	return netip.Addr{}
}

// icmpName names an ICMP message as iptables' --reject-with does.
func icmpName(typ, code byte) string {
	if typ == 3 {
		switch code {
		case 0:
			return "net-unreachable"
		case 1:
			return "host-unreachable"
		case 2:
			return "proto-unreachable"
		case 3:
			return "port-unreachable"
		case 9:
			return "net-prohibited"
		case 10:
			return "host-prohibited"
		case 13:
			return "admin-prohibited"
		}
	}
	return fmt.Sprintf("type %d code %d", typ, code)
}

func icmp6Name(typ, code byte) string {
	if typ == 1 {
		switch code {
		case 0:
			return "no-route"
		case 1:
			return "adm-prohibited"
		case 3:
			return "addr-unreachable"
		case 4:
			return "port-unreachable"
		case 5:
			return "policy-fail"
		case 6:
			return "reject-route"
		}
	}
	return fmt.Sprintf("type %d code %d", typ, code)
}
