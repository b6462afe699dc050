package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"
)

// stuck listens as run does, and never accepts a connection nor reads a datagram: a program that hangs. Its backlog is
// as given, and it takes as few datagrams as the kernel lets it.
func stuck(ctx context.Context, addresses []string, backlog int) error {
	for _, addr := range addresses {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		defer l.Close()
		if err := onSocket(l.(*net.TCPListener), func(fd int) error { return syscall.Listen(fd, backlog) }); err != nil {
			return fmt.Errorf("set the backlog of %s: %w", addr, err)
		}
		u, err := net.ListenPacket("udp", addr)
		if err != nil {
			return err
		}
		defer u.Close()
		if err := u.(*net.UDPConn).SetReadBuffer(1); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "listening on", addr, "and doing nothing")
	}
	<-ctx.Done()
	return nil
}

// onSocket calls f with a socket's file descriptor.
func onSocket(c syscall.Conn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}
