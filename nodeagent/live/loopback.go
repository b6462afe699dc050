//go:build linux

package live

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// answerTime bounds one question to a server of the node, answerSize what is read of its answer.
const (
	answerTime = time.Second
	answerSize = 8 << 20
)

// Get asks an HTTP server at one of the node's own addresses. The connection is made by the calling thread, in its
// namespace: net/http's own transport would dial from another one.
func (n *Namespace) Get(ctx context.Context, server netip.AddrPort, path string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+server.String()+path, nil)
	if err != nil {
		return 0, nil, err
	}
	request.Close = true
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
	if err := request.Write(conn); err != nil {
		return 0, nil, fmt.Errorf("asking %s: %w", server, err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil {
		return 0, nil, fmt.Errorf("asking %s: %w", server, err)
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(io.LimitReader(answer.Body, answerSize))
	if err != nil {
		return 0, nil, fmt.Errorf("reading the answer of %s: %w", server, err)
	}
	n.count.Add(len(body))
	return answer.StatusCode, body, nil
}

// Now is the time in seconds since 1970.
func (n *Namespace) Now() float64 { return float64(time.Now().UnixMilli()) / 1000 }
