package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"
)

// dialTimeout is how long the other side of a connection may take to be made.
const dialTimeout = 5 * time.Second

// longest is how long a connection may last.
const longest = 10 * time.Minute

// forwarder makes each connection anew to where it was meant to go.
type forwarder struct {
	network string
	source  netip.Addr // of the new connection; the zero value lets the kernel choose
	// original tells where the client's connection was meant to go.
	original func(*net.TCPConn) (netip.AddrPort, error)
}

// serve accepts connections until the listener fails.
func (f forwarder) serve(ctx context.Context, l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		client, ok := conn.(*net.TCPConn)
		if !ok {
			return fmt.Errorf("accept: %T is not TCP", conn)
		}
		go func() {
			if err := f.forward(ctx, client); err != nil {
				fmt.Fprintln(os.Stderr, "connection from", client.RemoteAddr(), "failed:", err)
			}
		}()
	}
}

// forward connects a client to its original destination and copies in both directions until both have ended. If the
// destination cannot be reached the client's connection, which exists already, is reset.
func (f forwarder) forward(ctx context.Context, client *net.TCPConn) error {
	defer client.Close()
	to, err := f.original(client)
	if err == nil && to.String() == client.LocalAddr().String() {
		err = fmt.Errorf("it was meant for the sidecar itself, %v", to)
	}
	var server net.Conn
	if err == nil {
		d := net.Dialer{Timeout: dialTimeout}
		if f.source.IsValid() {
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(f.source, 0))
		}
		server, err = d.DialContext(ctx, f.network, to.String())
	}
	if err != nil {
		_ = client.SetLinger(0) // close with a reset
		return err
	}
	defer server.Close()
	end := time.Now().Add(longest)
	if err := client.SetDeadline(end); err != nil {
		return err
	}
	if err := server.SetDeadline(end); err != nil {
		return err
	}
	ends := [2]*net.TCPConn{client, server.(*net.TCPConn)}
	sent := make(chan error, 1)
	go func() { sent <- pass(ends, ends[1], ends[0]) }()
	received := pass(ends, ends[0], ends[1])
	return errors.Join(<-sent, received)
}

// pass copies one direction and passes on its end; if that ends badly, both ends are reset.
func pass(ends [2]*net.TCPConn, to, from *net.TCPConn) error {
	_, err := io.Copy(to, from)
	if err == nil {
		err = to.CloseWrite()
	}
	if err != nil {
		for _, c := range ends {
			_ = c.SetLinger(0)
			_ = c.Close()
		}
	}
	return err
}
