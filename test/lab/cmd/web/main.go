// Command web is the lab's server: it tells every client which pod and node answered, the address the client came
// from, and the address it was accepted on, over HTTP and, on the same ports, over UDP (one datagram in, one out). An
// answer is at least as large as the question (the body of an HTTP request), to 60000 bytes.
//
//	web [--listen ADDR:PORT[,ADDR:PORT...]] [--stuck BACKLOG]
//
// With --stuck it listens with this backlog and never accepts a connection nor reads a datagram.
//
// The pod's and node's names come from the environment (POD, NODE). An address may be empty (":8080") for all of both
// families.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// answer is what every client gets.
type answer struct {
	Pod    string `json:"pod"`
	Node   string `json:"node"`
	Client string `json:"client"` // where the client's packets came from, ADDR:PORT
	Server string `json:"server"` // where they were accepted, ADDR:PORT
}

func main() {
	listen := flag.String("listen", ":8080", "addresses to listen on, TCP and UDP, separated by commas")
	backlog := flag.Int("stuck", -1, "listen with this backlog and never accept nor read")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	serve := func() error { return run(ctx, strings.Split(*listen, ",")) }
	if *backlog >= 0 {
		serve = func() error { return stuck(ctx, strings.Split(*listen, ","), *backlog) }
	}
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "web:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, addresses []string) error {
	a := answer{Pod: os.Getenv("POD"), Node: os.Getenv("NODE")}
	if a.Pod == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("find own name: %w", err)
		}
		a.Pod = name
	}
	server := &http.Server{Handler: a, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 3*len(addresses))
	for _, addr := range addresses {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		go func() { failed <- server.Serve(l) }()
		conns, err := listenUDP(addr)
		if err != nil {
			return err
		}
		for _, c := range conns {
			go func() { failed <- a.serveUDP(c) }()
		}
		fmt.Fprintln(os.Stderr, "listening on", addr)
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	}
}

// ServeHTTP answers one request on any path and closes the connection: a connection is one question.
func (a answer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.Client = plain(r.RemoteAddr)
	if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		a.Server = plain(addr.String())
	}
	asked, err := io.Copy(io.Discard, io.LimitReader(r.Body, maxSize))
	if err != nil {
		return // the client is gone
	}
	out, err := json.Marshal(a)
	if err != nil {
		fmt.Fprintln(os.Stderr, "encode answer:", err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Connection", "close")
	if _, err := w.Write(padded(append(out, '\n'), int(asked))); err != nil {
		fmt.Fprintln(os.Stderr, "answer", a.Client, "failed:", err)
	}
}

// maxSize bounds a question, and so an answer.
const maxSize = 60000

// padded makes an answer as large as its question was with spaces, which JSON allows.
func padded(answer []byte, size int) []byte {
	return append(answer, bytes.Repeat([]byte(" "), max(0, size-len(answer)))...)
}

// plain writes an IPv4 address that came through an IPv6 socket as IPv4.
func plain(address string) string {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return address
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String()
}
