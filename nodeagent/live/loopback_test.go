//go:build linux

package live

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
)

// The server is that of net/http, as kube-proxy's is.
func TestGetIsAnsweredByAnHTTPServer(t *testing.T) {
	big := strings.Repeat("line\n", 1<<18)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/proxyMode":
			io.WriteString(w, "nftables")
		case "/metrics": // of no length that is known before
			for part := range strings.SplitAfterSeq(big, "\n") {
				io.WriteString(w, part)
			}
		case "/healthz":
			http.Error(w, "not yet", http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	at := netip.MustParseAddrPort(server.Listener.Addr().String())
	n := &Namespace{count: &nlsock.Counter{}}
	for _, c := range []struct {
		path   string
		status int
		body   string
	}{
		{"/proxyMode", 200, "nftables"},
		{"/metrics", 200, big},
		{"/healthz", 503, "not yet\n"},
		{"/configz", 200, ""},
	} {
		status, body, err := n.Get(t.Context(), at, c.path)
		if err != nil || status != c.status || string(body) != c.body {
			t.Errorf("%s: %d with %d bytes, %v", c.path, status, len(body), err)
		}
	}
	if n.count.Messages != 4 {
		t.Errorf("%d reads were counted", n.count.Messages)
	}
}

func TestGetOfWhatIsNoHTTPServer(t *testing.T) {
	for answer, is := range map[string]error{
		"":                            io.EOF,
		"SSH-2.0-OpenSSH_9\r\n\r\n":   errHTTP,
		"HTTP/1.1 many\r\n\r\n":       errHTTP,
		"HTTP/1.0 2000 OK\r\n\r\nx":   errHTTP,
		"HTTP/1.1 200 OK\r\n":         io.EOF,
		"HTTP/1.1 200\r\n\r\nnothing": nil,
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour":                            io.ErrUnexpectedEOF,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n0\r\n\r\n": errHTTP,
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				io.WriteString(conn, answer)
			}
		}()
		_, _, err = new(Namespace).Get(t.Context(), netip.MustParseAddrPort(l.Addr().String()), "/healthz")
		if !errors.Is(err, is) {
			t.Errorf("%q: %v, want %v", answer, err, is)
		}
		l.Close()
	}
	if _, _, err := new(Namespace).Get(t.Context(), netip.MustParseAddrPort("127.0.0.1:1"), "/"); err == nil {
		t.Error("nobody answered")
	}
}

// An answer that is cut would be read as one that says less.
func TestAnswerThatIsTooLongIsAnError(t *testing.T) {
	const head = "HTTP/1.0 200 OK\r\n\r\n"
	for size, fits := range map[int]bool{answerSize - len(head) - 1: true, answerSize - len(head): false, answerSize: false} {
		status, body, err := readAnswer(io.MultiReader(strings.NewReader(head), strings.NewReader(strings.Repeat("x", size))))
		if (err == nil) != fits || fits && (status != 200 || len(body) != size) {
			t.Errorf("%d bytes: %d with %d bytes, %v", size, status, len(body), err)
		}
	}
}
