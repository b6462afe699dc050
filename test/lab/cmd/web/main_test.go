package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// serve runs the server on a free port of each address given with port 0, and returns that port.
func serve(t *testing.T, hosts ...string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	t.Setenv("POD", "web-1")
	t.Setenv("NODE", "node1")
	var addresses []string
	for _, h := range hosts {
		addresses = append(addresses, net.JoinHostPort(h, port))
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, addresses) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for range 200 {
		if c, err := net.Dial("tcp", addresses[len(addresses)-1]); err == nil {
			c.Close()
			return port
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the server does not start")
	return ""
}

func TestTellsWhoAnsweredWhomAndWhere(t *testing.T) {
	port := serve(t, "")
	for _, host := range []string{"127.0.0.1", "127.0.0.2", "::1"} {
		address := net.JoinHostPort(host, port)
		response, err := http.Get("http://" + address + "/any/path")
		if err != nil {
			t.Fatal(err)
		}
		var got answer
		if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if got.Pod != "web-1" || got.Node != "node1" || got.Server != address {
			t.Errorf("TCP to %s: %+v", address, got)
		}

		c, err := net.Dial("udp", address) // connected: an answer from another address would not be heard
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 2048)
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("UDP to %s: %v", address, err)
		}
		want := answer{Pod: "web-1", Node: "node1", Client: c.LocalAddr().String(), Server: address}
		if err := json.Unmarshal(buf[:n], &got); err != nil || got != want {
			t.Errorf("UDP to %s: %+v, %v; want %+v", address, got, err, want)
		}
	}
}

func TestAnswersAreAsLargeAsQuestions(t *testing.T) {
	address := net.JoinHostPort("127.0.0.1", serve(t, ""))
	response, err := http.Post("http://"+address, "text/plain", strings.NewReader(strings.Repeat(" ", 20000)))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || len(body) != 20000 || !json.Valid(body) {
		t.Errorf("TCP: %d bytes, JSON %v, %v", len(body), json.Valid(body), err)
	}
	c, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(make([]byte, 20000)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	n, err := c.Read(buf)
	if err != nil || n != 20000 || !json.Valid(buf[:n]) {
		t.Errorf("UDP: %d bytes, JSON %v, %v", n, json.Valid(buf[:n]), err)
	}
}

func TestListensOnlyWhereToldTo(t *testing.T) {
	port := serve(t, "127.0.0.2", "127.0.0.1")
	for host, want := range map[string]bool{"127.0.0.1": true, "127.0.0.2": true, "127.0.0.3": false} {
		c, err := net.Dial("tcp", net.JoinHostPort(host, port))
		if (err == nil) != want {
			t.Errorf("%s: %v, want listening=%v", host, err, want)
		}
		if err == nil {
			c.Close()
		}
	}
}
