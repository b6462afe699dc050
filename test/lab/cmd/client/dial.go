package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab/attempt"
)

type dialer struct {
	proto   string
	timeout time.Duration
	size    int // of the question and the answer; 0: no larger than they need to be
	remote  netip.AddrPort
	local   netip.AddrPort // zero: the kernel chooses
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 10

// attempt makes one connection and tells its fate.
func (d dialer) attempt(ctx context.Context) attempt.Attempt {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	a := attempt.Attempt{Result: attempt.Answered}
	if err := d.try(ctx, &a); err != nil {
		fail(&a, err)
	}
	a.Millis = time.Since(start).Milliseconds()
	return a
}

// try makes one connection, asks, and reads the answer into a.
func (d dialer) try(ctx context.Context, a *attempt.Attempt) error {
	var nd net.Dialer
	if d.local.IsValid() {
		if d.proto == "tcp" {
			nd.LocalAddr = net.TCPAddrFromAddrPort(d.local)
			nd.Control = reuseAddress
		} else {
			nd.LocalAddr = net.UDPAddrFromAddrPort(d.local)
		}
	}
	conn, err := nd.DialContext(ctx, d.proto, d.remote.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if a.Local, err = netip.ParseAddrPort(conn.LocalAddr().String()); err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if d.proto == "udp" {
		// EPERM says that a rule on the way out stopped the datagram; whether it was refused or dropped, the read tells
		question := append([]byte("who are you?"), make([]byte, max(0, d.size-len("who are you?")))...)
		if _, err := conn.Write(question); err != nil && !errors.Is(err, unix.EPERM) {
			return err
		}
		buf := make([]byte, maxAnswer)
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		return parse(a, buf[:n])
	}
	a.Established = true
	method, length := "GET", ""
	if d.size > 0 {
		method, length = "POST", fmt.Sprintf("Content-Length: %d\r\n", d.size)
	}
	if _, err := fmt.Fprintf(conn, "%s / HTTP/1.1\r\nHost: %s\r\n%sConnection: close\r\n\r\n%s",
		method, d.remote, length, bytes.Repeat([]byte(" "), d.size)); err != nil {
		return err
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return err
	}
	// The side that closes first keeps its port, in TIME_WAIT: let that be the server, which was asked to. One that does not
	// has answered all the same.
	_, _ = io.Copy(io.Discard, io.LimitReader(reader, maxAnswer))
	return parse(a, body)
}

// reuseAddress lets --local use a port whose last connection is still in TIME_WAIT. It is not for UDP: two sockets would
// share a port, and one would get the answers to both.
func reuseAddress(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	})
	return errors.Join(err, failed)
}

// parse takes the server's answer; one that is not the lab's web server's is an error.
func parse(a *attempt.Attempt, body []byte) error {
	var answer struct {
		Pod, Node      string
		Client, Server netip.AddrPort
	}
	if err := json.Unmarshal(body, &answer); err != nil || !answer.Client.IsValid() {
		return fmt.Errorf("not an answer of the lab's server: %.80q", bytes.TrimSpace(body))
	}
	a.Pod, a.Node, a.Client, a.Server = answer.Pod, answer.Node, answer.Client, answer.Server
	return nil
}

// fail sorts an error into a result.
func fail(a *attempt.Attempt, err error) {
	a.Detail = err.Error()
	var no syscall.Errno
	if errors.As(err, &no) {
		a.Errno = unix.ErrnoName(no)
	}
	var timeout net.Error
	switch {
	case no == unix.ECONNREFUSED:
		a.Result = attempt.Refused
	case no == unix.EHOSTUNREACH || no == unix.ENETUNREACH:
		a.Result = attempt.Unreachable
	case no == unix.ECONNRESET || no == unix.EPIPE:
		a.Result = attempt.Reset
	case no == unix.ETIMEDOUT, errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		a.Result = attempt.Timeout
	default:
		a.Result = attempt.Error
	}
}
