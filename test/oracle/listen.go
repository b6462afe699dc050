//go:build linux

package oracle

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
)

// listen opens sockets of the node as lines say: "tcp 8080", "udp 15001 transparent". They take both families.
func (s *stack) listen(input string) error {
	for line := range strings.Lines(input) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		port, err := strconv.ParseUint(f[1], 10, 16)
		if err != nil {
			return fmt.Errorf("listen %q: %w", line, err)
		}
		if err := s.open(f[0], uint16(port), len(f) > 2 && f[2] == "transparent"); err != nil {
			return fmt.Errorf("listen %q: %w", line, err)
		}
	}
	return nil
}

func (s *stack) open(proto string, port uint16, transparent bool) error {
	typ := unix.SOCK_STREAM
	if proto == "udp" {
		typ = unix.SOCK_DGRAM
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		s.sockets = append(s.sockets, fd)
		var to unix.Sockaddr = &unix.SockaddrInet4{Port: int(port)}
		if family == unix.AF_INET6 {
			to = &unix.SockaddrInet6{Port: int(port)}
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
				return err
			}
			if err := unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, map[bool]int{true: 1}[transparent]); err != nil {
				return err
			}
		} else if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, map[bool]int{true: 1}[transparent]); err != nil {
			return err
		}
		if err := unix.Bind(fd, to); err != nil {
			return err
		}
		if proto == "tcp" {
			if err := unix.Listen(fd, 16); err != nil {
				return err
			}
		}
	}
	return nil
}

// account makes nfacct objects by name, one a line (NFNL_MSG_ACCT_NEW).
func account(input string) error {
	c, err := nlsock.Open(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	for name := range strings.FieldsSeq(input) {
		body := nlattr.Append([]byte{unix.AF_UNSPEC, 0, 0, 0}, 1, nlattr.String(name)) // NFACCT_NAME
		err := c.Do(context.Background(), unix.NFNL_SUBSYS_ACCT<<8, unix.NLM_F_CREATE|unix.NLM_F_ACK, body, func(nlsock.Message) error { return nil })
		if err != nil {
			return fmt.Errorf("making nfacct object %s: %w", name, err)
		}
	}
	return nil
}
