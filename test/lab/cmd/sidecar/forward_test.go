package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sidecar serves a forwarder whose connections were all meant for one address, and returns its own address.
func sidecar(t *testing.T, to string) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if to == "itself" {
		to = l.Addr().String()
	}
	f := forwarder{network: "tcp4", source: passthrough["tcp4"], original: func(*net.TCPConn) (netip.AddrPort, error) {
		return netip.ParseAddrPort(to)
	}}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.serve(ctx, l) }()
	t.Cleanup(func() { stop(); l.Close(); <-ended })
	return l.Addr().String()
}

func dial(t *testing.T, to string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp4", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

func TestForwardsBothWaysAndTheirEnds(t *testing.T) {
	server, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	from := make(chan string, 1)
	go func() {
		conn, err := server.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		from <- conn.RemoteAddr().(*net.TCPAddr).IP.String()
		said, _ := io.ReadAll(conn) // until the client's end has come through
		_, _ = io.WriteString(conn, strings.ToUpper(string(said)))
	}()
	client := dial(t, sidecar(t, server.Addr().String()))
	if _, err := io.WriteString(client, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(client)
	if err != nil || string(got) != "HELLO" {
		t.Errorf("answer %q, %v", got, err)
	}
	if got := <-from; got != "127.0.0.6" {
		t.Errorf("the server saw %s", got)
	}
}

func TestResetsWhatItCannotConnect(t *testing.T) {
	for name, to := range map[string]string{"nobody listens": "127.0.0.1:1", "meant for the sidecar": "itself"} {
		conn, err := net.Dial("tcp4", sidecar(t, to))
		if err == nil { // the reset may be faster
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			_, err = conn.Read(make([]byte, 1))
			conn.Close()
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v, want a reset", name, err)
		}
	}
}
