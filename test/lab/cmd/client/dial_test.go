package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab/attempt"
)

func addrOf(t *testing.T, a net.Addr) netip.AddrPort {
	t.Helper()
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		t.Fatal(err)
	}
	return ap
}

// listener accepts connections and treats each with f.
func listener(t *testing.T, f func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f(c.(*net.TCPConn))
		}
	}()
	return addrOf(t, l.Addr())
}

func TestFates(t *testing.T) {
	answers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"pod":"web-1","node":"node1","client":%q,"server":"10.244.1.2:8080"}`, r.RemoteAddr)
	}))
	defer answers.Close()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := addrOf(t, closed.Addr())
	closed.Close()
	silentUDP, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silentUDP.Close()
	silent := listener(t, func(c *net.TCPConn) { t.Cleanup(func() { c.Close() }) }) // held until then
	cutting := listener(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 1)) // the client is past connecting
		_ = c.SetLinger(0)
		c.Close()
	})

	for name, tc := range map[string]struct {
		proto       string
		to          netip.AddrPort
		want        attempt.Result
		established bool
		errno       string
	}{
		"answered":       {"tcp", addrOf(t, answers.Listener.Addr()), attempt.Answered, true, ""},
		"another server": {"tcp", addrOf(t, other.Listener.Addr()), attempt.Error, true, ""},
		"refused":        {"tcp", refusing, attempt.Refused, false, "ECONNREFUSED"},
		"refused, UDP":   {"udp", refusing, attempt.Refused, false, "ECONNREFUSED"},
		"silent":         {"tcp", silent, attempt.Timeout, true, ""},
		"silent, UDP":    {"udp", addrOf(t, silentUDP.LocalAddr()), attempt.Timeout, false, ""},
		"cut off":        {"tcp", cutting, attempt.Reset, true, "ECONNRESET"},
	} {
		t.Run(name, func(t *testing.T) {
			got := dialer{proto: tc.proto, timeout: 300 * time.Millisecond, remote: tc.to}.attempt(context.Background())
			if got.Result != tc.want || got.Established != tc.established || got.Errno != tc.errno {
				t.Errorf("%+v, want %s, established %v, errno %q", got, tc.want, tc.established, tc.errno)
			}
			if tc.want == attempt.Answered && (got.Pod != "web-1" || got.Client != got.Local || got.Server.Port() != 8080) {
				t.Errorf("answer %+v", got)
			}
		})
	}
}

func TestLocalPortCanBeUsedAgainAtOnce(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"client":%q,"server":"10.244.1.2:8080"}`, r.RemoteAddr)
	}))
	defer server.Close()
	d := dialer{proto: "tcp", timeout: time.Second, remote: addrOf(t, server.Listener.Addr())}
	first := d.attempt(context.Background())
	d.local = first.Local
	if second := d.attempt(context.Background()); second.Result != attempt.Answered || second.Client != first.Local {
		t.Errorf("first %+v, second %+v", first, second)
	}
}

func TestAsksWithAsMuchAsItIsToldTo(t *testing.T) {
	asked := make(chan int64, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		asked <- n
		fmt.Fprintf(w, `{"client":%q,"server":"10.244.1.2:8080"}`, r.RemoteAddr)
	}))
	defer server.Close()
	d := dialer{proto: "tcp", timeout: time.Second, size: 5000, remote: addrOf(t, server.Listener.Addr())}
	if got := d.attempt(context.Background()); got.Result != attempt.Answered || <-asked != 5000 {
		t.Errorf("%+v", got)
	}
}

func TestConnectRefusesNonsense(t *testing.T) {
	for _, args := range [][]string{
		{}, {"10.0.0.1"}, {"name:80"}, {"--proto", "sctp", "127.0.0.1:1"}, {"--count", "0", "127.0.0.1:1"},
		{"--parallel", "1000", "127.0.0.1:1"}, {"--timeout", "0s", "127.0.0.1:1"}, {"--local", "x", "127.0.0.1:1"},
		{"127.0.0.1:1", "127.0.0.1:2"}, {"--size", "-1", "127.0.0.1:1"}, {"--size", "60001", "127.0.0.1:1"},
	} {
		if err := connect(context.Background(), args); err == nil {
			t.Errorf("%q: accepted", args)
		}
	}
}
