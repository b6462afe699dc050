//go:build linux

package live

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/textproto"
	"strconv"
	"strings"
	"time"
)

// answerTime bounds one question to a server of the node, answerSize what is read of its answer.
const (
	answerTime = time.Second
	answerSize = 8 << 20
)

// errHTTP is in the chain of errors about an answer that is not HTTP.
var errHTTP = errors.New("it does not answer as an HTTP server")

// Get asks an HTTP server at one of the node's own addresses. The connection is made by the calling thread, in its
// namespace.
//
// It speaks HTTP/1.0, where an answer ends with the connection: package net/http comes with TLS and all its tables, which
// every start of the agent would pay for.
func (n *Namespace) Get(ctx context.Context, server netip.AddrPort, path string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", server.String())
	if err != nil {
		return 0, nil, fmt.Errorf("asking %s: %w", server, err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return 0, nil, fmt.Errorf("asking %s: %w", server, err)
		}
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.0\r\nHost: %s\r\nConnection: close\r\n\r\n", path, server); err != nil {
		return 0, nil, fmt.Errorf("asking %s: %w", server, err)
	}
	if status, body, err = readAnswer(conn); err != nil {
		return 0, nil, fmt.Errorf("reading the answer of %s: %w", server, err)
	}
	n.count.Add(len(body))
	return status, body, nil
}

// readAnswer reads an answer to an HTTP/1.0 request up to its end (RFC 1945).
func readAnswer(from io.Reader) (status int, body []byte, err error) {
	limited := &io.LimitedReader{R: from, N: answerSize}
	r := textproto.NewReader(bufio.NewReader(limited))
	line, err := r.ReadLine()
	if err != nil {
		return 0, nil, err
	}
	version, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err = strconv.Atoi(code)
	if !strings.HasPrefix(version, "HTTP/1.") || err != nil || len(code) != 3 {
		return 0, nil, errHTTP
	}
	header, err := r.ReadMIMEHeader()
	if err != nil {
		return 0, nil, err
	}
	if how := header.Get("Transfer-Encoding"); how != "" {
		return 0, nil, fmt.Errorf("%w of version 1.0: transfer encoding %q", errHTTP, how)
	}
	if body, err = io.ReadAll(r.R); err != nil {
		return 0, nil, err
	}
	if limited.N <= 0 {
		return 0, nil, fmt.Errorf("it is longer than %d bytes", answerSize)
	}
	if length := header.Get("Content-Length"); length != "" && length != strconv.Itoa(len(body)) {
		return 0, nil, fmt.Errorf("%d bytes of %s: %w", len(body), length, io.ErrUnexpectedEOF)
	}
	return status, body, nil
}

// Now is the time in seconds since 1970.
func (n *Namespace) Now() float64 { return float64(time.Now().UnixMilli()) / 1000 }
